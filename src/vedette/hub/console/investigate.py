"""Questions to the lake in KQL or SQL, answered as a table and, where asked for, as a chart."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.investigate_chart import chart_options
from vedette.hub.console.investigate_table import csv_of, table_of
from vedette.hub.console.parts import at
from vedette.hub.console.samples import SAMPLES, WORDS
from vedette.hub.console.saved import saved_row
from vedette.hub.lake import Cancelled, Lake, Limits, QueryError, Result, Watch
from vedette.hub.lake.export import MEDIA_TYPES, Form, export, file_name
from vedette.hub.registry.shelf import Language
from vedette.hub.registry.users import Role

SHOWN_ROWS = 1_000
"""Rows that a browser is sent; a file has all, up to EXPORT_ROWS."""

EXPORT_ROWS = 100_000
"""Rows of a file, about 30 MB of events as CSV. Where there are more the user is told, and gets none."""

EXPORT_LIMITS = Limits(seconds=60.0, rows=EXPORT_ROWS)

MAX_LINK = 6_000
"""Characters of a query that go into the address: longer ones some proxies refuse."""

FORMS: Mapping[str, Form] = {"CSV": "csv", "Parquet": "parquet"}
"""What files are offered."""

LOOK_S = 0.3
"""How often the bar moves."""

SCHEMA = (
    "SELECT table_name AS TableName, column_name AS ColumnName FROM information_schema.columns"
    " ORDER BY table_name, ordinal_position"
)


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/investigate", response_timeout=30)
    async def investigate(request: Request, q: str = "", language: str = "kql") -> None:
        spoken: Language = "sql" if language == "sql" else "kql"
        with parts.frame(request, "Investigate", "/investigate") as beside:
            with beside:
                choices = {"KQL": at("/investigate"), "SQL": at("/investigate", language="sql")}
                parts.segments(choices, spoken.upper())
            if not parts.may(request, Role.ANALYST):
                parts.text("Queries need the role analyst.", "empty")
                return
            saved = await call(lambda: backend.shelf.queries(request.state.user.name))
            desk = _Desk(backend, request, spoken, q or SAMPLES[spoken][0][1])
            with desk.shelf:
                saved_row(backend, request, saved, spoken, lambda: desk.query, desk.take)
        await desk.offer_names()
        if q:
            ui.timer(0.05, desk.run, once=True)


class _Desk:
    """Editor, samples and results. shelf: the place for saved questions."""

    def __init__(self, backend: Backend, request: Request, language: Language, query: str) -> None:
        self._backend = backend
        self._request = request
        self._language = language
        self._watch = Watch()
        with parts.block("cols investigate") as desk, parts.block("stack"):
            with parts.block("chips"):
                for name, sample in SAMPLES[language]:
                    ui.button(name, on_click=lambda _, text=sample: self.take(text)).props(
                        "flat dense no-caps"
                    )
            self._editor = ui.codemirror(
                query, language="SQL", theme="githubLight", line_wrapping=True
            ).style("height: 190px")
            self._editor.props('aria-label="Query"')
            self._editor.on("keydown.ctrl.enter", self.run)
            with parts.block("row"):
                self._button = ui.button("Run", icon="play_arrow", on_click=self.run).props(
                    "unelevated dense"
                )
                self._button.classes("small")
                self._cancel = ui.button("Cancel", on_click=lambda: self._watch.cancel()).props(
                    "outline dense"
                )
                self._cancel.classes("small").set_visibility(False)
                for name, form in FORMS.items():
                    button = ui.button(name, icon="download").props("outline dense").classes("small")
                    button.on_click(parts.guarded(lambda *_, form=form: self._download(form)))
                ui.button("Copy link", icon="link", on_click=self._share).props("flat dense")
                self._state = parts.text("Ctrl+Enter runs the query. The address is a link to it.", "dim")
            self.shelf = parts.block("row")
            self._bar = ui.linear_progress(0, show_value=False, size="3px")
            self._bar.props('aria-label="Progress"').set_visibility(False)
            self._result = parts.block("stack")
        with desk:
            self._tables = parts.block("")
        ui.context.client.on_disconnect(lambda: self._watch.cancel())

    @property
    def query(self) -> str:
        """What stands in the editor."""
        return str(self._editor.value)

    def take(self, query: str) -> None:
        """Put a question into the editor, and answer it."""
        self._editor.value = query
        ui.timer(0.01, self.run, once=True)

    async def offer_names(self) -> None:
        """Show the tables and their columns, and offer them while one types."""
        tables: dict[str, list[str]] = {}
        for row in await self._backend.questions.ask(SCHEMA):
            tables.setdefault(str(row["TableName"]), []).append(str(row["ColumnName"]))
        self._offer(tables, WORDS[self._language])
        with self._tables, parts.panel("Tables", f"{len(tables)}, with their columns."):
            for table, columns in tables.items():
                with ui.expansion(table).props("dense").classes("full-width"):
                    parts.text(", ".join(columns), "mono dim")

    def _offer(self, tables: Mapping[str, Sequence[str]], words: Sequence[str]) -> None:
        given = msgspec.json.encode([self._editor.id, tables, words]).decode().replace("<", "\\u003c")
        ui.run_javascript(
            f"import({parts.script_text(parts.static('complete.js'))}).then(m => m.complete(...{given}))"
        )

    @parts.guarded
    async def run(self, *_: Any) -> None:
        """Answer what stands in the editor."""
        await self._backend.demand(self._request, Role.ANALYST)
        query, begun, limits = self.query, time.monotonic(), Limits(rows=SHOWN_ROWS)
        self._watch = watch = Watch()
        lake = self._backend.lake
        self._running(True)
        timer = ui.timer(LOOK_S, lambda: self._show_progress(watch, begun))
        try:
            result = await call(lambda: lake.query(query, self._language, limits=limits, watch=watch))
        except Cancelled:
            self._state.text = "Cancelled."
            return
        except QueryError as error:
            self._show_error(error)
            return
        finally:
            timer.cancel()
            self._running(False)
        more = f" (the first {SHOWN_ROWS:,}; a file has more)" if result.truncated else ""
        self._state.text = f"{len(result.rows):,} rows{more} in {time.monotonic() - begun:.2f} s"
        if len(query) <= MAX_LINK:
            ui.run_javascript(f"history.replaceState(null, '', {parts.script_text(self._link(query))})")
        self._show(result, query)

    def _link(self, query: str) -> str:
        return at("/investigate", q=query, language=self._language if self._language == "sql" else "")

    def _running(self, runs: bool) -> None:
        self._button.set_enabled(not runs)
        for element in (self._cancel, self._bar):
            element.set_visibility(runs)
        self._bar.value = 0
        if runs:
            self._state.text = "Running …"

    def _show_progress(self, watch: Watch, begun: float) -> None:
        self._bar.value = watch.share()
        self._state.text = f"Running, {time.monotonic() - begun:.0f} s …"

    def _show_error(self, error: QueryError) -> None:
        self._state.text = ""
        self._result.clear()
        with self._result, parts.panel():
            parts.text(str(error), "error-line mono")

    def _show(self, result: Result, query: str) -> None:
        self._result.clear()
        with self._result:
            if options := chart_options(result, query):
                with parts.panel():
                    ui.echart(options).style("height: 300px; width: 100%")
            with parts.panel():
                table_of(result)

    def _share(self) -> None:
        query = self.query
        if len(query) > MAX_LINK:
            ui.notify(f"The query is longer than {MAX_LINK:,} characters; save and share it instead.")
            return
        link = parts.script_text(self._link(query))
        ui.run_javascript(f"navigator.clipboard.writeText(location.origin + {link})")
        ui.notify("The link is on the clipboard.")

    async def _download(self, form: Form) -> None:
        await self._backend.demand(self._request, Role.ANALYST)
        query, lake, language = self.query, self._backend.lake, self._language
        self._state.text = "Writing the file …"
        try:
            content = await call(lambda: file_of(lake, query, language, form))
        finally:
            self._state.text = ""
        ui.download(content, file_name(form), MEDIA_TYPES[form])


def file_of(lake: Lake, query: str, language: Language, form: Form) -> bytes:
    """All rows of a query as a file. Raises QueryError, also for more than EXPORT_ROWS: none is left out."""
    if form == "csv":  # for spreadsheets: what they would take for a formula is text
        result = lake.query(query, language, limits=EXPORT_LIMITS)
        if result.truncated:
            raise QueryError(f"more than {EXPORT_ROWS:,} rows; ask for a part of them")
        return csv_of(result)
    with tempfile.TemporaryFile() as file:
        export(lake, query, language, form, file, limits=EXPORT_LIMITS)
        file.seek(0)
        return file.read()
