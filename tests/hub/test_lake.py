"""What is acknowledged survives power loss, full disks and failing commits, and is stored once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from hypothesis import given
from hypothesis import strategies as st
from lake_support import NOON, SECURITY, body, dead, intake, message, rows, sql, stored

from support import small_disk
from vedette.hub.intake import Inbound
from vedette.hub.lake import CommitFailed, Maintenance, commit, durable, maintain
from vedette.hub.lake.commit import TableWriter
from vedette.hub.lake.seen import Seen, key_of
from vedette.hub.lake.tables import RAW_EVENTS, open_table
from vedette.wire.iothub import Identity


class Disk:
    """What a disk would hold after power loss, by the least that POSIX promises.

    A file has the content of its last fsync, or none if it never had one; a directory has the entries of
    its last fsync.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.contents: dict[int, bytes] = {}
        self.entries: dict[Path, dict[str, int]] = {}
        self.kept: list[int] = []
        monkeypatch.setattr(durable, "sync", self.sync)

    def sync(self, path: Path) -> None:
        # An open descriptor keeps the inode number from being given to another file.
        descriptor = os.open(path, os.O_RDONLY)
        self.kept.append(descriptor)
        if path.is_dir():
            self.entries[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self.contents[os.fstat(descriptor).st_ino] = path.read_bytes()

    def after_power_loss(self, target: Path) -> None:
        """Rebuild the tree below `root` at `target`."""
        for directory, entries in list(self.entries.items()):
            if not directory.is_relative_to(self.root):
                continue
            copy = target / directory.relative_to(self.root)
            copy.mkdir(parents=True, exist_ok=True)
            for name, inode in entries.items():
                if (directory / name) not in self.entries and not (directory / name).is_dir():
                    (copy / name).write_bytes(self.contents.get(inode, b""))

    def close(self) -> None:
        for descriptor in self.kept:
            os.close(descriptor)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(tmp_path / "lake", monkeypatch)
    yield made
    made.close()


async def test_what_is_acknowledged_survives_power_loss_at_any_commit(tmp_path: Path, disk: Disk):
    """Cut after each acknowledgement, over checkpoints and merges, the lake mends and holds it all."""
    lake = tmp_path / "lake"
    upkeep = Maintenance(lake, retention_days=90)
    async with intake(lake) as hub:
        for number in range(21):
            await hub.submit(message("ls", mid=str(number), received=time.time()))
            if number % 6 == 5:
                upkeep.turn(datetime.now(UTC) + timedelta(days=1))
            after = tmp_path / f"after{number}"
            disk.after_power_loss(after)
            open_table(after, RAW_EVENTS)
            assert stored(after) == {f"{earlier}/0": 1 for earlier in range(number + 1)}
            shutil.rmtree(after)


async def test_the_hub_goes_on_after_power_loss(tmp_path: Path, disk: Disk):
    """The mended lake takes new messages, and knows the old ones again."""
    async with intake(tmp_path / "lake") as hub:
        for number in range(12):
            await hub.submit(message("ls", mid=str(number), received=time.time()))
    after = tmp_path / "after"
    disk.after_power_loss(after)
    async with intake(after) as hub:
        for number in range(14):
            await hub.submit(message("ls", mid=str(number), received=time.time()))
        assert hub.counters.duplicates == 12
    assert stored(after) == {f"{number}/0": 1 for number in range(14)}


def writer_with(lake: Path, count: int) -> TableWriter:
    writer = TableWriter(lake, RAW_EVENTS)
    for number in range(count):
        writer.append(rows(str(number)))
    return writer


def log_entry(lake: Path, version: int, suffix: str = "json") -> Path:
    return lake / "raw_events" / "_delta_log" / f"{version:020d}.{suffix}"


@pytest.mark.parametrize("torn", [b"", b'{"commitInfo":{}}\n{"add":{"path":', b"\0" * 512, b"[]\n"])
def test_a_torn_log_entry_is_set_aside(tmp_path: Path, torn: bytes):
    """What the log cannot have acknowledged is cut off and the rest is read."""
    writer_with(tmp_path, 4)
    log_entry(tmp_path, 4).write_bytes(torn)
    assert open_table(tmp_path, RAW_EVENTS).version() == 3
    assert stored(tmp_path) == {"0/0": 1, "1/0": 1, "2/0": 1}
    assert log_entry(tmp_path, 4, "json.torn").read_bytes() == torn


def test_entries_behind_a_missing_one_are_set_aside(tmp_path: Path):
    """A log with a hole was never acknowledged behind it."""
    writer_with(tmp_path, 5)
    log_entry(tmp_path, 3).unlink()
    assert open_table(tmp_path, RAW_EVENTS).version() == 2
    assert stored(tmp_path) == {"0/0": 1, "1/0": 1}


@pytest.mark.parametrize("torn", [b"", b"PAR1 and no more"])
def test_a_torn_checkpoint_is_set_aside(tmp_path: Path, torn: bytes):
    """The entries that a checkpoint sums up are still there, so nothing is lost with it."""
    writer_with(tmp_path, 23)
    newest = max((tmp_path / "raw_events" / "_delta_log").glob("*.checkpoint.parquet"))
    newest.write_bytes(torn)
    assert open_table(tmp_path, RAW_EVENTS).version() == 23
    assert stored(tmp_path) == {f"{number}/0": 1 for number in range(23)}


def test_an_empty_log_directory_is_no_table_yet(tmp_path: Path):
    """Killed while the table was being created, the hub creates it again."""
    (tmp_path / "raw_events" / "_delta_log").mkdir(parents=True)
    assert open_table(tmp_path, RAW_EVENTS).version() == 0
    writer_with(tmp_path, 1)
    assert stored(tmp_path) == {"0/0": 1}


def test_a_parquet_file_that_no_log_names_is_ignored_and_removed(tmp_path: Path):
    """A kill between file and log entry leaves a file, whole or torn, that the sweep takes away."""
    writer_with(tmp_path, 1)
    [real] = (tmp_path / "raw_events").glob("*/*.parquet")
    orphans = [real.with_name("part-whole.parquet"), real.with_name("part-torn.parquet")]
    orphans[0].write_bytes(real.read_bytes())
    orphans[1].write_bytes(real.read_bytes()[:100])
    past = time.time() - 2 * 86_400
    for orphan in orphans:
        os.utime(orphan, (past, past))
    assert stored(tmp_path) == {"0/0": 1}
    open_table(tmp_path, maintain.DEAD_LETTERS)
    Maintenance(tmp_path, retention_days=36_500).turn(datetime.fromtimestamp(NOON, UTC), sweep=True)
    assert [orphan.exists() for orphan in orphans] == [False, False]
    assert stored(tmp_path) == {"0/0": 1}


def broken(*_: object, **__: object) -> None:
    raise CommitFailedError("no space left")


def test_a_failed_commit_leaves_no_file_and_the_next_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The rows are certainly not there, so storing them again is safe."""
    writer = writer_with(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", broken)
        with pytest.raises(CommitFailed, match="no space left"):
            writer.append(rows("again"))
    assert len(list((tmp_path / "raw_events").glob("*/*.parquet"))) == 1
    writer.append(rows("again"))
    assert stored(tmp_path) == {"0/0": 1, "again/0": 1}


def test_a_commit_that_fails_after_it_was_made_counts_as_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The log is asked, not the exception: a checkpoint that does not fit undoes nothing."""
    writer = writer_with(tmp_path, 1)
    made = DeltaTable.create_write_transaction

    def late(*arguments: object, **options: object) -> None:
        made(*arguments, **options)  # type: ignore[arg-type]
        raise OSError("no space left for a checkpoint")

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", late)
        writer.append(rows("1"))
    writer.append(rows("2"))
    assert stored(tmp_path) == {"0/0": 1, "1/0": 1, "2/0": 1}


@pytest.mark.parametrize("made", [True, False])
async def test_a_commit_in_doubt_is_neither_acknowledged_nor_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool
):
    """While the log cannot be read the device waits; then it learns what really happened."""
    monkeypatch.setattr(commit, "SETTLE_RETRY_S", 0.02)
    transact = DeltaTable.create_write_transaction
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fails(*arguments: object, **options: object) -> None:
        if made:
            transact(*arguments, **options)  # type: ignore[arg-type]
        raise OSError("input/output error")

    def unreadable(*_: object) -> DeltaTable:
        loop.call_soon_threadsafe(asked.set)
        raise OSError("input/output error")

    async with intake(tmp_path) as hub:
        with monkeypatch.context() as patch:
            patch.setattr(DeltaTable, "create_write_transaction", fails)
            patch.setattr(commit, "opened", unreadable)
            waiting = asyncio.create_task(hub.submit(message("ls", mid="a")))
            await asked.wait()
            asked.clear()
            await asked.wait()
            assert not waiting.done()
            assert hub.fault == "input/output error"
        if made:
            await waiting
        else:
            with pytest.raises(CommitFailed):
                await waiting
        await hub.submit(message("ls", mid="a"))
        assert hub.fault == ""
        assert hub.counters.duplicates == made
    assert stored(tmp_path) == {"a/0": 1}


