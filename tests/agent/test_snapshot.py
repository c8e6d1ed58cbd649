"""Snapshots are told when they changed, whole now and then, in parts that fit; a restart repeats nothing."""

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.collectors import snapshot
from vedette.agent.collectors.snapshot import MAX_ITEMS, PART_BYTES, Part, SnapshotCollector
from vedette.agent.losses import TOO_MANY_ITEMS, Loss, Losses
from vedette.wire.events import Package, SBoM
from vedette.wire.message import PROPERTY_BYTES, Window, pack
from vedette.wire.twin import Priority, Settings

DAY = 86_400.0
NOW = 1_800_000_000.0


class Shelf(SnapshotCollector[Package]):
    """A snapshot of what the test puts on it."""

    name = "Shelf"
    source = "test"

    def __init__(self, state: Path) -> None:
        super().__init__(state, clock=lambda: self.now)
        self.now = NOW
        self.items: list[Package] = []
        self.note = ""

    def enabled(self, settings: Settings) -> bool:
        return True

    def priority(self, settings: Settings) -> Priority:
        return Priority.LOW

    def full_every(self, settings: Settings) -> int:
        return 30

    def read(self, losses: Losses) -> Iterator[Package]:
        return iter(self.items)

    def lasting(self, item: Package) -> Package:
        return msgspec.structs.replace(item, vendor="")

    def remarks(self) -> tuple[str, ...]:
        return (self.note,)

    def payload(self, part: Part[Package]) -> SBoM:
        return SBoM(
            snapshot_id=part.snapshot_id,
            previous_id=part.previous_id,
            part=part.number,
            parts=part.of,
            packages=part.items,
            removed=part.removed,
            total=part.total,
        )


class Ledger(Shelf):
    """The same, telling changes one by one."""

    changes_only = True

    def key(self, item: Package) -> str:
        return item.purl


def package(name: str, version: str = "1", vendor: str = "") -> Package:
    return Package(name=name, version=version, vendor=vendor, purl=f"pkg:deb/debian/{name}")


async def told(shelf: Shelf) -> list[SBoM]:
    """The payloads of one cycle; nothing may be lost."""
    collected = await shelf.collect()
    assert collected.losses == []
    return [event.payload for event in collected.events]


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path)
    await shelf.start(Settings())
    return shelf


@pytest.fixture
async def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path)
    await ledger.start(Settings())
    return ledger


async def test_what_did_not_change_is_not_told_again(shelf: Shelf):
    """The second cycle of a quiet device sends nothing, in whatever order the items come."""
    shelf.items = [package("a"), package("b")]
    (first,) = await told(shelf)
    assert first.packages == (package("a"), package("b"))
    shelf.items.reverse()
    assert await told(shelf) == []


async def test_a_change_is_told_whole(shelf: Shelf):
    """Short snapshots are told as they are now, so that the latest is all one needs."""
    shelf.items = [package("a"), package("b")]
    (first,) = await told(shelf)
    shelf.items = [package("a"), package("c")]
    (second,) = await told(shelf)
    assert second.packages == (package("a"), package("c"))
    assert second.snapshot_id != first.snapshot_id


async def test_what_may_differ_is_no_change(shelf: Shelf):
    """A difference in a field that `lasting` leaves out is not told."""
    shelf.items = [package("a", vendor="one")]
    await told(shelf)
    shelf.items = [package("a", vendor="another")]
    assert await told(shelf) == []


async def test_an_empty_state_is_told_once(shelf: Shelf):
    """No items is a state as well: the hub must learn that there are none."""
    (first,) = await told(shelf)
    assert first.packages == ()
    assert first.total == 0
    assert await told(shelf) == []


async def test_a_changed_remark_is_a_change(shelf: Shelf):
    """A database that can no longer be read is told although no item changed."""
    await told(shelf)
    shelf.note = "unreadable"
    assert len(await told(shelf)) == 1


async def test_everything_is_told_again_after_its_time(shelf: Shelf):
    """After `full_every` days, not a second before, with the same id."""
    shelf.items = [package("a")]
    (first,) = await told(shelf)
    shelf.now = NOW + 30 * DAY - 1
    assert await told(shelf) == []
    shelf.now = NOW + 30 * DAY
    (again,) = await told(shelf)
    assert again == first


async def test_changes_are_told_against_the_snapshot_before(ledger: Ledger):
    """New and changed items in full, removed ones by key, and what they apply to."""
    ledger.items = [package("a"), package("b"), package("c")]
    (first,) = await told(ledger)
    assert first.previous_id == ""
    ledger.items = [package("a"), package("b", "2"), package("d")]
    (second,) = await told(ledger)
    assert second.previous_id == first.snapshot_id
    assert second.packages == (package("b", "2"), package("d"))
    assert second.removed == ("pkg:deb/debian/c",)
    assert second.total == 3


async def test_changes_do_not_put_off_the_whole_snapshot(ledger: Ledger):
    """A device that changes every day still lists everything once a month."""
    ledger.items = [package("a", "0")]
    await told(ledger)
    for day in range(1, 30):
        ledger.now = NOW + day * DAY
        ledger.items = [package("a", str(day))]
        (changed,) = await told(ledger)
        assert changed.previous_id
    ledger.now = NOW + 30 * DAY
    (whole,) = await told(ledger)
    assert whole.previous_id == ""
    assert whole.packages == (package("a", "29"),)


