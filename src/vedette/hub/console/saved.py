"""Saved questions: one's own, and those that others share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.registry import RegistryError
from vedette.hub.registry.shelf import Language, SavedQuery
from vedette.hub.registry.users import Role


def saved_row(
    backend: Backend,
    request: Request,
    saved: Sequence[SavedQuery],
    language: Language,
    query: Callable[[], str],
    take: Callable[[str], None],
) -> None:
    """The choice of a saved question, and what is done with them. query: what stands in the editor."""
    me = str(request.state.user.name)
    offered = [one for one in saved if one.language == language]
    if offered:
        names = {i: _name(one, me) for i, one in enumerate(offered)}
        chosen = ui.select(names, label="Saved queries").props("outlined dense options-dense")
        chosen.style("width: 260px")
        remove = ui.button(icon="delete").props(
            'flat dense round size=sm aria-label="Remove the saved query"'
        )
        remove.set_visibility(False)

        def choose(event: object) -> None:
            one = offered[chosen.value]
            remove.set_visibility(one.owner == me)
            take(one.text)

        async def drop(*_: object) -> None:
            user = await backend.demand(request, Role.ANALYST)
            await call(lambda: backend.shelf.drop_query(user.name, offered[chosen.value].name))
            ui.navigate.reload()

        chosen.on_value_change(choose)
        remove.on_click(parts.guarded(drop))
    _keep(backend, request, language, query)


def _name(one: SavedQuery, me: str) -> str:
    if one.owner != me:
        return f"{one.name} ({one.owner})"
    return f"{one.name} (shared)" if one.shared else one.name


def _keep(backend: Backend, request: Request, language: Language, query: Callable[[], str]) -> None:
    with ui.dialog() as dialog, ui.card():
        parts.text("Save the query").style("font-weight: 600")
        name = ui.input("Name").props("outlined dense autofocus maxlength=64").classes("full-width")
        shared = ui.checkbox("Everybody is offered it").props("dense")

        async def keep(*_: object) -> None:
            user = await backend.demand(request, Role.ANALYST)
            wanted = SavedQuery(user.name, name.value or "", language, query(), bool(shared.value))
            try:
                await call(lambda: backend.shelf.keep_query(wanted))
            except RegistryError as error:
                raise ValueError(str(error)) from None
            ui.navigate.reload()

        with parts.block("row"):
            ui.button("Save", on_click=parts.guarded(keep)).props("unelevated dense").classes("small")
            ui.button("Cancel", on_click=dialog.close).props("flat dense")
    ui.button("Save query", icon="bookmark_add", on_click=dialog.open).props("flat dense")
