"""The lake is kept small beside ingestion, without changing what it holds."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st
from lake_support import NOON, dead, intake, message, sql, stored

from vedette.hub.intake import Inbound, rows_of
from vedette.hub.lake import Maintenance, maintain, tables
from vedette.hub.lake.commit import TableWriter
from vedette.hub.lake.maintain import FAN_IN, MERGE_ROWS, TIERS, DataFile, plan
from vedette.hub.lake.tables import DEAD_LETTERS, RAW_EVENTS, TABLES, open_table
from vedette.wire.iothub import Identity

DAY = timedelta(days=1)
NOW = datetime.fromtimestamp(NOON, UTC)
TODAY = NOW.date()


def fill(lake: Path, count: int, *, received: float = NOON, prefix: str = "") -> None:
    """So many commits of one event."""
    for table in TABLES:
        open_table(lake, table)
    writer = TableWriter(lake, RAW_EVENTS)
    for number in range(count):
        mid = f"{prefix}{number}"
        sent = message("ls", mid=mid, received=received, device=f"d{number % 5}")
        writer.append(rows_of(sent, mid).events)


def data_files(lake: Path) -> list[Path]:
    return sorted((lake / "raw_events").glob("*/*.parquet"))


def live_files(lake: Path) -> int:
    return len(DeltaTable(lake / "raw_events").file_uris())


FILES = st.builds(
    DataFile,
    st.uuids().map(str),
    st.sampled_from(["2025-12-30", "2025-12-31", "2026-01-01"]),
    st.integers(0, TIERS[-1] * 2),
)


@given(st.lists(FILES, max_size=400, unique_by=lambda file: file.name))
def test_a_merge_is_of_one_day_bounded_and_disjoint_from_others(files: list[DataFile]):
    """Whatever files there are, no file is merged twice, alone, across days or beyond the bound."""
    merges = plan(files, TODAY)
    names = [file.name for merge in merges for file in merge]
    assert len(names) == len(set(names))
    for merge in merges:
        assert len(merge) > 1
        assert len({file.day for file in merge}) == 1
        assert sum(file.rows for file in merge) <= MERGE_ROWS


@pytest.mark.parametrize(("count", "merges"), [(FAN_IN - 1, 0), (FAN_IN, 1)])
def test_small_files_of_today_are_merged_once_enough_have_gathered(count: int, merges: int):
    """A merge costs a commit, so a few files wait."""
    files = [DataFile(str(number), TODAY.isoformat(), 5) for number in range(count)]
    assert len(plan(files, TODAY)) == merges


def test_a_merged_file_waits_for_others_of_its_size():
    """It is not rewritten with every hundred small ones."""
    files = [DataFile(str(number), TODAY.isoformat(), 5) for number in range(FAN_IN)]
    large = DataFile("large", TODAY.isoformat(), TIERS[0])
    [merge] = plan([*files, large], TODAY)
    assert large not in merge


def test_a_day_that_is_over_is_merged_whole():
    """Two files are enough, and once there is one it is left alone."""
    yesterday = (TODAY - DAY).isoformat()
    two = [DataFile("a", yesterday, 5), DataFile("b", yesterday, 50_000)]
    assert plan(two, TODAY) == [two]
    assert plan(two[:1], TODAY) == []


def test_a_merge_changes_no_row_and_sorts_them(tmp_path: Path):
    """The rows, their types and the table's schema are the same in one file as in thirty."""
    fill(tmp_path, 30)
    before = DeltaTable(tmp_path / "raw_events").to_pyarrow_table()
    Maintenance(tmp_path, retention_days=90).turn(NOW + DAY)
    table = DeltaTable(tmp_path / "raw_events")
    assert len(table.file_uris()) == 1
    keys = [("MessageId", "ascending")]
    assert table.to_pyarrow_table().sort_by(keys).equals(before.sort_by(keys))
    assert table.get_add_actions(flatten=True)["num_records"].to_pylist() == [30]
    assert table.metadata().partition_columns == ["EventDate"]
    order = sql(tmp_path, "SELECT DeviceId FROM raw_events")
    assert order == sorted(order)


def test_days_beyond_retention_are_dropped(tmp_path: Path):
    """Whole partitions go, by day of receipt; the first day that is kept stays whole."""
    for age in range(4):
        fill(tmp_path, 2, received=NOON - age * 86_400, prefix=f"{age}-")
    upkeep = Maintenance(tmp_path, retention_days=2)
    upkeep.turn(NOW)
    assert set(stored(tmp_path)) == {f"{age}-{number}/0" for age in range(3) for number in range(2)}
    assert upkeep.state.expired_files == 2


async def test_dead_letters_have_a_retention_of_their_own(tmp_path: Path):
    """They go after two weeks however long events are kept."""
    async with intake(tmp_path) as hub:
        await hub.submit(message("ls", received=NOON - 86_400))
        for age in (0, 14, 15):
            await hub.submit(Inbound(Identity("d1"), {"$.mid": str(age)}, b"21", NOON - age * 86_400))
    Maintenance(tmp_path, retention_days=3650).turn(NOW)
    assert len(dead(tmp_path)) == 2


