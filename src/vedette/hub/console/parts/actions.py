"""What happens on a page: actions that may be refused, and looking again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from nicegui import ui

from vedette.hub.console.backend import Forbidden
from vedette.hub.console.parts.elements import block, text
from vedette.hub.lake import QueryError
from vedette.hub.registry.users import Role, User

REFRESH_S = 5.0
"""How often a live page looks again: the answers are shared (questions.FRESH_S)."""


def guarded(action: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """An action of a page that tells the user what is refused, and why. It is given what it is called with.

    The framework leaves the event out, for it asks the signature; who needs it takes it with a lambda.
    """

    async def acting(*arguments: Any) -> None:
        try:
            await action(*arguments)
        except (Forbidden, QueryError, ValueError) as error:
            ui.notify(str(error), type="negative", multi_line=True)

    return acting


def live(show: Callable[[], Awaitable[None]], period: float = REFRESH_S) -> None:
    """Call again and again while the page is open; one that is slow is not overtaken by itself."""
    running = asyncio.Lock()

    async def again() -> None:
        if not running.locked():
            async with running:
                await show()

    ui.timer(period, again, immediate=False)


def may(request: Request, role: Role) -> bool:
    """Whether to offer an action; whether it is allowed is asked again when it is taken."""
    user: User = request.state.user
    return user.role >= role


def marked_button(
    table: ui.table, name: str, act: Callable[..., Awaitable[None]], warning: str = ""
) -> ui.button:
    """A button for the rows that are marked in a table; with a warning, it asks first."""
    button = ui.button(name).props("outline dense").classes("small")
    button.on_click(confirmed(name, warning, act) if warning else guarded(act))
    button.set_enabled(False)
    table.on_select(lambda _: button.set_enabled(bool(table.selected)))
    return button


def confirmed(name: str, warning: str, act: Callable[..., Awaitable[None]]) -> Callable[[], Any]:
    """What opens a question before something that cannot be undone."""
    with ui.dialog() as dialog, ui.card():
        text(f"{name}?").style("font-weight: 600")
        text(warning)
        with block("row"):
            ui.button(name, on_click=guarded(act)).props("unelevated dense").classes("small")
            ui.button("Cancel", on_click=dialog.close).props("flat dense autofocus")
    return dialog.open
