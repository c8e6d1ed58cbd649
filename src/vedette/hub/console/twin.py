"""The twin editor: a form made from the settings table beside the JSON, and what the device says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import Column, Tone
from vedette.hub.console.twin_form import FIELDS, Field, changed, differences
from vedette.hub.registry import RegistryError, Twin, TwinError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.twins import difference
from vedette.hub.registry.users import Role
from vedette.wire.iothub import Identity
from vedette.wire.twin import LATEST_STATE, InvalidSettings, settings_from

STATE_TONE: dict[str, Tone] = {"in force": "good", "refused": "bad", "pending": "warn"}

POLL_S = 2.0
"""How often to look whether the device has spoken: it answers within seconds."""


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/twin/{device_id}", response_timeout=30)
    async def twin(request: Request, device_id: str, module: str = "") -> None:
        try:
            identity = await call(lambda: _whose(backend, device_id, module))
            found = await call(lambda: backend.registry.twin(identity))
        except RegistryError as error:
            with parts.frame(request, device_id, "/devices"):
                parts.text(str(error), "empty")
            return
        with parts.frame(request, f"Configuration of {device_id}", "/devices") as beside:
            with beside:
                parts.text(
                    f"module {identity.module_id}" if identity.module_id else "the device itself", "dim"
                )
                parts.link("Device", parts.device_at(device_id))
            editor = _Editor(backend, request, found)
        ui.timer(POLL_S, editor.look)


def _whose(backend: Backend, device_id: str, module: str) -> Identity:
    """Whose twin steers the agent: the module that reports a verdict, else the first, else the device's."""
    modules = [entry.twin for entry in backend.registry.fleet.modules(device_id)]
    named = [twin for twin in modules if twin.identity.module_id == module]
    speaking = [twin for twin in modules if LATEST_STATE in twin.reported]
    chosen = next(iter([*named, *speaking, *modules]), None)
    return chosen.identity if chosen else Identity(device_id)


