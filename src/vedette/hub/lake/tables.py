"""The tables of the lake: their columns, each declared once, and how they are created.

A row is a NamedTuple whose fields are the columns; Arrow, Delta and SQL types come from its annotations.
Field names are those of the documented `SecurityIoTRawEvent` table, so that queries written for it run.
How rows get in lives in `commit`, how they are read in `duckdb`.
"""

from __future__ import annotations

import typing
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from vedette.hub.lake.errors import LakeFault, reason
from vedette.hub.lake.storage import Storage, Where, at

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

PARTITION = "EventDate"
"""Column that every table is partitioned by: the day (UTC) on which the hub received the row.

The day of receipt and not of the event: a device's clock may say 1970 or 2106, which would scatter rows
over partitions that retention deletes at once or never.
"""

EARLIEST = date(2024, 1, 1)
"""Before this no clock was right under which this program ran. Days before it were given by one that was not;
their rows came at an unknown time, so they are taken for new, and never for old."""

CHECKPOINT_INTERVAL = 10
"""Commits between two checkpoints of the log. A commit reads the log back to the last checkpoint: with
400 live files its median took 13 ms at 10, 16 at 20, 20 at 50 and grew past 140 without checkpoints."""

LOG_RETENTION = "interval 10 minutes"
"""How long log entries that a checkpoint covers are kept. At ten commits a second this is 6,000 files;
delta-rs lists the whole log directory at each commit."""

REMOVED_FILE_RETENTION = "interval 15 minutes"
"""How long a file that compaction or retention replaced stays readable: longer than any query may run."""

ATTEMPTS = 50
"""Tries of one commit: each that fails means that another process's has succeeded."""


class RawEvent(NamedTuple):
    """One event of `raw_events`. Times are UTC; strings are empty where a value is not known.

    TimeGenerated: when the hub received it; TimeStamp: when the device first observed it, by its clock.
    WindowStart, WindowEnd: the aggregation window, by the device's clock. HitCount: observations.
    EventDetails: the payload as compact JSON, keys in the declared order.
    DeviceId, ModuleId, MessageId, EventIndex: together unique.
    """

    AgentVersion: str
    DeviceId: str
    ModuleId: str
    AssociatedResourceId: str
    AzureSubscriptionId: str
    EventDetails: str
    IoTRawEventId: str
    IsEmpty: bool
    RawEventCategory: str
    RawEventName: str
    RawEventType: str
    TimeGenerated: datetime
    TimeStamp: datetime
    HitCount: int
    WindowStart: datetime
    WindowEnd: datetime
    MessageId: str
    EventIndex: int
    EventDate: date


class DeadLetter(NamedTuple):
    """What the hub received but could not read, one row a message.

    EventIndex: the first unreadable event, -1 if the whole message is; Events: how many were unreadable
    (0 where it cannot be told). Body: that event or message, as far as DEAD_BODY_BYTES.
    """

    TimeGenerated: datetime
    DeviceId: str
    ModuleId: str
    MessageId: str
    EventIndex: int
    Events: int
    Reason: str
    Body: bytes
    EventDate: date


TableName: TypeAlias = Literal["raw_events", "dead_letters"]


class Table(NamedTuple):
    """A table: its directory below the lake's and its row type, which is sorted by device, then time."""

    name: TableName
    row: type[RawEvent] | type[DeadLetter]

    @property
    def columns(self) -> dict[str, type]:
        """Column → Python type, in order."""
        return typing.get_type_hints(self.row)

    def files(self, lake: Where) -> Storage:
        """Its directory."""
        return at(lake).below(self.name)


RAW_EVENTS = Table("raw_events", RawEvent)
DEAD_LETTERS = Table("dead_letters", DeadLetter)
TABLES = (RAW_EVENTS, DEAD_LETTERS)


class DataFile(NamedTuple):
    """A live data file: its name below the table's directory, its partition, its rows, its bytes."""

    name: str
    day: str
    rows: int
    size: int = 0


def live(table: DeltaTable) -> list[DataFile]:
    """The data files that the table's log names."""
    actions = table.get_add_actions(flatten=True)
    names = ("path", f"partition.{PARTITION}", "num_records", "size_bytes")
    columns = (actions[name].to_pylist() for name in names)
    return [DataFile(name, str(day), rows or 0, size) for name, day, rows, size in zip(*columns, strict=True)]


_FILE_TYPES = {
    str: "VARCHAR",
    bytes: "BLOB",
    bool: "BOOLEAN",
    int: "BIGINT",
    datetime: "TIMESTAMPTZ",
    date: "DATE",
}


