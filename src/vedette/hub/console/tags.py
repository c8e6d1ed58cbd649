"""Tags of devices: shown in a line, and edited for one device or for those that are marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.registry import RegistryError, TwinError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.fleet import TwinChange
from vedette.hub.registry.users import Role
from vedette.wire.iothub import Identity


def told(tags: Mapping[str, Any], above: str = "") -> list[str]:
    """Tags in words: `site=north`, nested ones by their path."""
    lines: list[str] = []
    for key, value in sorted(tags.items()):
        if isinstance(value, dict):
            lines += told(value, f"{above}{key}.")
        else:
            shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            lines.append(f"{above}{key}={shown}")
    return lines


def nested(path: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as tags."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def edit_button(backend: Backend, request: Request, device_id: str, tags: Mapping[str, Any]) -> None:
    """Edit all tags of a device, as JSON."""
    with ui.dialog() as dialog, ui.card():
        parts.text(f"Tags of {device_id}").style("font-weight: 600")
        parts.text("Groups and conditions refer to them, as in tags.site = 'north'.", "dim")
        text = msgspec.json.format(msgspec.json.encode(dict(tags))).decode()
        editor = (
            ui.codemirror(text, language="JSON", theme="githubLight")
            .style("height: 220px")
            .classes("full-width")
        )
        editor.props('aria-label="Tags"')

        async def save(*_: object) -> None:
            user = await backend.demand(request, Role.OPERATOR)
            try:
                wanted = msgspec.json.decode(editor.value, type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise ValueError(f"JSON: {error}") from None
            await call(lambda: _write(backend, user.name, device_id, wanted, whole=True))
            ui.navigate.reload()

        with parts.block("row"):
            ui.button("Save", on_click=parts.guarded(save)).props("unelevated dense").classes("small")
            ui.button("Cancel", on_click=dialog.close).props("flat dense")
    ui.button("Edit tags", on_click=dialog.open).props("outline dense").classes("small")


def mark_button(backend: Backend, request: Request, table: ui.table) -> None:
    """Set one tag of the devices that are marked in a table; its rows name them as `device`."""
    with ui.dialog() as dialog, ui.card():
        heading = parts.text("").style("font-weight: 600")
        name = ui.input("Tag, as in site or place.hall").props("outlined dense").classes("full-width")
        value = ui.input("Value; empty removes the tag").props("outlined dense").classes("full-width")

        async def save(*_: object) -> None:
            user = await backend.demand(request, Role.OPERATOR)
            if not (name.value or "").strip():
                raise ValueError("A tag needs a name.")
            tags = nested(name.value.strip(), (value.value or "").strip() or None)
            for row in table.selected:
                device_id = str(row["device"])
                await call(lambda device_id=device_id: _write(backend, user.name, device_id, tags))  # type: ignore[misc]
            ui.navigate.reload()

        with parts.block("row"):
            ui.button("Save", on_click=parts.guarded(save)).props("unelevated dense").classes("small")
            ui.button("Cancel", on_click=dialog.close).props("flat dense")

    def ask() -> None:
        heading.text = f"Tag {len(table.selected)} devices"
        dialog.open()

    button = ui.button("Tag …", icon="sell", on_click=ask).props("outline dense").classes("small")
    button.set_enabled(False)
    table.on_select(lambda _: button.set_enabled(bool(table.selected)))


def _write(backend: Backend, who: str, device_id: str, tags: dict[str, Any], *, whole: bool = False) -> None:
    """Raises ValueError."""
    fleet = backend.registry.fleet
    try:
        with acting_as(f"user:{who}"):
            write = fleet.replace_twin if whole else fleet.patch_twin
            write(Identity(device_id), TwinChange(tags=tags))
    except (RegistryError, TwinError) as error:
        raise ValueError(f"tags: {error}") from None
