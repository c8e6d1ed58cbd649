"""Correlations over what a group has in its window."""

from hypothesis import given
from hypothesis import strategies as st

from vedette.hub.detect.rules import Correlation
from vedette.hub.detect.windows import Entry, firing_id, firings


def correlation(
    kind: str, seconds: int = 10, threshold: int = 3, sources: tuple[str, ...] = ("a",)
) -> Correlation:
    return Correlation(
        key="c", kind=kind, sources=sources, group_by=(), seconds=seconds, threshold=threshold, field="F"
    )


def entries(*times: float, source: str = "a", hits: int = 1) -> list[Entry]:
    return [Entry(source, at, f"{source}{at}", hits, str(at)) for at in times]


def spans(one: Correlation, *held: Entry) -> list[tuple[float, float, float]]:
    return [(firing.start, firing.end, firing.met) for firing in firings(one, held)]


def test_so_many_events_within_the_span():
    """From the first of them to the last; `met` is when there were enough."""
    assert spans(correlation("event_count"), *entries(0, 4, 8, 30)) == [(0, 8, 8)]
    assert spans(correlation("event_count"), *entries(0, 6, 12, 18)) == []


def test_windows_that_overlap_are_one_firing():
    """A long run is one, two runs apart are two."""
    assert spans(correlation("event_count"), *entries(0, 1, 2, 3, 4, 50, 51, 52)) == [(0, 4, 2), (50, 52, 52)]


def test_an_event_counts_with_its_hits():
    """An aggregated event is as good as many."""
    assert spans(correlation("event_count", threshold=5), *entries(0, hits=5)) == [(0, 0, 0)]


def test_different_values_count_once():
    """Twenty hosts, not twenty attempts at one."""
    same = [Entry("a", at, f"e{at}", 1, "x") for at in range(9)]
    assert spans(correlation("value_count"), *same) == []
    assert (
        spans(correlation("value_count"), *same, Entry("a", 3, "y", 1, "y"), Entry("a", 4, "z", 1, "z")) != []
    )


def test_one_of_each_in_any_order_or_in_theirs():
    """temporal and temporal_ordered."""
    backwards = [*entries(5, source="a"), *entries(1, source="b")]
    assert spans(correlation("temporal", sources=("a", "b")), *backwards) == [(1, 5, 5)]
    assert spans(correlation("temporal_ordered", sources=("a", "b")), *backwards) == []
    again = [*backwards, *entries(9, source="b")]
    assert spans(correlation("temporal_ordered", sources=("a", "b")), *again) == [(5, 9, 9)]


def test_the_latest_chain_counts():
    """An early beginning that is out of the window does not hide a later one."""
    held = [*entries(0, 20, source="a"), *entries(25, source="b")]
    assert spans(correlation("temporal_ordered", sources=("a", "b")), *held) == [(20, 25, 25)]


@given(st.lists(st.integers(0, 100), max_size=30), st.randoms())
def test_the_order_of_arrival_does_not_matter(times: list[int], chance):
    """What is late takes its place in time, and the firing keeps its id."""
    held = [Entry("a", at, f"{i}", 1, "") for i, at in enumerate(times)]
    mixed = held[:]
    chance.shuffle(mixed)
    one = correlation("event_count")
    assert firings(one, held) == firings(one, mixed)
    assert [firing_id(one, "g", f) for f in firings(one, held)] == [
        firing_id(one, "g", f) for f in firings(one, mixed)
    ]
    assert bool(firings(one, held)) == any(sum(t - 10 <= u <= t for u in times) >= 3 for t in times)
