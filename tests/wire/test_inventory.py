"""The hub puts a device's inventory together from what was sent."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.wire.events import Package, SBoM
from vedette.wire.inventory import Incomplete, assembled


def package(name: str) -> Package:
    return Package(name=name, purl=f"pkg:deb/debian/{name}")


def whole(snapshot_id: str, *names: str, part: int = 1, parts: int = 1) -> SBoM:
    return SBoM(
        snapshot_id=snapshot_id, part=part, parts=parts, packages=tuple(map(package, names)), total=len(names)
    )


def change(snapshot_id: str, previous_id: str, *added: str, removed: tuple[str, ...] = ()) -> SBoM:
    return SBoM(
        snapshot_id=snapshot_id,
        previous_id=previous_id,
        packages=tuple(map(package, added)),
        removed=tuple(f"pkg:deb/debian/{name}" for name in removed),
    )


def names(events: list[SBoM]) -> list[str]:
    return sorted(package.name for package in assembled(events).values())


def test_parts_are_joined_in_any_order():
    """The parts of a snapshot make one inventory."""
    first, second = whole("1", "a", part=1, parts=2), whole("1", "b", part=2, parts=2)
    assert names([first, second]) == names([second, first]) == ["a", "b"]


def test_changes_are_applied_to_the_snapshot_before():
    """Additions and removals follow each other."""
    assert names([whole("1", "a", "b"), change("2", "1", "c", removed=("a",)), change("3", "2", "d")]) == [
        "b",
        "c",
        "d",
    ]


def test_what_comes_twice_counts_once():
    """Delivery is at least once: a repeated part or change does no harm."""
    first, second = whole("1", "a", part=1, parts=2), whole("1", "b", part=2, parts=2)
    later = change("2", "1", removed=("a",))
    assert names([first, first, second, later, later]) == ["b"]


def test_a_missing_part_is_named():
    """An inventory of which a part is under way is not shown as if it were all."""
    with pytest.raises(Incomplete, match="of snapshot 1 1 of 2 parts have come"):
        assembled([whole("1", "a", part=2, parts=2)])


def test_a_lost_change_is_noticed_and_the_next_whole_snapshot_mends_it():
    """A change that applies to an unknown snapshot leaves nothing to be trusted until then."""
    events = [whole("1", "a"), change("3", "2", "c")]
    with pytest.raises(Incomplete, match="was lost"):
        assembled(events)
    assert names([*events, whole("3", "a", "b", "c")]) == ["a", "b", "c"]


def test_nothing_is_incomplete():
    """A device that never reported has no inventory, which is not an empty one."""
    with pytest.raises(Incomplete):
        assembled([])
    assert assembled([whole("1")]) == {}


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("123"), st.sampled_from("123"), st.integers(0, 3))))
def test_any_order_of_events_is_survived(rows: list[tuple[bool, str, str, int]]):
    """Whatever a device sent, the answer is an inventory or Incomplete."""
    events = [
        msgspec.structs.replace(whole(new, "a", part=part, parts=2), previous_id="" if full else old)
        for full, new, old, part in rows
    ]
    try:
        assert set(assembled(events)) <= {"pkg:deb/debian/a"}
    except Incomplete as reason:
        assert str(reason)  # noqa: PT017  either outcome is right
