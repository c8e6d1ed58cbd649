"""The tables of the lake: their columns, each declared once, and how they are created.

A row is a NamedTuple whose fields are the columns; Arrow, Delta and SQL types come from its annotations.
Field names are those of the documented `SecurityIoTRawEvent` table, so that queries written for it run.
How rows get in lives in `commit`, how they are read in `duckdb`.
"""

from __future__ import annotations

import os
import typing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vedette.hub.lake import durable

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

PARTITION = "EventDate"
"""Column that every table is partitioned by: the day (UTC) on which the hub received the row.

The day of receipt and not of the event: a device's clock may say 1970 or 2106, which would scatter rows
over partitions that retention deletes at once or never.
"""

CHECKPOINT_INTERVAL = 10
"""Commits between two checkpoints of the log. A commit reads the log back to the last checkpoint: with
400 live files its median took 13 ms at 10, 16 at 20, 20 at 50 and grew past 140 without checkpoints."""

LOG_RETENTION = "interval 10 minutes"
"""How long log entries that a checkpoint covers are kept. At ten commits a second this is 6,000 files;
delta-rs lists the whole log directory at each commit."""

REMOVED_FILE_RETENTION = "interval 15 minutes"
"""How long a file that compaction or retention replaced stays readable: longer than any query may run."""


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


class Table(NamedTuple):
    """A table: its directory below the lake's and its row type, which is sorted by device, then time."""

    name: str
    row: type[RawEvent] | type[DeadLetter]

    @property
    def columns(self) -> dict[str, type]:
        """Column → Python type, in order."""
        return typing.get_type_hints(self.row)

    def path(self, lake: Path) -> Path:
        """Its directory."""
        return lake / self.name


RAW_EVENTS = Table("raw_events", RawEvent)
DEAD_LETTERS = Table("dead_letters", DeadLetter)
TABLES = (RAW_EVENTS, DEAD_LETTERS)


class DataFile(NamedTuple):
    """A live data file: its name below the table's directory, its partition, its rows."""

    name: str
    day: str
    rows: int


def live(table: DeltaTable) -> list[DataFile]:
    """The data files that the table's log names."""
    actions = table.get_add_actions(flatten=True)
    columns = (actions[name].to_pylist() for name in ("path", f"partition.{PARTITION}", "num_records"))
    return [DataFile(name, str(day), rows or 0) for name, day, rows in zip(*columns, strict=True)]


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


def utc(seconds: float) -> datetime:
    """A time of the border as a column value. Raises ValueError beyond the years 1 to 9999."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{seconds} is not a time: {error}") from None


def open_table(lake: Path, table: Table) -> DeltaTable:
    """The table, created if it does not exist and mended if a power failure tore its log."""
    from deltalake import DeltaTable

    path = table.path(lake)
    if durable.recover(path):
        return DeltaTable(path)
    os.makedirs(path, mode=0o700, exist_ok=True)
    opened = DeltaTable.create(
        path,
        arrow_schema(table),
        mode="ignore",  # two hubs may start on one lake
        partition_by=[PARTITION],
        configuration={
            "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
            "delta.logRetentionDuration": LOG_RETENTION,
            "delta.deletedFileRetentionDuration": REMOVED_FILE_RETENTION,
        },
    )
    durable.sync_log(path, 0, opened.version())
    for directory in (path, lake, lake.parent):
        durable.sync(directory)
    return opened
