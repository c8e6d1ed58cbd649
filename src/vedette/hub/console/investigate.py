"""Questions to the lake in KQL or SQL, answered as a table and, where asked for, as a chart."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, cast

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.investigate_chart import chart_options
from vedette.hub.console.parts import Column, at
from vedette.hub.console.samples import SAMPLES
from vedette.hub.lake import Limits, QueryError, Result
from vedette.hub.registry.users import Role

SHOWN_ROWS = 1_000
"""Rows that a browser is sent; the export has all, up to EXPORT_ROWS."""

EXPORT_ROWS = 100_000
"""Rows of a CSV file: about 30 MB of events."""

MAX_LINK = 6_000
"""Characters of a query that go into the address: longer ones some proxies refuse."""

Language = Literal["kql", "sql"]

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
            desk = _Desk(backend, request, spoken, q or SAMPLES[spoken][0][1])
        await desk.offer_names()
        if q:
            ui.timer(0.05, desk.run, once=True)


class _Desk:
    """Editor, samples and results."""

    def __init__(self, backend: Backend, request: Request, language: Language, query: str) -> None:
        self._backend = backend
        self._request = request
        self._language = language
        with parts.block("cols investigate"), parts.block("stack"):
            with parts.block("chips"):
                for name, sample in SAMPLES[language]:
                    ui.button(name, on_click=lambda _, text=sample: self._take(text)).props(
                        "flat dense no-caps"
                    )
            self._editor = ui.codemirror(query, language="SQL", line_wrapping=True).style("height: 190px")
            self._editor.props('aria-label="Query"')
            self._editor.on("keydown.ctrl.enter", self.run)
            with parts.block("row"):
                self._button = ui.button("Run", icon="play_arrow", on_click=self.run).props(
                    "unelevated dense"
                )
                self._button.style("padding: 3px 16px 3px 10px")
                ui.button("CSV", icon="download", on_click=self._export).props("outline dense").style(
                    "padding: 3px 12px"
                )
                self._state = parts.text("Ctrl+Enter runs the query. The address is a link to it.", "dim")
            self._result = parts.block("stack")
        self._tables = parts.block("")

    async def offer_names(self) -> None:
        """Show the tables and their columns."""
        tables: dict[str, list[str]] = {}
        for row in await self._backend.questions.ask(SCHEMA):
            tables.setdefault(str(row["TableName"]), []).append(str(row["ColumnName"]))
        with self._tables, parts.panel("Tables", f"{len(tables)}, with their columns."):
            for table, columns in tables.items():
                with ui.expansion(table).props("dense").classes("full-width"):
                    parts.text(", ".join(columns), "mono dim")

    def _take(self, query: str) -> None:
        self._editor.value = query
        ui.timer(0.01, self.run, once=True)

    async def _ask(self, rows: int) -> Result:
        await self._backend.demand(self._request, Role.ANALYST)
        query = self._editor.value
        limits = Limits(rows=rows)
        return await call(lambda: self._backend.lake.query(query, self._language, limits=limits))

    @parts.guarded
    async def run(self, *_: Any) -> None:
        """Answer what stands in the editor."""
        query = self._editor.value
        self._button.disable()
        self._state.text = "Running …"
        begun = time.monotonic()
        try:
            result = await self._ask(SHOWN_ROWS)
        except QueryError as error:
            self._show_error(error)
            return
        finally:
            self._button.enable()
        more = f" (the first {SHOWN_ROWS:,}; the CSV has more)" if result.truncated else ""
        seconds = time.monotonic() - begun
        self._state.text = f"{len(result.rows):,} rows{more} in {seconds:.2f} s"
        if len(query) <= MAX_LINK:
            link = at("/investigate", q=query, language=self._language if self._language == "sql" else "")
            ui.run_javascript(f"history.replaceState(null, '', {parts.script_text(link)})")
        self._show(result, query)

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

    @parts.guarded
    async def _export(self, *_: Any) -> None:
        result = await self._ask(EXPORT_ROWS)
        ui.download(await call(lambda: csv_of(result)), "vedette.csv", "text/csv")


def table_of(result: Result) -> None:
    """A result as a table. Column names may be anything: the cells are told by number."""
    kinds = [_kind([row[i] for row in result.rows[:50]]) for i in range(len(result.columns))]
    columns = [
        Column(f"c{i}", name[:64], cast("Any", kinds[i]), sortable=True)
        for i, name in enumerate(result.columns)
    ]
    rows = [{f"c{i}": value for i, value in enumerate(row)} for row in result.rows]
    parts.table(columns, rows, empty="No rows.", page=50)


def _kind(values: Sequence[Any]) -> str:
    if any(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "number"
    if any(len(parts.written(value)) > 60 for value in values):
        return "cut"
    return "text" if any(isinstance(value, datetime) for value in values) else "mono"


def csv_of(result: Result) -> bytes:
    """A result as CSV. What a spreadsheet would take for a formula is marked as text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(result.columns)
    for row in result.rows:
        writer.writerow([_inert(value) for value in row])
    return buffer.getvalue().encode()


def _inert(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
