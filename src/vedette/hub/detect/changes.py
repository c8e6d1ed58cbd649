"""What was committed to the lake since a position: batches of events, each row at least once.

A position is a version of the event table. The rows of a version are those of the files that its log entry
adds; entries that only rearrange (compaction: `dataChange` false) or remove (retention) add none. Log entries
and replaced files are cleaned up after minutes: where a reader comes too late for them, it reads by time of
receipt instead and continues at the version that it read from. It may meet rows again then: whoever reads
must be able to meet an event twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from vedette.hub.detect.taxonomy import Observed
from vedette.hub.lake import durable
from vedette.hub.lake.storage import Where
from vedette.hub.lake.tables import RAW_EVENTS, arrow_schema, live, opened, rows_of, utc

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 10_000
"""Rows after which no further version is added to a batch. One version has at most commit.PENDING_ROWS."""

MARGIN_S = 120.0
"""How far a reading by time goes back behind the watermark: hubs that write to one lake commit in any order,
each within seconds of receipt, and their clocks differ."""

FIRST_READ_S = 24 * 3600.0
"""How much of a lake that was never judged is read, if its log no longer begins at the beginning."""

BY_TIME = -1
"""The version of a position while rows are read by time."""

_COLUMNS = (
    "IoTRawEventId",
    "DeviceId",
    "ModuleId",
    "RawEventName",
    "EventDetails",
    "TimeStamp",
    "WindowEnd",
    "TimeGenerated",
    "HitCount",
    "MessageId",
)
_TIMES = ("TimeStamp", "WindowEnd", "TimeGenerated")


_BY_TIME_SQL = f"""
    WITH later AS (
        SELECT {", ".join(_COLUMNS)}, epoch_us(TimeGenerated) AS received
        FROM ({rows_of(RAW_EVENTS)}) WHERE received > $after
    ), page AS (SELECT received FROM later ORDER BY received LIMIT $limit)
    SELECT * FROM later WHERE received <= (SELECT max(received) FROM page) ORDER BY received
"""  # noqa: S608
"""The next rows by time of receipt, with all that were received at the last moment: no message is split."""


class Position(NamedTuple):
    """How far the table was read. watermark: latest time of receipt among what was read, Unix seconds."""

    version: int
    watermark: float


class Batch(NamedTuple):
    """Events, and the position behind them. caught_up: nothing more was committed at that moment."""

    events: Sequence[Observed]
    position: Position
    caught_up: bool


class _Gap(Exception):
    """A log entry or a file is no longer there."""


class Changes:
    """Reads the event table of a lake, version by version. For one thread."""

    def __init__(self, lake: Where) -> None:
        self._files = RAW_EVENTS.files(lake)

    def beginning(self, now: float) -> Position:
        """Where to begin with a lake that was never judged."""
        return Position(0 if self._holds(0) else BY_TIME, now - FIRST_READ_S)

    def after(self, position: Position) -> Batch:
        """What follows a position; without events if nothing does."""
        if position.version >= 0:
            try:
                return self._by_version(position)
            except _Gap:
                # A clock that was ahead for a while has left a watermark that nothing else would ever pass.
                position = Position(BY_TIME, min(position.watermark, time.time()) - MARGIN_S)
        return self._by_time(position)

    def _by_version(self, position: Position) -> Batch:
        version, events = position.version, list[Observed]()
        while len(events) < BATCH_ROWS:
            names = self._added(version + 1)
            if names is None:
                break
            version += 1
            for name in names:
                events += self._rows(name)
        if version > position.version:
            # What is about to be judged must not be undone by a power failure of the lake's disk.
            self._files.sync_log(position.version + 1, version)
        watermark = max([position.watermark, *(event.received for event in events)])
        return Batch(events, Position(version, watermark), caught_up=len(events) < BATCH_ROWS)

    def _entry(self, version: int) -> bytes:
        """A log entry. Raises FileNotFoundError."""
        return self._files.get(f"{durable.LOG}/{version:020d}.json")

    def _holds(self, version: int) -> bool:
        try:
            self._entry(version)
        except FileNotFoundError:
            return False
        return True

    def _added(self, version: int) -> list[str] | None:
        """Names of the files that a version adds; None if there is no such version yet. Raises _Gap."""
        try:
            lines = self._entry(version).splitlines()
        except FileNotFoundError:
            newest = self._newest()
            # Beyond, cleaned up; or the lake is older than the position: it was restored.
            if newest >= version or (newest < version - 1 and not self._holds(version - 1)):
                raise _Gap from None
            return None
        try:
            actions = [json.loads(line) for line in lines]
        except ValueError:
            return None  # is being written
        adds = [action["add"] for action in actions if "add" in action]
        return [add["path"] for add in adds if add["dataChange"]]

    def _newest(self) -> int:
        """The latest version that the log certainly reached, as its last checkpoint tells; -1 if none."""
        try:
            return int(json.loads(self._files.get(f"{durable.LOG}/{durable.LAST_CHECKPOINT}"))["version"])
        except FileNotFoundError:
            return -1

    def _rows(self, name: str) -> list[Observed]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # A file of its own, not a dataset: the partition in its path is no column here.
            with pq.ParquetFile(pa.BufferReader(self._files.get(name))) as file:
                return list(_observed(file.read(columns=list(_COLUMNS))))
        except FileNotFoundError:
            raise _Gap from None

    def _by_time(self, position: Position) -> Batch:
        """The next rows in order of receipt, from the files that are live now; none from a lake to be."""
        import duckdb
        from deltalake.exceptions import TableNotFoundError

        try:
            table = opened(self._files)
        except TableNotFoundError:
            return Batch((), Position(0, position.watermark), caught_up=False)
        first = utc(max(0.0, position.watermark)).date().isoformat()
        sizes = {file.name: file.size for file in live(table) if file.day >= first}
        rows: list[Observed] = []
        if sizes:
            with duckdb.connect() as connection:
                connection.execute("SET TimeZone = 'UTC'")
                bounds = {
                    "files": self._files.attach(connection, sizes),
                    "after": round(position.watermark * 1e6),
                    "limit": BATCH_ROWS,
                }
                rows = list(_observed(connection.sql(_BY_TIME_SQL, params=bounds).to_arrow_table()))
        watermark = rows[-1].received if rows else position.watermark
        version = table.version() if len(rows) < BATCH_ROWS else BY_TIME
        return Batch(rows, Position(version, watermark), caught_up=False)


def _observed(table: pa.Table) -> Iterator[Observed]:
    """Rows as events. Times become numbers in Arrow, which makes no object of each."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    schema = arrow_schema(RAW_EVENTS)
    for name in _COLUMNS:
        known = name in table.column_names  # an older release may not have written it
        column = table[name] if known else pa.nulls(len(table), schema.field(name).type)
        if name in _TIMES:
            micros = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
            columns[name] = [(value or 0) / 1e6 for value in micros.to_pylist()]
        else:
            nothing = "" if pa.types.is_string(column.type) else 0
            columns[name] = column.fill_null(nothing).to_pylist()
    for row in zip(*columns.values(), strict=True):
        identifier, device, module, name, details, first, end, received, hits, message = row
        decoded = msgspec.json.decode(details)
        size = len(details)
        yield Observed(identifier, device, module, name, decoded, first, end, received, hits, message, size)
