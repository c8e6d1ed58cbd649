"""A result of a query as a table, and as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from vedette.hub.console import parts
from vedette.hub.console.parts import Column
from vedette.hub.lake import Result


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