def test_a_log_whose_sync_failed_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A second fsync would lie, so the entry gets new pages and the same content."""
    writer = writer_with(tmp_path, 1)
    failing = iter([OSError("input/output error")])
    sync_log = durable.sync_log

    def once(table: Path, first: int, last: int, *, again: bool = False) -> None:
        for error in failing:
            raise error
        assert again
        sync_log(table, first, last, again=again)

    before = {}
    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync_log", once)
        writer.append(rows("1"))
        before = {path.name for path in (tmp_path / "raw_events" / "_delta_log").iterdir()}
    assert log_entry(tmp_path, 2).name in before
    assert stored(tmp_path) == {"0/0": 1, "1/0": 1}


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path):
    """Wherever the space runs out, what was acknowledged is there once, and room makes it work again."""
    with small_disk(tmp_path / "disk", "4m") as root:
        acknowledged: set[str] = set()
        async with intake(root / "lake") as hub:
            for number, left in enumerate(range(0, 60_000, 6_000)):
                ballast = root / "ballast"
                usage = shutil.disk_usage(root)
                ballast.write_bytes(b"x" * max(0, usage.free - left))
                refused = 0
                for attempt in range(3):
                    mid = f"{number}.{attempt}"
                    try:
                        await hub.submit(message("ls", mid=mid, received=time.time()))
                        acknowledged.add(mid)
                    except CommitFailed:
                        refused += 1
                        assert "o space left" in hub.fault
                assert left or refused == 3
                ballast.unlink()
                for attempt in range(3):
                    await hub.submit(message("ls", mid=f"{number}.{attempt}", received=time.time()))
                    acknowledged.add(f"{number}.{attempt}")
                assert hub.fault == ""
        async with intake(root / "lake") as hub:
            await hub.submit(message("ls", mid="0.0", received=time.time()))
            assert hub.counters.duplicates == 1
        assert stored(root / "lake") == {f"{mid}/0": 1 for mid in acknowledged}


async def test_dead_letters_are_stored_once_even_if_their_message_had_to_be_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The two tables commit one after the other; the second may fail alone."""
    document = json.loads(body("a", "b"))
    document["events"][0]["payload_type"] = "Nonsense"
    half = Inbound(Identity("d1"), SECURITY | {"$.mid": "half"}, json.dumps(document).encode(), NOON)
    transact = DeltaTable.create_write_transaction

    def events_fail(table: DeltaTable, *arguments: object, **options: object) -> None:
        if "raw_events" in table.table_uri:
            raise OSError("no space left")
        transact(table, *arguments, **options)  # type: ignore[arg-type]

    async with intake(tmp_path) as hub:
        with monkeypatch.context() as patch:
            patch.setattr(DeltaTable, "create_write_transaction", events_fail)
            with pytest.raises(CommitFailed):
                await hub.submit(half)
        await hub.submit(half)
    assert [(index, count) for _, index, count in dead(tmp_path)] == [(0, 1)]
    assert stored(tmp_path) == {"half/1": 1}


