"""DuckDB over the lake: a connection that sees the tables' present files as views, and can read nothing else.

Each query gets a connection of its own, with the list of files that the Delta log names at that moment.
Read-only by construction: before the query is seen, the connection is confined to exactly those files and
its configuration locked; then only a single SELECT is let through, so that the files cannot be written.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from vedette.hub.lake.storage import Where, at
from vedette.hub.lake.tables import TABLES, DataFile, Table, is_uniform, live, opened, rows_of
from vedette.hub.lake.views import BESIDE, SQL_TYPES, DuckDB, views

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Confinement(msgspec.Struct, frozen=True):
    """What a query connection may use."""

    memory_bytes: int
    threads: int


def connect(lake: Where, bounds: Confinement) -> DuckDBPyConnection:
    """A confined connection over the lake's present state. A lake that does not exist yet is empty."""
    import duckdb

    present = {table: _present(lake, table) for table in TABLES}
    sizes = {
        f"{table.name}/{file.name}": file.size for table, (_, files) in present.items() for file in files
    }
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{bounds.memory_bytes}B",
            "threads": bounds.threads,
            "temp_directory": "",  # no spilling: the memory limit is a limit
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = true")  # kept, to be asked for, and never drawn
    connection.execute("SET enable_progress_bar_print = false")
    paths = at(lake).attach(connection, sizes)
    connection.execute(f"SET allowed_paths = {_literal(paths)}")
    connection.execute("SET enable_external_access = false")
    for table in present:
        connection.execute(f"CREATE VIEW {table.name} AS {_scan(table, [], uniform=True)}")
    for statement in STATEMENTS:
        connection.execute(statement)
    # Only now, since every view that is made looks into the files of those that it stands on.
    each = iter(paths)
    for table, (uniform, files) in present.items():
        scan = _scan(table, list(itertools.islice(each, len(files))), uniform=uniform)
        connection.execute(f"CREATE OR REPLACE VIEW {table.name} AS {scan}")
    connection.execute("SET lock_configuration = true")
    return connection


def _present(lake: Where, table: Table) -> tuple[bool, list[DataFile]]:
    """The data files that the table's log names now, and whether all have the same columns."""
    from deltalake.exceptions import TableNotFoundError

    try:
        known = opened(table.files(lake))
    except TableNotFoundError:
        return True, []
    return is_uniform(known, table), live(known)


def _literal(texts: list[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"


def _scan(table: Table, names: list[str], *, uniform: bool) -> str:
    """The table's rows with its declared columns; times as TIMESTAMP in UTC, which is what KQL means."""
    columns = ", ".join(
        f"{name}::{SQL_TYPES[kind]} AS {name}" if names else f"NULL::{SQL_TYPES[kind]} AS {name}"
        for name, kind in table.columns.items()
    )
    if not names:
        return f"SELECT {columns} WHERE false"
    source = rows_of(table, _literal(names), uniform=uniform, partition=True)
    return f"SELECT {columns} FROM ({source})"  # noqa: S608 - names are ours, quoted above


STATEMENTS = (
    *(f'CREATE VIEW "{name}" AS {view.select}' for name, view in views(DuckDB()).items()),
    *(
        f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})"
        for name, columns in BESIDE.items()
    ),
)
"""What makes the tables that users see, over the stored ones."""
