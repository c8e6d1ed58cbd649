"""Query results as files, written as they are read, within bounds.

CSV, newline-delimited JSON and Parquet take any rows; OCSF and ECS (newline-delimited, too) whole events.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import IO, TYPE_CHECKING, Any, Literal

import msgspec

from vedette.hub.lake.errors import QueryError
from vedette.hub.lake.query import FETCH_ROWS, Lake, Limits, Watch, columns_of, plain_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

Form = Literal["csv", "ndjson", "parquet", "ocsf", "ecs"]

MEDIA_TYPES: Mapping[Form, str] = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "ocsf": "application/x-ndjson",
    "ecs": "application/x-ndjson",
}

EXPORT_LIMITS = Limits(seconds=300.0, rows=1_000_000)
"""Five minutes are a third of the time for which the files that a query reads stay where they are."""

PARQUET_ROWS = 50_000
"""Rows of one group: it is what readers skip by, and 25 MB while it is written."""

MAX_BYTES = 2 * 1024**3
"""Of one file: a million rows of 2 KB."""


def export(
    lake: Lake,
    text: str,
    language: Literal["kql", "sql"],
    form: Form,
    file: IO[bytes],
    *,
    limits: Limits = EXPORT_LIMITS,
    parameters: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> int:
    """Write a query's rows to a file; how many. Blocks. Raises QueryError, also where it exceeds a bound.

    A file that lacks rows would be taken for one that does not: it is an error instead.
    """
    with lake.cursor(text, language, limits=limits, parameters=parameters, watch=watch) as cursor:
        if len(set(columns_of(cursor))) < len(columns_of(cursor)):
            raise QueryError("two columns have one name; give them names of their own")
        written = _parquet(cursor, file) if form == "parquet" else _text(cursor, form, file)
        rows = 0
        with closing(written):  # what is refused in the middle ends while the file is open
            for count in written:
                rows += count
                if rows > limits.rows:
                    raise QueryError(f"more than {limits.rows} rows; ask for a part of them")
                if file.tell() > MAX_BYTES:
                    raise QueryError(f"more than {MAX_BYTES} bytes; ask for a part of them")
        return rows


def file_name(form: Form) -> str:
    """What a file of this form is called, as in `vedette.csv` or `vedette.ocsf.ndjson`."""
    return f"vedette.{form}.ndjson" if form in ("ocsf", "ecs") else f"vedette.{form}"


def _text(cursor: DuckDBPyConnection, form: Form, file: IO[bytes]) -> Generator[int, None, None]:
    """Write piece by piece; yields the rows of each."""
    columns = columns_of(cursor)
    if form == "csv":
        file.write(_csv([columns]))
    line = _event_line(form, columns) if form in ("ocsf", "ecs") else _row_line(columns)
    for rows in plain_rows(cursor, FETCH_ROWS):
        if form == "csv":
            file.write(_csv(rows))
        else:
            file.writelines(line(row) + b"\n" for row in rows)
        yield len(rows)


def _row_line(columns: Sequence[str]) -> Callable[[Sequence[Any]], bytes]:
    return lambda row: msgspec.json.encode(dict(zip(columns, row, strict=True)))


def _event_line(form: Literal["ocsf", "ecs"], columns: Sequence[str]) -> Callable[[Sequence[Any]], bytes]:
    """What writes a row as an event of a standard. Raises QueryError, as that does, for what is no event."""
    from vedette.hub.formats import EVENTS
    from vedette.hub.formats.values import EVENT_COLUMNS, raw_event

    if missing := sorted(EVENT_COLUMNS.keys() - set(columns)):
        raise QueryError(
            f"{form}: whole events are needed, as of SecurityIoTRawEvent; the rows lack {', '.join(missing)}"
        )

    def line(row: Sequence[Any]) -> bytes:
        try:
            event = raw_event(dict(zip(columns, row, strict=True)))
        except ValueError as error:
            raise QueryError(f"{form}: {error}") from None
        return msgspec.json.encode(EVENTS[form](event))

    return line


def _csv(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _parquet(cursor: DuckDBPyConnection, file: IO[bytes]) -> Generator[int, None, None]:
    """The same rows with their columns' types; what has no simple one is text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    simple = {
        "BIGINT": pa.int64(),
        "INTEGER": pa.int64(),
        "HUGEINT": pa.decimal128(38),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "TIMESTAMP": pa.timestamp("us"),
        "DATE": pa.date32(),
        "BLOB": pa.binary(),
    }
    kinds = {str(column[0]): str(column[1]) for column in cursor.description or ()}
    schema = pa.schema([(name, simple.get(kind, pa.string())) for name, kind in kinds.items()])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in plain_rows(cursor, PARQUET_ROWS):
            columns = zip(*rows, strict=True)
            arrays = [_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            yield len(rows)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array[Any]:
    import pyarrow as pa

    if kind == pa.string():
        values = [None if value is None else str(value) for value in values]
    return pa.array(values, kind)
