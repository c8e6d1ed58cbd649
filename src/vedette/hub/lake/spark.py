"""The lake on an engine of several machines: Spark, or Sail, which speaks Spark's protocol.

The engine reads the tables as Delta if it can, and else the data files that the log names at that moment. It
has to reach them under the name that the hub has for them. Alerts and other tables that are kept elsewhere go
along as rows. Only a SELECT passes: the text stands in parentheses after FROM, where nothing else may stand.
What else the engine can read is its operator's business, as are the keys of its object store.
"""

from __future__ import annotations

import datetime
import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from vedette.hub.kql import Kind, Spark
from vedette.hub.lake.errors import QueryError
from vedette.hub.lake.kql import translate
from vedette.hub.lake.query import QUERY_CHARS, Limits, Result, names, plain
from vedette.hub.lake.storage import Where
from vedette.hub.lake.tables import TABLES, Table, live, opened
from vedette.hub.lake.views import BESIDE, SQL_TYPES, Columns, views

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

APPLICATION = "vedette"

_TYPES = {"VARCHAR": "STRING", "JSON": "STRING", "BLOB": "BINARY"}
"""Types that have another name there."""

_PORTS = {"sc": 15002, "spark": 7077}
"""Default ports, by scheme of the URL."""

REACH_S = 5.0
"""Longest wait for a connection: a packet lost twice is sent again after three seconds."""

_CLASSIC: dict[str, bool | float | int | str | None] = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
"""Settings of an application of our own: it serves no web page and draws nothing."""

_POSITION = re.compile(r"line (\d+),? pos (\d+)")


class Words:
    """Spark's words, for the views. Dynamic values are texts."""

    def name(self, name: str) -> str:
        """A name, quoted."""
        return Spark().name(name)

    def type(self, kind: str) -> str:
        """The engine's name of a type."""
        return _TYPES.get(kind, kind)

    def text(self, key: str) -> str:
        """A key's value as a text."""
        return f"get_json_object(EventDetails, '$.{key}')"

    def json(self, key: str) -> str:
        """The same: JSON is a text."""
        return self.text(key)

    def entry(self, parts: Mapping[str, str]) -> str:
        """A list of one object."""
        pairs = ", ".join(f"'{part}', {self.text(key)}" for part, key in parts.items())
        return f"to_json(array(named_struct({pairs})))"


def connect(remote: str = "", master: str = "") -> SparkSession:
    """A session: at a Connect server (`sc://host:port`), or of an application of its own at a master.

    Raises QueryError if the client is not installed, or nothing answers.
    """
    _reach(remote or master)
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise QueryError(f"needs the extra [spark]: {error}") from None
    try:
        if remote:
            session: SparkSession = SparkSession.builder.remote(remote).create()
        else:
            classic = SparkSession.builder.master(master).appName(APPLICATION)
            session = classic.config(map=_CLASSIC).getOrCreate()
        session.conf.set("spark.sql.session.timeZone", "UTC")
        session.conf.set("spark.sql.runSQLOnFiles", "false")  # Sail reads files all the same
    except (PySparkException, ImportError, OSError, RuntimeError) as error:
        hint = "; a session without Connect needs the package pyspark" if master else ""
        raise QueryError(f"{remote or master} cannot be used: {_line(error)}{hint}") from None
    return session