class _Editor:
    """document: the desired properties as edited. stored: as the registry has them."""

    def __init__(self, backend: Backend, request: Request, twin: Twin) -> None:
        self._backend = backend
        self._request = request
        self._twin = twin
        self.document = dict(twin.desired)
        self._may = parts.may(request, Role.OPERATOR)
        self._quiet = False
        self._controls: dict[str, Any] = {}
        self._reasons: dict[str, Any] = {}
        self._names: dict[str, ui.element] = {}
        with parts.block("cols even"):
            with parts.panel(
                "Settings", "What is changed here is bold. Emptied or undone, a setting has its default."
            ):
                self._form()
            with parts.block("stack"):
                self._side()
        self._show()

    def _form(self) -> None:
        groups: dict[str, list[Field]] = {}
        for field in FIELDS:
            groups.setdefault(field.group, []).append(field)
        for group, fields in groups.items():
            touched = sum(field.key in self.document for field in fields)
            with ui.expansion(f"{group}" + (f"  ({touched} set)" if touched else "")).classes(
                "full-width"
            ) as part:
                part.value = touched > 0
                for field in fields:
                    self._setting(field)

    def _setting(self, field: Field) -> None:
        with parts.block("setting"):
            self._names[field.key] = parts.text(field.key.partition("_")[2] or field.key, "name")
            bounds = f" From {field.low:,} to {field.high:,}." if field.low is not None and field.high else ""
            unit = f" In {field.unit}." if field.unit else ""
            parts.text(field.help + unit + bounds, "help")
            with parts.block("control"):
                control = _control(field, self.document.get(field.key, field.default))
                control.props(f'aria-label="{field.key}"')
                control.on_value_change(lambda event: self._edit(field, event.value))
                control.set_enabled(self._may)
            self._controls[field.key] = control
            undo = ui.button(icon="undo", on_click=lambda: self._edit(field, None)).props(
                "flat dense round size=sm"
            )
            undo.classes("undo").props(f'aria-label="Default of {field.key}"').set_enabled(self._may)
            self._reasons[field.key] = parts.text("", "why")

    def _side(self) -> None:
        with parts.panel("Desired properties", "The same as JSON; either side may be edited."):
            self._json = ui.codemirror(
                self._text(), language="JSON", on_change=lambda event: self._typed(event.value)
            )
            self._json.style("height: 260px").set_enabled(self._may)
            self._problem = ui.label().classes("error-line")
            with parts.block("row").style("margin-top: 8px"):
                self._apply = ui.button("Apply", icon="check", on_click=self.apply).props("unelevated dense")
                self._apply.style("padding: 3px 14px 3px 8px")
                ui.button("Discard", on_click=self.discard).props("flat dense").set_enabled(self._may)
                self._summary = ui.label().classes("dim")
        with parts.panel("What the device says"):
            self._verdict = parts.block("")

    def _text(self) -> str:
        return msgspec.json.format(msgspec.json.encode(dict(sorted(self.document.items())))).decode()

    def _edit(self, field: Field, value: Any) -> None:
        if not self._quiet:
            self.document = changed(self.document, field, value)
            self._show()

    def _typed(self, text: str) -> None:
        if self._quiet:
            return
        try:
            self.document = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError as error:
            self._problem.text = f"JSON: {error}"
            self._apply.disable()
            return
        self._show(text=False)

    @contextmanager
    def _silently(self) -> Iterator[None]:
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def _show(self, *, text: bool = True) -> None:
        """Bring form, JSON and remarks in line with the document."""
        wrong: dict[str, str] = {}
        try:
            settings_from(self.document)
        except InvalidSettings as error:
            wrong = error.fields
        with self._silently():
            for field in FIELDS:
                self._controls[field.key].value = _shown(field, self.document.get(field.key, field.default))
                self._names[field.key].classes(
                    add="set" if field.key in self.document else "",
                    remove="" if field.key in self.document else "set",
                )
                self._reasons[field.key].text = wrong.get(field.key, "")
            if text:
                self._json.value = self._text()
        self._problem.text = "\n".join(f"{key}: {why}" for key, why in wrong.items())
        patch = difference(self._twin.desired, self.document)
        self._apply.set_enabled(self._may and not wrong and bool(patch))
        self._summary.text = (
            f"{len(patch)} changed: {', '.join(patch)[:120]}" if patch else "Nothing changed."
        )
        self._show_verdict()

    def _show_verdict(self) -> None:
        found = differences(self._twin.desired, self._twin.reported)
        tones = {one.key: STATE_TONE[one.state] for one in found}
        rows = [
            {
                "key": one.key,
                "desired": _plain(one.desired),
                "reported": _plain(one.reported),
                "state": one.state,
                "state_tone": tones[one.key],
                "reason": one.reason,
            }
            for one in found
        ]
        columns = [
            Column("key", "Setting", "wrap"),
            Column("state", "State", "badge"),
            Column("desired", "Desired", "code"),
            Column("reported", "Reported", "code"),
        ]
        if any(one.reason for one in found):
            columns.append(Column("reason", "Why", "wrap"))
        self._verdict.clear()
        with self._verdict:
            verdict = self._twin.reported.get(LATEST_STATE)
            said = (
                "It has not reported yet." if verdict is None else f"Latest change: {parts.written(verdict)}."
            )
            parts.text(f"{said} Reported version {self._twin.reported_version}.", "dim")
            parts.table(columns, rows, empty="Nothing is desired: all settings have their defaults.")

    @parts.guarded
    async def apply(self, *_: Any) -> None:
        """Write what was changed; the gateway pushes it."""
        user = await self._backend.demand(self._request, Role.OPERATOR)
        patch = difference(self._twin.desired, self.document)
        try:
            with acting_as(f"user:{user.name}"):
                write = self._backend.registry.patch_desired
                self._twin = await call(lambda: write(self._twin.identity, patch))
        except (RegistryError, TwinError) as error:
            raise ValueError(str(error)) from None
        self.document = dict(self._twin.desired)
        self._show()
        ui.notify(f"Applied, version {self._twin.desired_version}. Waiting for the device.", type="positive")

    def discard(self) -> None:
        """Go back to what the registry has."""
        self.document = dict(self._twin.desired)
        self._show()

    async def look(self) -> None:
        """Show what the device, or somebody else, has written meanwhile; what is edited here stays."""
        twin = await call(lambda: self._backend.registry.twin(self._twin.identity))
        before = (self._twin.desired_version, self._twin.reported_version)
        if (twin.desired_version, twin.reported_version) == before:
            return
        patch = difference(self._twin.desired, self.document)
        untouched = not patch
        self._twin = twin
        if untouched:
            self.document = dict(twin.desired)
            self._show()
        else:
            self._show_verdict()


def _control(field: Field, value: Any) -> Any:
    value = _shown(field, value)
    if field.kind == "switch":
        return ui.switch(value=value).props("dense")
    if field.kind == "choice":
        choices = [*field.choices, *([value] if value not in field.choices else [])]
        return ui.select(choices, value=value).props("outlined dense options-dense").classes("full-width")
    if field.kind == "number":
        made = ui.number(value=value, min=field.low, max=field.high, precision=0)
        return made.props("outlined dense debounce=400").classes("full-width")
    made_text = ui.input(value=value, placeholder="not set").props("outlined dense debounce=400")
    return made_text.classes("full-width")


def _shown(field: Field, value: Any) -> Any:
    """A value as its control can hold it: a document may say anything."""
    if field.kind == "switch":
        return value is True
    if field.kind == "number":
        return value if isinstance(value, int | float) else None
    if field.kind == "choice":
        return value if value in field.choices else field.default
    return "" if value is None else str(value)


def _plain(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()[:200]
