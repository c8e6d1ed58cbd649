"""Questions to the lake, in KQL or SQL, while the hub runs and when it does not."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from vedette.hub.kql import DuckDB
from vedette.hub.lake.duckdb import Confinement, connect
from vedette.hub.lake.errors import QueryError, reason, told
from vedette.hub.lake.kql import translate
from vedette.hub.lake.storage import Where

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

__all__ = ["Cancelled", "Lake", "Limits", "QueryError", "Result", "Watch"]

QUERY_CHARS = 65_536
"""Longest query text: a page of KQL is 4,000; parsing time grows with length."""

FETCH_ROWS = 2_048
"""Rows taken from DuckDB at a time: its own vector size."""


class Limits(msgspec.Struct, frozen=True):
    """What one query may use. Beyond rows the result is cut and says so; beyond the rest it is an error.

    seconds: far below the time for which replaced files stay readable (tables.REMOVED_FILE_RETENTION).
    """

    seconds: float = 30.0
    rows: int = 10_000
    memory_bytes: int = 512 * 1024 * 1024
    threads: int = 2


class Result(msgspec.Struct, frozen=True):
    """Rows of a query. Times are naive and UTC; dynamic values are plain strings, objects as JSON text.

    truncated: there were more rows than the limit.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool = False


class Cancelled(QueryError):
    """The query was ended by whoever asked."""


class Watch:
    """A query seen from outside while it runs: how far it is, and its end before its time. For any thread."""

    def __init__(self) -> None:
        self.cancelled = False
        self._connection: DuckDBPyConnection | None = None
        self._lock = threading.Lock()

    def share(self) -> float:
        """How much of it is done, 0 to 1; 0 where the engine cannot tell."""
        with self._lock:
            percent = self._connection.query_progress() if self._connection else 0.0
        return min(1.0, max(0.0, percent / 100))

    def cancel(self) -> None:
        """End it, now or before it begins."""
        with self._lock:
            self.cancelled = True
            if self._connection:
                self._connection.interrupt()

    @contextmanager
    def over(self, connection: DuckDBPyConnection) -> Iterator[None]:
        """Watch what this connection runs within. Raises Cancelled."""
        import duckdb

        with self._lock:
            if self.cancelled:
                raise Cancelled("cancelled")
            self._connection = connection
        try:
            yield
        except duckdb.InterruptException:
            if self.cancelled:
                raise Cancelled("cancelled") from None
            raise
        finally:
            with self._lock:
                self._connection = None


class Lake:
    """The event lake, for reading. Holds nothing open between queries.

    beside: rows of tables that are kept elsewhere, by name; asked for where a query names the table.
    """

    def __init__(self, lake: Where, beside: Mapping[str, Callable[[], pa.Table]] | None = None) -> None:
        self.where = lake
        self._beside = beside or {}

    def query(
        self,
        text: str,
        language: Literal["kql", "sql"] = "kql",
        *,
        limits: Limits | None = None,
        parameters: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
    ) -> Result:
        """Answer a query from what is committed at this moment. Blocks. Raises QueryError.

        parameters: values of `$name` in SQL; in KQL there are none.
        """
        limits = limits or Limits()
        with self.cursor(text, language, limits=limits, parameters=parameters, watch=watch) as cursor:
            return _fetch(cursor, limits.rows)

    @contextmanager
    def cursor(
        self,
        text: str,
        language: Literal["kql", "sql"],
        *,
        limits: Limits,
        parameters: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
    ) -> Iterator[DuckDBPyConnection]:
        """A query that has been started, to read its rows from. Raises QueryError, within the block, too."""
        if len(text) > QUERY_CHARS:
            raise QueryError(f"{len(text)} characters long, {QUERY_CHARS} allowed")
        watching = (watch or Watch()).over
        with (
            _open(self.where, limits) as connection,
            _reported(connection, limits.seconds, language),
            watching(connection),
        ):
            given = dict(parameters or {})
            if language == "kql":
                text = translate(text, DuckDB()).sql
            _only_select(connection, text)
            self._fill(connection, text)
            yield connection.execute(text, given)

    def _fill(self, connection: DuckDBPyConnection, text: str) -> None:
        """Fill the tables that a SELECT names."""
        for name, rows in self._beside.items():
            if names(text, name) and (table := rows()).num_rows:
                connection.register("_beside", table)
                connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM _beside")  # noqa: S608 - ours
                connection.unregister("_beside")