def _reach(url: str) -> None:
    """See whether anybody listens there: the clients themselves would try again for ten minutes."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        return  # such as a cluster manager's name, which the client knows better
    try:
        place = (parts.hostname or "", parts.port or _PORTS[parts.scheme])
        socket.create_connection(place, REACH_S).close()
    except (OSError, ValueError) as error:
        raise QueryError(f"{url} cannot be reached: {_line(error)}") from None


class SparkLake:
    """The lake through a session, which stays its owner's. beside: as of `Lake`.

    delta: whether the engine has read the tables as Delta; known after the first query.
    """

    def __init__(
        self,
        lake: Where,
        session: SparkSession,
        beside: Mapping[str, Callable[[], pa.Table]] | None = None,
    ) -> None:
        self._lake = lake
        self._session = session
        self._beside = beside or {}
        self.delta = False

    def query(
        self, text: str, language: Literal["kql", "sql"] = "kql", *, limits: Limits | None = None
    ) -> Result:
        """Answer a query from what is committed at this moment. Blocks. Raises QueryError.

        Of the limits, rows and seconds hold here; memory and processors are the engine's own.
        """
        if len(text) > QUERY_CHARS:
            raise QueryError(f"{len(text)} characters long, {QUERY_CHARS} allowed")
        limits = limits or Limits()
        kinds: Mapping[str, Kind] = {}
        if language == "kql":
            translation = translate(text, Spark())
            text, kinds = translation.sql, translation.columns
        with self._reported(language), self._limited(limits.seconds):
            self._offer(text)
            found = self._session.sql(_bounded(text, language, limits.rows + 1)).toArrow()
        rows = list(zip(*(_shown(column, kinds) for column in _columns(found)), strict=True))
        return Result(tuple(found.column_names), rows[: limits.rows], truncated=len(rows) > limits.rows)

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        """Interrupt after the time limit, or when the caller is interrupted."""
        tag = f"{APPLICATION}-{uuid.uuid4().hex}"
        passed = threading.Event()

        def stop() -> None:
            passed.set()
            self._session.interruptTag(tag)

        timer = threading.Timer(seconds, stop)
        timer.name = "query-limit"
        self._session.addTag(tag)
        timer.start()
        try:
            yield
        except KeyboardInterrupt:
            self._session.interruptTag(tag)
            raise
        except Exception as error:
            if passed.is_set():
                raise QueryError(f"took longer than {seconds:g} s") from error
            raise
        finally:
            timer.cancel()
            timer.join()
            self._session.removeTag(tag)

    @contextmanager
    def _reported(self, language: str) -> Iterator[None]:
        """Turn the engine's errors into ours, with the position if that is one in the user's own text."""
        try:
            yield
        except _failures() as error:
            found = _POSITION.search(str(error)) if language == "sql" else None
            line, column = (int(found[1]) - 1, int(found[2]) + 1) if found else (0, 0)
            raise QueryError(_line(error), line=max(line, 0), column=column) from None

    # -- tables

    def _offer(self, text: str) -> None:
        """Make the tables that a SELECT names."""
        shown = {name: view for name, view in views(Words()).items() if names(text, name)}
        for table in TABLES:
            if names(text, table.name) or (shown and table is TABLES[0]):
                self._stored(table).createOrReplaceTempView(table.name)
        for name, view in shown.items():
            self._session.sql(f"CREATE OR REPLACE TEMPORARY VIEW {name} AS {view.select}")
        for name, columns in BESIDE.items():
            if names(text, name):
                rows = self._beside[name]() if name in self._beside else None
                self._rows(columns, rows).createOrReplaceTempView(name)

    def _stored(self, table: Table) -> DataFrame:
        """A table of the lake with the columns that are declared; null in what an older release wrote."""
        from deltalake import DeltaTable

        files = table.files(self._lake)
        declared = {name: SQL_TYPES[kind] for name, kind in table.columns.items()}
        if not DeltaTable.is_deltatable(files.uri, files.options):
            return self._rows(declared, None)
        read = self._delta(files.uri)
        if read is None:
            paths = [f"{files.uri}/{file.name}" for file in live(opened(files))]
            if not paths:
                return self._rows(declared, None)
            reader = self._session.read.option("basePath", files.uri).option("mergeSchema", "true")
            read = reader.parquet(*paths)
        there = set(read.columns)
        return read.selectExpr(
            *(
                f"CAST({name if name in there else 'NULL'} AS {Words().type(kind)}) AS {name}"
                for name, kind in declared.items()
            )
        )

    def _delta(self, uri: str) -> DataFrame | None:
        """The table as Delta; None where the engine does not know Delta."""
        try:
            read = self._session.read.format("delta").load(uri)
            self.delta = bool(read.columns)
        except _failures() as error:
            if "delta" in str(error).lower():
                return None
            raise
        return read

    def _rows(self, columns: Columns, rows: pa.Table | None) -> DataFrame:
        """A table of given rows; of none."""
        if rows is None or not rows.num_rows:
            nulls = ", ".join(
                f"CAST(NULL AS {Words().type(kind)}) AS {name}" for name, kind in columns.items()
            )
            return self._session.sql(f"SELECT {nulls} WHERE FALSE")
        return self._session.createDataFrame(_typed(rows, columns))


def _failures() -> tuple[type[Exception], ...]:
    """What a session raises; one without Connect passes some errors of Java on as they are."""
    from pyspark.errors import PySparkException

    try:
        from py4j.protocol import Py4JJavaError
    except ImportError:
        return (PySparkException,)
    return (PySparkException, Py4JJavaError)


def _bounded(text: str, language: str, rows: int) -> str:
    """The query, and no more rows than so many. Its own order stays."""
    if language == "kql":
        return f"{text} LIMIT {rows}"
    return f"SELECT * FROM (\n{text.rstrip().removesuffix(';')}\n) AS answer LIMIT {rows}"  # noqa: S608


def _typed(rows: pa.Table, columns: Columns) -> pa.Table:
    """Rows with just these columns and their types; null where there is none."""
    import pyarrow as pa

    types = {
        "BOOLEAN": pa.bool_(),
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "TIMESTAMP": pa.timestamp("us", "UTC"),
    }
    schema = pa.schema([(name, types.get(kind, pa.string())) for name, kind in columns.items()])
    there = set(rows.column_names)
    arrays = [
        rows[field.name].cast(field.type) if field.name in there else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


def _columns(found: pa.Table) -> Iterator[tuple[str, Sequence[Any]]]:
    for name, column in zip(found.column_names, found.columns, strict=True):
        yield name, column.to_pylist()


def _shown(column: tuple[str, Sequence[Any]], kinds: Mapping[str, Kind]) -> list[Any]:
    """A column's values as `Result` has them."""
    name, values = column
    if kinds.get(name) == "timespan":
        return [None if value is None else datetime.timedelta(microseconds=value) for value in values]
    return [_naive(plain(value)) for value in values]


def _naive(value: Any) -> Any:
    if isinstance(value, datetime.datetime) and value.tzinfo:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value


def _line(error: BaseException) -> str:
    """What an error says, without the engine's plan or stack."""
    said = str(error).strip().splitlines()
    return said[0].split("; line ")[0] if said else type(error).__name__