def rows_of(table: Table, files: str = "$files", *, uniform: bool = False, partition: bool = False) -> str:
    """SQL for the rows of some data files with all declared columns; null in what an older release wrote.

    What a newer release has added is among the columns, the partition where it is asked for. uniform: see
    `is_uniform`; it spares looking into every file before the first row is read (300 files: 70 ms).
    """
    hive = f"hive_types = {{'{PARTITION}': DATE}}" if partition else "hive_partitioning = false"
    if uniform:
        return f"SELECT * FROM read_parquet({files}, {hive})"  # noqa: S608 - names are ours
    nulls = ", ".join(
        f"NULL::{_FILE_TYPES[kind]} AS {name}"
        for name, kind in table.columns.items()
        if partition or name != PARTITION
    )
    return (
        f"SELECT * FROM read_parquet({files}, {hive}, union_by_name = true) "  # noqa: S608
        f"UNION ALL BY NAME SELECT {nulls} WHERE false"
    )


def is_uniform(known: DeltaTable, table: Table) -> bool:
    """Whether every file of a table has just the columns that this release declares.

    A writer fills all columns that the table has, and a column that comes later stands behind the partition.
    """
    return [field.name for field in known.schema().fields] == list(table.columns)


def arrow_schema(table: Table) -> pa.Schema:
    """The table's Arrow schema, partition column last."""
    import pyarrow as pa

    types = {
        str: pa.string(),
        bytes: pa.binary(),
        bool: pa.bool_(),
        int: pa.int64(),
        datetime: pa.timestamp("us", "UTC"),
        date: pa.date32(),
    }
    return pa.schema([(name, types[kind]) for name, kind in table.columns.items()])


def unknown_columns(known: DeltaTable, table: Table) -> list[pa.Field[Any]]:
    """Columns of a table that this release does not declare: a newer one has added them."""
    import pyarrow as pa

    return [field for field in pa.schema(known.schema()) if field.name not in table.columns]


def utc(seconds: float) -> datetime:
    """A time of the border as a column value. Raises ValueError beyond the years 1 to 9999."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{seconds} is not a time: {error}") from None


def opened(files: Storage) -> DeltaTable:
    """The table in a directory as its log is now. Raises OSError, DeltaError."""
    from deltalake import DeltaTable

    return DeltaTable(files.uri, storage_options=files.options)


def open_tables(lake: Where) -> None:
    """Make sure that all tables are there, whole and with all columns. Raises LakeFault."""
    from deltalake.exceptions import DeltaError

    try:
        for table in TABLES:
            open_table(lake, table)
    except (OSError, DeltaError) as error:
        raise LakeFault(f"lake: {at(lake).uri} cannot be used: {reason(error)}") from None


def open_table(lake: Where, table: Table) -> DeltaTable:
    """The table, created if it does not exist, mended if a power failure tore its log, and with all columns.

    An older release wrote fewer: its rows have nulls in the new ones, and so has what it goes on to write.
    """
    files = table.files(lake)
    if not files.recover():
        return _create(files, table)
    known = opened(files)
    return _with_columns(known, files, table)


def _create(files: Storage, table: Table) -> DeltaTable:
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError

    files.prepare()
    # Two hubs may start on one lake: the slower one finds the table, or its commit refused.
    with suppress(CommitFailedError):
        DeltaTable.create(
            files.uri,
            arrow_schema(table),
            mode="ignore",
            partition_by=[PARTITION],
            configuration={
                "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
                "delta.logRetentionDuration": LOG_RETENTION,
                "delta.deletedFileRetentionDuration": REMOVED_FILE_RETENTION,
            },
            storage_options=files.options,
        )
    created = opened(files)
    files.sync_log(0, created.version())
    return created


def _with_columns(known: DeltaTable, files: Storage, table: Table) -> DeltaTable:
    """The table with the columns that this release declares; those of a newer one stay."""
    from deltalake.exceptions import CommitFailedError
    from deltalake.schema import Schema

    for attempt in range(1, ATTEMPTS + 1):
        present = {field.name for field in known.schema().fields}
        declared = Schema.from_arrow(arrow_schema(table)).fields
        missing = [field for field in declared if field.name not in present]
        if not missing:
            break
        try:
            known.alter.add_columns(missing)
        except CommitFailedError:  # others commit at the same time, or add the same columns
            if attempt == ATTEMPTS:
                raise
        before, known = known.version(), opened(files)
        files.sync_log(before + 1, known.version())
    return known
