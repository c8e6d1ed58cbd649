"""Several processes on one lake: a message that comes to two of them is stored once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lake_support import dead, intake, message, stored

from vedette.hub.intake import Inbound, Intake, rows_of
from vedette.hub.lake.commit import TableWriter
from vedette.hub.lake.others import message_key
from vedette.hub.lake.tables import RAW_EVENTS
from vedette.wire.iothub import Identity

MESSAGES = 200
WRITERS = 3


def rows(*mids: str) -> list:
    return [row for mid in mids for row in rows_of(message("ls", mid=mid, received=time.time()), mid).events]


def test_a_batch_leaves_out_what_another_process_has_stored(tmp_path: Path):
    """The rest of the batch is stored; the keys of what was left out are returned."""
    first, second = TableWriter(tmp_path, RAW_EVENTS), TableWriter(tmp_path, RAW_EVENTS)
    assert first.append(rows("a", "b")) == frozenset()
    [twice] = rows("b")
    assert second.append(rows("b", "c")) == {message_key(twice)}
    assert second.append(rows("a")) == {message_key(rows("a")[0])}
    assert stored(tmp_path) == {"a/0": 1, "b/0": 1, "c/0": 1}
    assert len(list((tmp_path / RAW_EVENTS.name).glob("*/*.parquet"))) == 2, "no file without a purpose stays"


def test_a_commit_that_is_overtaken_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another process stores the same message between our look into the log and our commit."""
    first, second = TableWriter(tmp_path, RAW_EVENTS), TableWriter(tmp_path, RAW_EVENTS)
    commit = TableWriter._commit

    def overtaken(writer: TableWriter, adds: list) -> None:
        monkeypatch.setattr(TableWriter, "_commit", commit)
        second.append(rows("a"))
        commit(writer, adds)

    monkeypatch.setattr(TableWriter, "_commit", overtaken)
    assert first.append(rows("a", "b")) == {message_key(rows("a")[0])}
    assert stored(tmp_path) == {"a/0": 1, "b/0": 1}


def test_a_process_that_wrote_nothing_for_long_still_finds_out(tmp_path: Path):
    """The log behind its place has been cleaned up: it reads the table instead."""
    busy, idle = TableWriter(tmp_path, RAW_EVENTS), TableWriter(tmp_path, RAW_EVENTS)
    for number in range(12):
        busy.append(rows(str(number)))
    for version in range(8):  # a checkpoint at 10 covers them
        (tmp_path / RAW_EVENTS.name / "_delta_log" / f"{version:020d}.json").unlink()
    assert len(idle.append(rows("1", "11", "new"))) == 2
    assert stored(tmp_path) == {f"{mid}/0": 1 for mid in [*map(str, range(12)), "new"]}


async def test_a_message_sent_again_to_another_hub_is_acknowledged_and_not_stored(tmp_path: Path):
    """Read or unreadable: the second hub counts a duplicate, and its live tail does not show it again."""
    good = message("ls", mid="a", received=time.time())
    bad = Inbound(Identity("d1"), good.properties | {"$.mid": "bad"}, b"{", time.time())
    async with intake(tmp_path) as first, intake(tmp_path) as second:
        for inbound in (good, bad):
            await asyncio.gather(first.submit(inbound), second.submit(inbound))
        assert first.counters.events + second.counters.events == 1
        assert first.counters.duplicates + second.counters.duplicates == 1
        assert first.counters.dead_letters + second.counters.dead_letters == 1
    assert stored(tmp_path) == {"a/0": 1}
    assert len(dead(tmp_path)) == 1


async def ingest(lake: Path) -> None:
    """A hub to which a device sends all messages, 20 at a time as the SDKs do."""
    hub = Intake(lake)
    await hub.start()
    waiting = iter(range(MESSAGES))

    async def sender() -> None:
        for number in waiting:
            await hub.submit(message("ls", "id", mid=f"m{number}", received=time.time()))

    await asyncio.gather(*(sender() for _ in range(20)))
    await hub.close()


def test_hubs_that_get_the_same_messages_at_once_store_each_once(tmp_path: Path):
    """Three processes, each in a race with the others for every message."""
    hubs = [subprocess.Popen([sys.executable, __file__, str(tmp_path)]) for _ in range(WRITERS)]
    assert [hub.wait() for hub in hubs] == [0] * WRITERS
    assert stored(tmp_path) == {f"m{number}/{index}": 1 for number in range(MESSAGES) for index in (0, 1)}


if __name__ == "__main__":
    asyncio.run(ingest(Path(sys.argv[1])))