@pytest.mark.parametrize("kind", [Shelf, Ledger])
async def test_a_restart_repeats_nothing(tmp_path: Path, kind: type[Shelf]):
    """What was told is remembered in the state directory."""
    for expected in (1, 0):
        collector = kind(tmp_path)
        await collector.start(Settings())
        collector.items = [package("a")]
        assert len(await told(collector)) == expected


@pytest.mark.parametrize("damage", [b"", b"{", b'{"snapshot_id": 7}', b"\xff" * 10])
async def test_a_torn_state_file_makes_a_whole_snapshot(ledger: Ledger, tmp_path: Path, damage: bytes):
    """Power loss while it was written costs one repetition."""
    ledger.items = [package("a")]
    (first,) = await told(ledger)
    (tmp_path / "snapshot-Shelf.json").write_bytes(damage)
    assert await told(ledger) == [first]


async def test_without_a_state_directory_it_is_remembered_until_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """A read-only device sends nothing twice while the agent runs, and says once what a restart costs."""
    collector = Shelf(tmp_path / "missing")
    await collector.start(Settings())
    with caplog.at_level(logging.WARNING):
        for expected in ("a", "a", "b", "b"):
            collector.items = [package(expected)]
            await told(collector)
        assert await told(collector) == []
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["Shelf"]


async def test_a_clock_that_was_wrong_does_not_silence_the_snapshot(shelf: Shelf):
    """Told in 2050 by mistake: told again as soon as the clock is right; before it is set, nothing is."""
    shelf.now = NOW + 9_000 * DAY
    await told(shelf)
    shelf.now = 100.0
    assert await told(shelf) == []
    shelf.now = NOW
    assert len(await told(shelf)) == 1


async def test_a_long_snapshot_is_told_in_parts(ledger: Ledger):
    """Every item once, in numbered parts of a bounded size with one id."""
    ledger.items = [package(f"package-{number}", vendor="x" * 200) for number in range(1000)]
    parts = await told(ledger)
    assert len(parts) > 5
    assert [part.part for part in parts] == list(range(1, len(parts) + 1))
    assert {(part.parts, part.snapshot_id, part.total) for part in parts} == {
        (len(parts), parts[0].snapshot_id, 1000)
    }
    assert [item for part in parts for item in part.packages] == ledger.items
    assert all(len(msgspec.json.encode(part.packages)) <= PART_BYTES + 2 for part in parts)


async def test_everything_removed_is_told_in_parts_too(ledger: Ledger):
    """A wiped device lists what is gone, each key once."""
    ledger.items = [package(f"package-{number}") for number in range(2000)]
    await told(ledger)
    ledger.items = []
    parts = await told(ledger)
    assert len(parts) > 1
    assert sorted(key for part in parts for key in part.removed) == sorted(
        f"pkg:deb/debian/package-{number}" for number in range(2000)
    )


async def test_the_same_thing_twice_is_one_item(ledger: Ledger):
    """A package in two directories is told once, and the first description stays from cycle to cycle."""
    ledger.items = [package("a", "1"), package("a", "2")]
    (first,) = await told(ledger)
    assert first.packages == (package("a", "1"),)
    assert await told(ledger) == []


async def test_more_items_than_a_snapshot_holds_are_counted(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    """Memory stays bounded, and the loss is told."""
    monkeypatch.setattr(snapshot, "MAX_ITEMS", 10)
    shelf.items = [package(f"p{number}") for number in range(13)]
    collected = await shelf.collect()
    assert len(collected.events[0].payload.packages) == 10
    assert collected.losses == [Loss(TOO_MANY_ITEMS, 0, 3)]
    assert MAX_ITEMS > 10


contents = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("123"), max_size=6)


@given(states=st.lists(contents, max_size=8))
async def test_applying_the_changes_gives_the_state(
    tmp_path_factory: pytest.TempPathFactory, states: list[dict[str, str]]
):
    """Whatever happens to the items, a reader that applies what is told knows them all."""
    collector = Ledger(tmp_path_factory.mktemp("state"))
    await collector.start(Settings())
    known: dict[str, Package] = {}
    for state in states:
        collector.items = [package(name, version) for name, version in state.items()]
        for payload in await told(collector):
            if not payload.previous_id:
                known = {}
            known |= {item.purl: item for item in payload.packages}
            known = {purl: item for purl, item in known.items() if purl not in payload.removed}
        assert sorted(known) == sorted(item.purl for item in collector.items)
        assert list(map(known.get, (item.purl for item in collector.items))) == collector.items


async def test_a_part_fits_into_the_smallest_message(ledger: Ledger):
    """A device told to send 8,192 bytes at most sends no longer message because of its packages."""
    ledger.items = [package(f"package-{number}", vendor="x" * 200) for number in range(100)]
    events = (await ledger.collect()).events
    messages = list(pack([(events, Window(NOW - DAY, NOW))], max_bytes=8_192))
    assert sum(message.events for message in messages) == len(events)
    assert all(len(message.body) + PROPERTY_BYTES <= 8_192 for message in messages)