def test_replaced_files_stay_until_no_query_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A sweep right after a merge removes nothing; one after the retention removes them."""
    fill(tmp_path, 3)
    Maintenance(tmp_path, retention_days=90).turn(NOW + DAY, sweep=True)
    assert len(data_files(tmp_path)) == 4
    monkeypatch.setattr(tables, "REMOVED_FILE_RETENTION", "interval 0 seconds")
    other = tmp_path / "other"
    fill(other, 3)
    upkeep = Maintenance(other, retention_days=90)
    upkeep.turn(NOW + DAY)
    upkeep.turn(NOW + DAY, sweep=True)
    assert upkeep.state.swept_files == 3
    assert len(data_files(other)) == 1
    assert stored(other) == {f"{number}/0": 1 for number in range(3)}


def test_log_entries_behind_a_checkpoint_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The log does not grow for ever, and a lake with a trimmed log is opened and mended like any other."""
    monkeypatch.setattr(tables, "LOG_RETENTION", "interval 0 seconds")
    fill(tmp_path, 35)
    Maintenance(tmp_path, retention_days=90).turn(NOW, sweep=True)
    entries = list((tmp_path / "raw_events" / "_delta_log").glob("*.json"))
    assert len(entries) < 15
    fill(tmp_path, 5, prefix="later ")
    assert len(stored(tmp_path)) == 40


def test_maintenance_that_was_overtaken_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two hubs merge the same files: one discards its work, and no row is doubled or lost."""
    fill(tmp_path, 6)
    slow, fast = (Maintenance(tmp_path, retention_days=90) for _ in range(2))
    upkeep = slow._upkeep[0]
    copy = upkeep._sorted_copy

    def overtaken(files: list[DataFile]) -> object:
        made = copy(files)
        fast.turn(NOW + DAY)
        return made

    monkeypatch.setattr(upkeep, "_sorted_copy", overtaken)
    slow.turn(NOW + DAY)
    assert [slow.state.overtaken, slow.state.merges, fast.state.merges] == [1, 0, 1]
    assert stored(tmp_path) == {f"{number}/0": 1 for number in range(6)}
    assert len(data_files(tmp_path)) == 7


def test_a_removal_that_an_append_overtook_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is committed only on a log in which the files are still live, and both commits stand."""
    fill(tmp_path, 3)
    upkeep = Maintenance(tmp_path, retention_days=90)
    events = upkeep._upkeep[0]
    opened = events._open
    between = [1, 1]

    def then_appended() -> DeltaTable:
        table = opened()
        if len(data_files(tmp_path)) >= 4 and between:  # the merged file is written
            between.pop()
            fill(tmp_path, 1, prefix=f"between {len(between)} ")
        return table

    monkeypatch.setattr(events, "_open", then_appended)
    events.merge(TODAY + DAY)
    assert (upkeep.state.conflicts, upkeep.state.merges) == (2, 1)
    assert sum(stored(tmp_path).values()) == len(stored(tmp_path)) == 5


async def test_ingestion_goes_on_while_the_lake_is_maintained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Merging and expiring without pause neither stops nor fails a commit, and every row is there once."""
    monkeypatch.setattr(maintain, "FAN_IN", 4)
    fill(tmp_path, 3, received=NOON - 365 * 86_400, prefix="old ")
    fill(tmp_path, 1, received=time.time() - 86_400, prefix="yesterday ")
    upkeep = Maintenance(tmp_path, retention_days=90, period=0.01)
    async with intake(tmp_path) as hub:
        await upkeep.start()
        now = datetime.now(UTC).timestamp()
        for round_ in range(20):
            sent = (message("ls", mid=f"{round_}-{number}", received=now) for number in range(5))
            await asyncio.gather(*map(hub.submit, sent))
        await upkeep.close()
        assert hub.commits.failures == 0
    assert upkeep.state.failing == ""
    assert upkeep.state.merges > 0
    assert upkeep.state.expired_files == 3
    new = (f"{round_}-{number}/0" for round_ in range(20) for number in range(5))
    assert stored(tmp_path) == Counter(["yesterday 0/0", *new])
    assert live_files(tmp_path) < 20


async def test_failing_maintenance_is_visible_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A full disk ends no thread: the state says why, until a turn succeeds."""
    fill(tmp_path, 1)
    upkeep = Maintenance(tmp_path, retention_days=90, period=0.01)
    turned = asyncio.Event()
    loop = asyncio.get_running_loop()
    faults = [OSError("no space left on device")]

    def turn(now: datetime, *, sweep: bool = False) -> None:
        loop.call_soon_threadsafe(turned.set)
        if faults:
            raise faults[0]

    monkeypatch.setattr(upkeep, "turn", turn)
    await upkeep.start()
    for _ in range(2):
        await turned.wait()
        turned.clear()
    assert upkeep.state.failing == "no space left on device"
    faults.clear()
    for _ in range(3):
        await turned.wait()
        turned.clear()
    await upkeep.close()
    assert upkeep.state.failing == ""


