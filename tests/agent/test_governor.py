"""The two limits that the agent keeps by itself, against simulated days and simulated load."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.governor import (
    DAY_S,
    LAST_UNIT,
    REST_MAX_S,
    REST_MIN_S,
    WARM_UP_S,
    WINDOW_S,
    DailyUnits,
    Day,
    Processor,
)
from vedette.wire.twin import Priority

HIGH, MEDIUM, LOW = Priority
NOON = 20_000 * DAY_S + DAY_S / 2


@given(st.integers(1, 200), st.lists(st.tuples(st.floats(0, 3 * DAY_S), st.integers(1, 60)), max_size=80))
def test_no_day_costs_more_than_the_cap(cap, messages):
    """Save by one message that alone is larger than the cap."""
    units = DailyUnits(cap, Day())
    days: dict[int, list[int]] = {}
    for at, size in sorted(messages):
        if units.take(size, NOON + at):
            days.setdefault(int((NOON + at) // DAY_S), []).append(size)
    for sizes in days.values():
        assert sum(sizes) <= cap or len(sizes) == 1


@given(st.integers(0, 1000), st.integers(0, 2000), st.integers(0, 2000))
def test_priorities_give_way_from_low_up(cap, spent, waiting):
    """Whoever is held back, everything less important is held back too; without a cap nobody is."""
    units = DailyUnits(cap, Day(int(NOON // DAY_S), spent))
    held = units.held(waiting, NOON)
    assert held in (set(), {LOW}, {LOW, MEDIUM}, {LOW, MEDIUM, HIGH})
    assert cap or not held
    assert not cap or spent + waiting or not held, "nobody gives way before anything was spent"
    assert not cap or spent + waiting < cap or held == {LOW, MEDIUM, HIGH}


@given(st.integers(1, 1000), st.lists(st.integers(1, 20), max_size=200))
def test_who_gave_way_stays_away_until_the_day_ends(cap, sizes):
    """What is held back only grows within a day, and begins anew with the next."""
    units = DailyUnits(cap, Day())
    before: frozenset[Priority] = frozenset()
    for size in sizes:
        units.take(size, NOON)
        assert units.held(0, NOON) >= before
        before = units.held(0, NOON)
    assert units.held(0, NOON + DAY_S) == set()
    assert units.spent(0, NOON + DAY_S) == 0


def test_high_leaves_one_unit_for_the_news():
    """The event that tells of the silence can still be sent."""
    units = DailyUnits(10, Day(int(NOON // DAY_S), 10 - LAST_UNIT))
    assert units.held(0, NOON) == {LOW, MEDIUM, HIGH}
    assert units.take(LAST_UNIT, NOON)
    assert not units.take(1, NOON)


def test_what_an_earlier_run_spent_counts_today_only():
    """A restart gives no new units; a new day does."""
    today = int(NOON // DAY_S)
    assert not DailyUnits(5, Day(today, 5)).take(1, NOON)
    assert DailyUnits(5, Day(today - 1, 5)).take(1, NOON)
    assert DailyUnits(5, Day(today + 1, 5)).take(1, NOON), "a clock that was set back"


class Device:
    """Collectors with a constant hunger each (percent of a core), under a governor."""

    def __init__(self, limit: float, hunger: dict[str, float], own: float = 0.0) -> None:
        self.governor = Processor(limit, 0.0)
        self.hunger = hunger
        self.own = own
        self.now = 0.0
        self.total = 0.0
        self.spent = dict.fromkeys(hunger, 0.0)
        self.verdicts: list[tuple[float, str, str]] = []

    def run(self, seconds: float, step: float = 10.0) -> "Device":
        for _ in range(int(seconds / step)):
            self.now += step
            for name, percent in self.hunger.items():
                if name not in self.governor.resting:
                    self.spent[name] += percent / 100 * step
                    self.total += percent / 100 * step
            self.total += self.own / 100 * step
            if verdict := self.governor.observe(self.now, self.total, self.spent):
                self.verdicts.append((self.now, verdict.what, verdict.name))
        return self

    @property
    def load(self) -> float:
        working = (p for name, p in self.hunger.items() if name not in self.governor.resting)
        return self.own + sum(working)


hungers = st.dictionaries(st.sampled_from("ABCDEF"), st.floats(0, 50), max_size=6)


@given(st.integers(1, 50), hungers, st.integers(60, 540))
def test_the_load_stays_below_the_limit(limit, hunger, steps):
    """Whatever collectors want, those that work take no more, save one that has just come back on trial."""
    device = Device(limit, hunger).run(WARM_UP_S + 2 * WINDOW_S * (len(hunger) + 1)).run(10.0 * steps)
    trial = {name for at, what, name in device.verdicts if what == "restore" and at > device.now - 130}
    working = {n: p for n, p in hunger.items() if n not in device.governor.resting and n not in trial}
    worth = [percent for percent in working.values() if percent >= limit / 10]
    assert sum(worth) <= limit + 1e-6


@given(st.integers(1, 50), hungers)
def test_nobody_is_stopped_below_the_limit(limit, hunger):
    """A load under the limit is nobody's business."""
    device = Device(limit, hunger)
    if device.load <= limit * 0.999:
        assert device.run(3600).verdicts == []


@given(st.integers(1, 20), hungers)
def test_the_most_expensive_goes_first(limit, hunger):
    """Of those that work at that moment."""
    device = Device(limit, hunger).run(1200)
    rested: set[str] = set()
    for _, what, name in device.verdicts:
        if what == "shed":
            assert hunger[name] >= max(p for other, p in hunger.items() if other not in rested) - 1e-6
            rested.add(name)
        else:
            rested.discard(name)


@given(st.integers(1, 20), hungers)
def test_verdicts_come_at_most_once_a_window(limit, hunger):
    """Each change shows in the average before the next."""
    times = [at for at, _, _ in Device(limit, hunger).run(7200).verdicts]
    assert all(later - earlier >= WINDOW_S for earlier, later in pairwise(times))
    assert not times or times[0] >= WARM_UP_S


def test_all_come_back_when_it_is_calm():
    """The load has gone: after its rest everybody works again."""
    device = Device(5, {"A": 40, "B": 20, "C": 0.1}).run(600)
    assert set(device.governor.resting) == {"A", "B"}
    device.hunger = dict.fromkeys("ABC", 0.1)
    device.run(2 * REST_MIN_S + 4 * WINDOW_S)
    assert device.governor.resting == ()


def test_a_lasting_load_is_tried_ever_more_seldom():
    """Rests double from 5 minutes to 6 hours."""
    device = Device(5, {"A": 40}).run(40 * 3600)
    shed = [at for at, what, _ in device.verdicts if what == "shed"]
    restored = [at for at, what, _ in device.verdicts if what == "restore"]
    rests = [back - gone for gone, back in zip(shed, restored, strict=False)]
    assert rests[0] == pytest.approx(REST_MIN_S, abs=10)
    assert rests[1] == pytest.approx(2 * REST_MIN_S, abs=10)
    assert max(rests) == pytest.approx(REST_MAX_S, abs=10)


def test_without_a_limit_everybody_works():
    """Also those that rested under the limit before."""
    device = Device(5, {"A": 40}).run(300)
    assert device.governor.resting == ("A",)
    device.governor.limit = 0
    device.run(2 * WINDOW_S + 20)
    assert device.governor.resting == ()


def test_a_load_that_is_nobodys_stops_nobody():
    """The agent's own work would not become less."""
    assert Device(5, {"A": 0.1}, own=30).run(1200).verdicts == []
