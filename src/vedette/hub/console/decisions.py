"""Decisions about alerts, one or many: who decided what, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.detect.alerts import Status
from vedette.hub.registry.users import Role

MAX_REASON = 500
"""Characters of the reason for a decision."""

DECISIONS = (
    ("Take up", Status.IN_PROGRESS, "outline"),
    ("Dismiss", Status.DISMISSED, "outline"),
    ("Resolve", Status.RESOLVED, "unelevated"),
)
"""Name, what the alert becomes, how the button looks."""


def decision(
    backend: Backend,
    request: Request,
    name: str,
    decided: Status,
    look: str,
    chosen: Callable[[], Sequence[str]],
    title: str = "",
) -> ui.button:
    """A button that asks why, and then decides. chosen: ids of the alerts at that moment."""
    with ui.dialog() as dialog, ui.card():
        heading = parts.text("").style("font-weight: 600")
        why = ui.textarea("Why").props(f"outlined dense autofocus maxlength={MAX_REASON}")
        why.classes("full-width")

        async def decide(*_: object) -> None:
            user = await backend.demand(request, Role.ANALYST)
            reason = (why.value or "").strip()[:MAX_REASON]
            ids = chosen()
            await call(lambda: backend.alerts.set_statuses(ids, decided, who=user.name, why=reason))
            ui.navigate.reload()

        with parts.block("row"):
            ui.button(name, on_click=parts.guarded(decide)).props("unelevated dense").classes("small")
            ui.button("Cancel", on_click=dialog.close).props("flat dense")

    def ask() -> None:
        number = len(chosen())
        heading.text = f"{name}: {title or ('1 alert' if number == 1 else f'{number} alerts')}"
        dialog.open()

    return ui.button(name, on_click=ask).props(f"{look} dense").classes("small")


def bulk(backend: Backend, request: Request, table: ui.table) -> None:
    """The decisions about the alerts that are marked in a table."""
    with parts.block("row").style("margin-top: 8px"):
        said = parts.text("Mark alerts to decide about several at once.", "dim num")
        buttons = [
            decision(backend, request, name, decided, look, lambda: [row["alert"] for row in table.selected])
            for name, decided, look in DECISIONS
        ]

    def marked() -> None:
        number = len(table.selected)
        said.text = f"{number} marked" if number else "Mark alerts to decide about several at once."
        for button in buttons:
            button.set_visibility(number > 0)

    table.on_select(lambda _: marked())
    marked()
