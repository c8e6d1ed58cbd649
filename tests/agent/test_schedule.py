"""The schedule: one grid for all priorities, missed periods count once, changes disturb nothing else."""

from math import inf, isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.schedule import TOGETHER_S, Schedule
from vedette.wire.twin import Priority

HIGH, MEDIUM, LOW = Priority
DEFAULT = {HIGH: 1800.0, MEDIUM: 7200.0, LOW: 86400.0}

phases = st.floats(0, 1, exclude_max=True)
starts = st.floats(0, 1e7)
seconds = st.floats(0.6, 1e6)
multiples = st.integers(1, 50)


@st.composite
def nested_intervals(draw: st.DrawFn) -> dict[Priority, float]:
    """Intervals as the twin documents them: each a multiple of the one before."""
    high = draw(st.integers(1, 3600)) * 0.6
    medium = high * draw(multiples)
    return {HIGH: high, MEDIUM: medium, LOW: medium * draw(multiples)}


@given(st.dictionaries(st.sampled_from(Priority), seconds, min_size=1), phases, starts)
def test_the_first_deadline_comes_within_one_interval(intervals, phase, start):
    """No priority waits longer than its interval, and none is due at once."""
    schedule = Schedule(intervals, phase=phase, now=start)
    assert schedule.due(start) == set()
    for priority, interval in intervals.items():
        alone = Schedule({priority: interval}, phase=phase, now=start)
        assert start < alone.next_at() <= start + interval + 2 * TOGETHER_S


@given(nested_intervals(), phases, starts)
def test_multiples_coincide(intervals, phase, start):
    """When Medium is due High is due, and when Low is due both are: they share a message."""
    schedule = Schedule(intervals, phase=phase, now=start)
    seen = set()
    for _ in range(300):
        due = schedule.due(schedule.next_at())
        assert HIGH in due
        assert MEDIUM in due or LOW not in due
        seen |= due
    assert MEDIUM in seen


@given(st.dictionaries(st.sampled_from(Priority), seconds, min_size=1), phases, starts, st.integers(1, 40))
def test_each_period_falls_due_once(intervals, phase, start, turns):
    """Following the schedule deadline by deadline, a priority is due once an interval."""
    schedule = Schedule(intervals, phase=phase, now=start)
    last: dict[Priority, float] = {}
    for _ in range(turns):
        at = schedule.next_at()
        due = schedule.due(at)
        assert due
        assert schedule.next_at() > at
        for priority in due:
            if priority in last:
                assert isclose(at - last[priority], intervals[priority], abs_tol=2 * TOGETHER_S)
            last[priority] = at


@given(st.dictionaries(st.sampled_from(Priority), seconds, min_size=1), phases, starts, st.floats(0, 1e8))
def test_missed_periods_become_one(intervals, phase, start, gap):
    """After a long sleep everything that is due is due once, and the next deadline is in the future."""
    schedule = Schedule(intervals, phase=phase, now=start)
    first = schedule.next_at()
    now = start + gap
    due = schedule.due(now)
    assert bool(due) == (first <= now + TOGETHER_S)
    assert schedule.due(now) == set()
    assert schedule.next_at() > now


def test_the_grid_survives_a_sleep():
    """After missed periods the deadlines lie where they would have been without the sleep."""
    undisturbed = Schedule({HIGH: 10.0}, phase=0.3, now=0.0)
    slept = Schedule({HIGH: 10.0}, phase=0.3, now=0.0)
    for _ in range(6):
        undisturbed.due(undisturbed.next_at())
    slept.due(undisturbed.next_at() - 5.0)
    assert slept.next_at() == undisturbed.next_at()


def test_an_early_timer_counts_as_the_deadline():
    """A timer that fires a moment early does not make the caller wait again."""
    schedule = Schedule({HIGH: 1.0}, phase=0.0, now=0.0)
    assert schedule.next_at() == 1.0
    assert schedule.due(1.0 - TOGETHER_S / 2) == {HIGH}
    assert schedule.next_at() == 2.0


@given(phases, starts, st.floats(0, 1e5), seconds)
def test_a_change_leaves_other_priorities_alone(phase, start, later, interval):
    """Changing Medium moves neither High nor Low."""
    schedule = Schedule(DEFAULT, phase=phase, now=start)
    untouched = Schedule(DEFAULT, phase=phase, now=start)
    now = start + later
    schedule.due(now)
    untouched.due(now)
    schedule.change({**DEFAULT, MEDIUM: interval}, now)
    for priority in (HIGH, LOW):
        assert schedule._next[priority] == untouched._next[priority]
    assert now < schedule._next[MEDIUM] <= now + interval + 2 * TOGETHER_S


def test_a_change_skips_no_deadline():
    """A priority whose deadline has come, but was not taken yet, is still due after a change of another."""
    schedule = Schedule(DEFAULT, phase=0.0, now=0.0)
    schedule.change({**DEFAULT, MEDIUM: 3600.0}, 1900.0)
    assert schedule.due(1900.0) == {HIGH}


@given(nested_intervals(), nested_intervals(), phases, starts, st.floats(0, 1e6))
def test_changed_intervals_coincide_too(before, after, phase, start, later):
    """A changed priority joins the grid of the others."""
    schedule = Schedule(before, phase=phase, now=start)
    schedule.due(start + later)
    schedule.change(after, start + later)
    for _ in range(50):
        assert HIGH in schedule.due(schedule.next_at())


def test_a_priority_may_come_and_go():
    """A change may add a priority or take one away."""
    schedule = Schedule({HIGH: 10.0}, phase=0.0, now=0.0)
    schedule.change({LOW: 40.0}, 5.0)
    assert schedule.next_at() == 40.0
    schedule.change({}, 6.0)
    assert schedule.next_at() == inf
    assert schedule.due(1e9) == set()


def test_phases_spread_a_fleet_over_every_interval():
    """Devices switched on together send at moments spread over the whole interval, for each priority."""
    fleet = [Schedule(DEFAULT, phase=i / 1009, now=0.0) for i in range(1009)]
    for priority, interval in DEFAULT.items():
        tenths = [int(10 * (device._next[priority] % interval) / interval) for device in fleet]
        assert min(tenths.count(tenth) for tenth in range(10)) > 50


@pytest.mark.parametrize("phase", [-0.1, 1.0, float("nan")])
def test_a_phase_outside_its_range_is_refused(phase):
    """A phase is a fraction of a period."""
    with pytest.raises(ValueError, match="phase"):
        Schedule(DEFAULT, phase=phase, now=0.0)