async def test_senders_wait_while_the_lake_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What waits for a commit stays within its bound, and all of it arrives."""
    monkeypatch.setattr(commit, "PENDING_ROWS", 10)
    most = 0
    append = TableWriter.append

    def measured(writer: TableWriter, batch: list) -> None:
        nonlocal most
        most = max(most, len(batch))
        append(writer, batch)

    monkeypatch.setattr(TableWriter, "append", measured)
    async with intake(tmp_path) as hub:
        await asyncio.gather(*(hub.submit(message("a", "b", "c", mid=str(number))) for number in range(20)))
    assert most == 9
    assert sum(stored(tmp_path).values()) == 60


async def test_a_message_larger_than_the_bound_is_taken_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The bound delays and never blocks for ever."""
    monkeypatch.setattr(commit, "PENDING_ROWS", 1)
    async with intake(tmp_path) as hub:
        await hub.submit(message("a", "b", "c", mid="large"))
    assert sum(stored(tmp_path).values()) == 3


async def test_two_hubs_write_to_one_lake(tmp_path: Path):
    """Writers do not wait for each other and lose nothing to each other."""
    async with intake(tmp_path) as one, intake(tmp_path) as other:
        for number in range(5):
            await asyncio.gather(
                one.submit(message("ls", mid=f"one {number}")),
                other.submit(message("ls", mid=f"other {number}")),
            )
    assert len(stored(tmp_path)) == sum(stored(tmp_path).values()) == 10


@given(st.lists(st.integers(0, 30), max_size=200))
def test_the_index_remembers_the_newest_keys(numbers: list[int]):
    """It never holds more than its capacity, nor forgets any of the newest three quarters."""
    seen = Seen(8)
    order: list[int] = []
    for number in numbers:
        key = key_of("d", "m", str(number))
        if key not in seen:
            seen.add(key)
            order.append(number)
        assert len(seen) <= 8
    assert all(key_of("d", "m", str(number)) in seen for number in order[-6:])


def test_keys_keep_the_parts_of_an_identity_apart():
    """Device a, module bc is not device ab, module c."""
    assert key_of("a", "bc", "1") != key_of("ab", "c", "1")
    assert key_of("a", "b", "1") != key_of("a", "b", "1", b"dead letter")


def test_other_engines_read_the_table(tmp_path: Path):
    """Through delta-rs itself: schema, row counts in the log, and values."""
    writer_with(tmp_path, 3)
    table = DeltaTable(tmp_path / "raw_events")
    assert [field.name for field in table.schema().fields] == list(RAW_EVENTS.columns)
    assert table.to_pyarrow_table().num_rows == 3
    assert table.get_add_actions(flatten=True)["num_records"].to_pylist() == [1, 1, 1]
    assert sql(tmp_path, "SELECT count(*) FROM raw_events") == [(3,)]
