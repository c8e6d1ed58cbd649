"""A list is imported: a file from the browser, what it holds, and for how long it counts."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
from fastapi import Request
from nicegui import ui
from nicegui.events import UploadEventArguments

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import count
from vedette.hub.detect.schema import Database
from vedette.hub.intel.formats import Reading, rated, read
from vedette.hub.intel.imports import import_advisories, import_lifecycles
from vedette.hub.intel.store import Intel, IntelList
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.users import Role

LOOK_S = 0.5
"""How often the number of entries moves."""

OVERHEAD = 16_384
"""Bytes of a request beside the file in it."""

DAY_S = 86_400.0

Contents = Literal["indicators", "advisories", "lifecycles"]

CONTENTS: dict[Contents, str] = {
    "indicators": "What is bad: list, CSV, STIX 2 or MISP",
    "advisories": "Advisories: OSV records, one or a zip file",
    "lifecycles": "Until when distributions are maintained",
}
_SPANS = {0: "Until it is replaced", 7: "7 days", 30: "30 days", 90: "90 days", 365: "1 year"}


class Wanted(msgspec.Struct, frozen=True):
    """What shall become of a file. days: until its indicators are forgotten, 0 for never.

    column: of CSV, with the values; empty for other formats. confidence: of indicators that have none.
    """

    name: str
    contents: Contents = "indicators"
    column: str = ""
    confidence: int | None = None
    days: int = 0


def import_file(database: Database, wanted: Wanted, path: Path, source: str, told: Any) -> IntelList:
    """Make a file a list. Blocks. Raises FormatError, IntelError. told: told how far it is."""
    if wanted.contents == "advisories":
        return import_advisories(database, wanted.name, source, [path], told)
    if wanted.contents == "lifecycles":
        return import_lifecycles(database, wanted.name, source, [path])
    entries = read(path, None, Reading(None, wanted.column))
    expires = time.time() + wanted.days * DAY_S if wanted.days else None
    return Intel(database).put_indicators(
        wanted.name, source, rated(entries, wanted.confidence, expires), told
    )


def import_button(backend: Backend, request: Request) -> None:
    """A button that opens the form."""
    with ui.dialog() as dialog, ui.card().classes("wide"):
        _Form(backend, request)
        ui.button("Close", on_click=dialog.close).props("flat dense")
    ui.button("Import", icon="upload", on_click=dialog.open).props("unelevated dense").classes("small")


class _Form:
    """The fields, the file, and what came of it."""

    def __init__(self, backend: Backend, request: Request) -> None:
        self._backend = backend
        self._request = request
        self._taken = 0
        limit = backend.http_bytes - OVERHEAD
        parts.text("Import a list").style("font-weight: 600")
        parts.text("It takes the place of the list of the same name.", "dim")
        self._contents = _choice("The file holds", CONTENTS, "indicators")
        self._name = _text("Name of the list (empty: the file's)", "maxlength=64")
        with parts.block("pair") as details:
            self._column = _text("CSV: column with the values", "maxlength=64")
            self._confidence = ui.number("Confidence, 0 to 100", min=0, max=100, precision=0)
            self._confidence.props("outlined dense")
            self._days = _choice("Counts", _SPANS, 0)
        details.bind_visibility_from(self._contents, "value", lambda value: value == "indicators")
        upload = ui.upload(
            label=f"The file, up to {parts.size(limit)}",
            auto_upload=True,
            max_file_size=limit,
            on_upload=lambda event: parts.guarded(self._take)(event),
            on_rejected=lambda: ui.notify(
                f"Larger than {parts.size(limit)}: import it on the hub, with `vedette intel import`.",
                type="negative",
            ),
        )
        upload.props("flat bordered").classes("full-width")
        self._said = parts.text("", "num")

    def _wanted(self, file: str) -> Wanted:
        confidence = self._confidence.value
        return Wanted(
            name=(self._name.value or "").strip() or file.partition(".")[0],
            contents=self._contents.value,
            column=(self._column.value or "").strip(),
            confidence=None if confidence is None else int(confidence),
            days=self._days.value,
        )

    async def _take(self, event: UploadEventArguments) -> None:
        user = await self._backend.demand(self._request, Role.OPERATOR)
        self._taken, wanted, source = 0, self._wanted(event.file.name), Path(event.file.name).name
        timer = ui.timer(LOOK_S, lambda: self._say(f"{count(self._taken)} read …"))
        try:
            with tempfile.TemporaryDirectory() as directory, acting_as(f"user:{user.name}"):
                path = Path(directory) / (source or "file")
                await event.file.save(path)
                database = self._backend.database
                made = await call(lambda: import_file(database, wanted, path, source, self._reading))
        finally:
            timer.cancel()
            self._say("")
        left_out = sum(made.refused.values())
        self._say(f"{made.name}: {count(made.entries)} entries, {count(left_out)} left out.")
        ui.navigate.reload()

    def _reading(self, taken: int) -> None:
        self._taken = taken

    def _say(self, text: str) -> None:
        self._said.text = text


def _text(label: str, props: str) -> ui.input:
    return ui.input(label).props(f"outlined dense {props}").classes("full-width")


def _choice(label: str, choices: Any, value: Any) -> ui.select:
    return (
        ui.select(choices, value=value, label=label)
        .props("outlined dense options-dense")
        .classes("full-width")
    )