def test_an_empty_lake_needs_nothing(tmp_path: Path):
    """There is nothing to merge, expire or sweep, and that is no error."""
    for table in (RAW_EVENTS, DEAD_LETTERS):
        open_table(tmp_path, table)
    upkeep = Maintenance(tmp_path, retention_days=1)
    upkeep.turn(datetime.combine(date(2030, 1, 1), datetime.min.time(), UTC), sweep=True)
    assert (upkeep.state.merges, upkeep.state.expired_files) == (0, 0)


class Claimed:
    """A lease that a test gives and takes."""

    def __init__(self, token: int) -> None:
        self.token, self.held = token, True

    def claim(self) -> bool:
        return self.held

    def release(self) -> None:
        self.held = False


def test_only_the_holder_of_the_lease_maintains(tmp_path: Path):
    """The others stand by, and take over where it stopped."""
    fill(tmp_path, 3)
    lease = Claimed(1)
    lease.held = False
    upkeep = Maintenance(tmp_path, retention_days=90, lease=lease)
    upkeep.turn(NOW + DAY)
    assert (upkeep.state.holder, upkeep.state.merges) == (False, 0)
    lease.held = True
    upkeep.turn(NOW + DAY)
    assert (upkeep.state.holder, upkeep.state.merges) == (True, 1)


def test_a_holder_that_lost_the_lease_unnoticed_cannot_commit(tmp_path: Path):
    """The log has seen a higher token; the files that it would replace are live, and stay as they are."""
    slow, fast = (Maintenance(tmp_path, retention_days=90, lease=Claimed(token)) for token in (1, 2))
    fill(tmp_path, 4)
    fast.turn(NOW + DAY)
    fill(tmp_path, 2, prefix="later ")
    slow.turn(NOW + DAY)
    assert (slow.state.overtaken, slow.state.merges, live_files(tmp_path)) == (1, 0, 3)
    fast.turn(NOW + DAY)
    assert (fast.state.merges, live_files(tmp_path)) == (2, 1)
    assert len(stored(tmp_path)) == 6


def test_tables_may_be_kept_for_days_of_their_own(tmp_path: Path):
    """One default, and what is said of a table by name."""
    upkeep = Maintenance(tmp_path, retention_days=30, retention={"dead_letters": 60})
    assert [table._days for table in upkeep._upkeep] == [30, 60]


def test_a_clock_that_leaps_ahead_removes_nothing(tmp_path: Path):
    """Not the data, and not files that are about to be committed; set right, retention goes on."""
    fill(tmp_path, 2, received=NOON - 86_400, prefix="yesterday ")
    fill(tmp_path, 2)
    [orphan, *_] = data_files(tmp_path)
    orphan = orphan.with_name("part-about-to-be-committed.parquet")
    orphan.write_bytes(b"PAR1")
    upkeep = Maintenance(tmp_path, retention_days=30)
    upkeep.turn(NOW)
    before = stored(tmp_path)
    for leap in (400 * DAY, 401 * DAY, -400 * DAY, 0 * DAY):
        upkeep.turn(NOW + leap, sweep=True)
        assert stored(tmp_path) == before
        assert orphan.exists()
    assert "leapt" in upkeep.state.held


def test_a_hub_that_starts_with_a_clock_far_ahead_removes_nothing(tmp_path: Path):
    """Though it takes events under the wrong day already."""
    fill(tmp_path, 2)
    fill(tmp_path, 2, received=NOON + 400 * 86_400, prefix="wrong ")
    upkeep = Maintenance(tmp_path, retention_days=30)
    upkeep.turn(NOW + 400 * DAY)
    assert (upkeep.state.expired_files, len(stored(tmp_path))) == (0, 4)


async def test_what_came_while_the_clock_was_wrong_is_kept_and_known(tmp_path: Path):
    """In 1970 and in 2106: stored once, known again after a restart, and never taken for old."""
    wrong = {"unset": 60.0, "ahead": 4_291_747_200.0}
    now = time.time()
    async with intake(tmp_path) as hub:
        await hub.submit(message("ls", mid="before", received=now - 86_400))
        for mid, received in wrong.items():
            await hub.submit(message("ls", mid=mid, received=received))
        await hub.submit(message("ls", mid="after", received=now))
    upkeep = Maintenance(tmp_path, retention_days=1)
    upkeep.turn(datetime.fromtimestamp(now, UTC), sweep=True)
    assert upkeep.state.held == ""
    async with intake(tmp_path) as hub:
        for mid in ("before", *wrong, "after"):
            await hub.submit(message("ls", mid=mid, received=now))
        assert hub.counters.duplicates == 4
    assert stored(tmp_path) == {f"{mid}/0": 1 for mid in ("before", *wrong, "after")}
