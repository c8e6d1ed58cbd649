"""Groups of devices: conditions on twins that people keep under a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import at
from vedette.hub.registry import RegistryError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.shelf import Group
from vedette.hub.registry.users import Role

HINT = "Condition, as in tags.site = 'north'"


def group_row(
    backend: Backend, request: Request, groups: Sequence[Group], where: str, address: Callable[[str], str]
) -> None:
    """The choice of a group, its condition, and what is done with groups."""
    with parts.block("row").style("margin-bottom: 10px"):
        names = {"": "All devices"} | {group.condition: group.name for group in groups}
        if where not in names:
            names[where] = "By condition"
        chosen = ui.select(names, value=where).props("outlined dense options-dense").style("width: 190px")
        chosen.props('aria-label="Group"')
        chosen.on_value_change(lambda event: parts.go(address(event.value or "")))
        field = ui.input(HINT, value=where).props("outlined dense clearable").style("width: 340px")
        field.on("keydown.enter", lambda: parts.go(address((field.value or "").strip())))
        if where and parts.may(request, Role.OPERATOR):
            known = next((group for group in groups if group.condition == where), None)
            if known:
                _drop(backend, request, known, address)
            else:
                _keep(backend, request, where)
            parts.link_button("Configure …", at("/configure", where=where), icon="tune")


def _keep(backend: Backend, request: Request, where: str) -> None:
    with ui.dialog() as dialog, ui.card():
        parts.text("Save as a group").style("font-weight: 600")
        parts.text(where, "code")
        field = ui.input("Name").props("outlined dense autofocus maxlength=64")
        field.classes("full-width")

        async def keep(*_: object) -> None:
            user = await backend.demand(request, Role.OPERATOR)
            try:
                with acting_as(f"user:{user.name}"):
                    await call(lambda: backend.shelf.keep_group(Group(field.value or "", where, user.name)))
            except RegistryError as error:
                raise ValueError(str(error)) from None
            ui.navigate.reload()

        with parts.block("row"):
            ui.button("Save", on_click=parts.guarded(keep)).props("unelevated dense").classes("small")
            ui.button("Cancel", on_click=dialog.close).props("flat dense")
    ui.button("Save group", on_click=dialog.open).props("outline dense").classes("small")


def _drop(backend: Backend, request: Request, group: Group, address: Callable[[str], str]) -> None:
    async def drop(*_: object) -> None:
        user = await backend.demand(request, Role.OPERATOR)
        with acting_as(f"user:{user.name}"):
            await call(lambda: backend.shelf.drop_group(group.name))
        parts.go(address(""))

    ui.button("Remove group", on_click=parts.guarded(drop)).props("flat dense")