def names(select: str, table: str) -> bool:
    """Whether a SELECT may read the table; wrong only where a name of a column stands like one of a table."""
    return re.search(rf'(?:\bfrom|\bjoin|,)\s*[("`\s]*{table}\b', select, re.IGNORECASE) is not None


@contextmanager
def _open(lake: Where, limits: Limits) -> Iterator[DuckDBPyConnection]:
    import duckdb
    from deltalake.exceptions import DeltaError

    threads = max(1, min(limits.threads, os.cpu_count() or 1))
    try:
        connection = connect(lake, Confinement(limits.memory_bytes, threads))
    except (OSError, DeltaError, duckdb.Error) as error:
        raise QueryError(f"the lake cannot be read: {reason(error)}") from error
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _reported(connection: DuckDBPyConnection, seconds: float, language: str) -> Iterator[None]:
    """Interrupt after the time limit, and turn DuckDB's errors into ours."""
    import duckdb

    timer = threading.Timer(seconds, connection.interrupt)
    timer.name = "query-limit"
    timer.start()
    try:
        yield
    except duckdb.InterruptException:
        raise QueryError(f"took longer than {seconds:g} s") from None
    except duckdb.OutOfMemoryException:
        raise QueryError("needed more memory than a query may use") from None
    except duckdb.Error as error:
        raise _explained(told(str(error)), language) from None
    finally:
        timer.cancel()
        timer.join()


def _only_select(connection: DuckDBPyConnection, text: str) -> None:
    """Refuse everything but one SELECT. Raises QueryError; duckdb.Error if it does not parse."""
    from duckdb import StatementType

    statements = connection.extract_statements(text)
    if len(statements) != 1:
        raise QueryError(f"one statement is needed, not {len(statements)}")
    if statements[0].type != StatementType.SELECT:
        raise QueryError(f"only queries are allowed, not {statements[0].type.name}")


_POSITION = re.compile(r"\n+(?P<prefix>LINE (?P<line>\d+): )(?P<shown>[^\n]*)\n(?P<pad> *)\^")


def _explained(text: str, language: str) -> QueryError:
    """DuckDB's message without its drawing; with the position if that is one in the user's own text."""
    match = _POSITION.search(text)
    if match is None:
        return QueryError(text.strip())
    message = text[: match.start()].strip()
    if language != "sql" or match["shown"].startswith("..."):
        return QueryError(message)
    return QueryError(message, line=int(match["line"]), column=len(match["pad"]) - len(match["prefix"]) + 1)


def _fetch(cursor: DuckDBPyConnection, limit: int) -> Result:
    """Up to `limit` rows, and whether there were more."""
    rows: list[tuple[Any, ...]] = []
    for some in plain_rows(cursor, min(FETCH_ROWS, limit + 1)):
        rows += some
        if len(rows) > limit:
            break
    return Result(columns_of(cursor), rows[:limit], truncated=len(rows) > limit)


def columns_of(cursor: DuckDBPyConnection) -> tuple[str, ...]:
    """Names of a started query's columns."""
    return tuple(column[0] for column in cursor.description or ())


def plain_rows(cursor: DuckDBPyConnection, size: int) -> Iterator[list[tuple[Any, ...]]]:
    """A started query's rows for display, so many at a time."""
    dynamic = {i for i, column in enumerate(cursor.description or ()) if str(column[1]) == "JSON"}
    while some := cursor.fetchmany(size):
        yield [tuple(plain(value, dynamic=i in dynamic) for i, value in enumerate(row)) for row in some]


def plain(value: Any, *, dynamic: bool = False) -> Any:
    """A value for display: a dynamic string without its quotes, a whole sum as an integer."""
    if dynamic and isinstance(value, str) and value.startswith('"'):
        return msgspec.json.decode(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return value
