"""One lake, written by releases that know different columns: each reads and writes it, and none is lost."""

from __future__ import annotations

import itertools
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from lake_support import intake, message, sql, stored

from vedette.hub.detect.changes import BY_TIME, Changes, Position
from vedette.hub.intake import rows_of
from vedette.hub.lake import Maintenance
from vedette.hub.lake.commit import TableWriter
from vedette.hub.lake.tables import PARTITION, RAW_EVENTS, Table, arrow_schema, open_table, utc

MISSING = ("HitCount", "AgentVersion", "WindowEnd")
"""Columns that the older release did not know."""

NOW = time.time()

OlderEvent = NamedTuple(  # type: ignore[misc]
    "OlderEvent", [(name, kind) for name, kind in RAW_EVENTS.columns.items() if name not in MISSING]
)
NewerEvent = NamedTuple("NewerEvent", [*RAW_EVENTS.columns.items(), ("Risk", int)])  # type: ignore[misc]

OLDER, NEWER = Table("raw_events", OlderEvent), Table("raw_events", NewerEvent)
ROWS = {mid: rows_of(message("ls", mid=mid, received=NOW), mid).events for mid in ("old", "older", "new")}


def older(mid: str) -> list[Any]:
    """The rows of a message as the older release stores them."""
    return [OlderEvent(*(getattr(row, name) for name in OlderEvent._fields)) for row in ROWS[mid]]


def columns(lake: Path) -> set[str]:
    return {field.name for field in DeltaTable(lake / "raw_events").schema().fields}


def by_hand(lake: Path, mid: str) -> None:
    """What an older release has left, without any code of ours."""
    schema = arrow_schema(OLDER)
    values = zip(*older(mid), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    rows = pa.Table.from_arrays(arrays, schema=schema)
    write_deltalake(lake / "raw_events", rows, partition_by=[PARTITION], mode="append")


async def test_a_lake_of_an_older_release_goes_on(tmp_path: Path):
    """Its rows have nulls in the new columns; new ones have values; old messages are known again."""
    by_hand(tmp_path, "old")
    assert sql(tmp_path, "SELECT MessageId, HitCount FROM raw_events") == [("old", None)], "before any start"
    async with intake(tmp_path) as hub:
        for mid in ("old", "new"):
            await hub.submit(message("ls", mid=mid, received=NOW))
        assert hub.counters.duplicates == 1
    assert columns(tmp_path) == set(RAW_EVENTS.columns)
    assert sql(tmp_path, "SELECT MessageId, HitCount, WindowEnd IS NULL FROM raw_events ORDER BY 1") == [
        ("new", 1, False),
        ("old", None, True),
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(["old", "new"])))
def test_both_releases_write_at_the_same_time(tmp_path: Path, order: tuple[str, str]):
    """Whoever starts first; the older one goes on when the newer adds its columns, and after a restart."""
    open_table(tmp_path, {"old": OLDER, "new": RAW_EVENTS}[order[0]])
    old, new = TableWriter(tmp_path, OLDER), TableWriter(tmp_path, RAW_EVENTS)
    old.append(older("old"))
    new.append(ROWS["new"])
    TableWriter(tmp_path, OLDER).append(older("older"))
    assert stored(tmp_path) == {"old/0": 1, "older/0": 1, "new/0": 1}
    known = "SELECT MessageId FROM raw_events WHERE HitCount IS NOT NULL"
    assert sql(tmp_path, known) == [("new",)]
    assert columns(tmp_path) == set(RAW_EVENTS.columns)


def test_a_merge_by_the_older_release_keeps_the_newer_ones_columns(tmp_path: Path, monkeypatch):
    """It does not know them, and loses none of their values."""
    new = TableWriter(tmp_path, RAW_EVENTS)
    new.append(ROWS["new"])
    TableWriter(tmp_path, OLDER).append(older("old"))
    monkeypatch.setattr("vedette.hub.lake.maintain.TABLES", (OLDER,))
    upkeep = Maintenance(tmp_path, retention_days=90)
    upkeep.turn(utc(NOW) + timedelta(days=1))
    assert upkeep.state.merges == 1
    assert sql(tmp_path, "SELECT MessageId, HitCount FROM raw_events ORDER BY 1") == [
        ("new", 1),
        ("old", None),
    ]


async def test_a_lake_of_a_newer_release_is_read_and_written(tmp_path: Path):
    """Columns that this release does not know stay, and are null in what it writes."""
    open_table(tmp_path, NEWER)
    async with intake(tmp_path) as hub:
        await hub.submit(message("ls", mid="a", received=NOW))
    assert "Risk" in columns(tmp_path)
    assert stored(tmp_path) == {"a/0": 1}
    [file] = (tmp_path / "raw_events").glob("*/*.parquet")
    assert pa.parquet.read_schema(file).field("Risk").type == pa.int64()


@pytest.mark.parametrize("version", [0, BY_TIME])
def test_detection_reads_rows_of_either_release(tmp_path: Path, version: int):
    """Commit by commit, and by time of receipt; what is not known is nothing."""
    TableWriter(tmp_path, OLDER).append(older("old"))
    if version == 0:
        TableWriter(tmp_path, RAW_EVENTS).append(ROWS["new"])
    batch = Changes(tmp_path).after(Position(version, NOW - 60))
    assert [event.hits for event in batch.events] == ([0, 1] if version == 0 else [0])
