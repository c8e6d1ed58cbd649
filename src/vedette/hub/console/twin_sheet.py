"""A document of settings to be edited: a form made from the settings table, and the same as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.twin_form import FIELDS, Field, changed
from vedette.wire.twin import InvalidSettings, settings_from


class Sheet:
    """Form and JSON, kept in line. document: as edited. right: whether it may be applied.

    edited: called after every change. In the JSON a null says that a setting is to go.
    """

    def __init__(self, document: Mapping[str, Any], *, may: bool, edited: Callable[[], None]) -> None:
        self.document = dict(document)
        self.right = True
        self._may = may
        self._edited = edited
        self._quiet = False
        self._controls: dict[str, Any] = {}
        self._reasons: dict[str, Any] = {}
        self._names: dict[str, ui.element] = {}

    def form(self) -> None:
        """Place the form here."""
        groups: dict[str, list[Field]] = {}
        for field in FIELDS:
            groups.setdefault(field.group, []).append(field)
        for group, fields in groups.items():
            touched = sum(field.key in self.document for field in fields)
            name = f"{group}  ({touched} set)" if touched else group
            with ui.expansion(name, value=touched > 0).classes("full-width") as part:
                place = parts.block("")
                if touched:
                    self._settings(place, fields)
                else:  # most are never looked at, and a browser takes long for them all
                    part.on_value_change(lambda _, place=place, fields=fields: self._open(place, fields))

    def _settings(self, place: ui.element, fields: Sequence[Field]) -> None:
        with place:
            for field in fields:
                self._setting(field)

    def _open(self, place: ui.element, fields: Sequence[Field]) -> None:
        """Place the fields of a group when it is opened for the first time."""
        if fields[0].key not in self._controls:
            self._settings(place, fields)
            self._show(text=False)

    def json(self, height: int = 260) -> None:
        """Place the JSON here, and below it what is wrong. The form has been placed."""
        self._json = ui.codemirror(
            self._text(),
            language="JSON",
            theme="githubLight",
            on_change=lambda event: self._typed(event.value),
        )
        self._json.props('aria-label="Settings as JSON"')
        self._json.style(f"height: {height}px").set_enabled(self._may)
        self._problem = ui.label().classes("error-line")
        self._show()

    def put(self, document: Mapping[str, Any]) -> None:
        """Edit another document."""
        self.document = dict(document)
        self._show()

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

    def _text(self) -> str:
        return msgspec.json.format(msgspec.json.encode(dict(sorted(self.document.items())))).decode()

    def _edit(self, field: Field, value: Any) -> None:
        if not self._quiet:
            self.document = changed(self.document, field, value)
            self._show()
            self._edited()

    def _typed(self, text: str) -> None:
        if self._quiet:
            return
        try:
            self.document = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError as error:
            self._problem.text, self.right = f"JSON: {error}", False
        else:
            self._show(text=False)
        self._edited()

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
            settings_from({key: value for key, value in self.document.items() if value is not None})
        except InvalidSettings as error:
            wrong = error.fields
        with self._silently():
            for field in (field for field in FIELDS if field.key in self._controls):
                touched = field.key in self.document
                self._controls[field.key].value = _shown(field, self.document.get(field.key, field.default))
                self._names[field.key].classes(add="set" if touched else "", remove="" if touched else "set")
                self._reasons[field.key].text = wrong.get(field.key, "")
            if text:
                self._json.value = self._text()
        self._problem.text = "\n".join(f"{key}: {why}" for key, why in wrong.items())
        self.right = not wrong


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
