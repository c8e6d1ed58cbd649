"""The secure score over time."""

import pytest
from detect_support import NOW, Rig

from vedette.hub.detect.schema import AssessmentRow
from vedette.hub.posture import Recommendations, fleet_score
from vedette.hub.posture.trend import HOUR_S, KEPT_HOURS, PERIOD_S, SHARE, Trend, history


class Clock:
    """Time that passes as it is told; `cost` is what each look at it costs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cost = 0.0

    def __call__(self) -> float:
        self.now += self.cost
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trend(clock: Clock) -> Trend:
    return Trend(clock)


def assess(rig: Rig, device: str, **checks: tuple[str, bool]) -> None:
    with rig.database.write.begin() as session:
        for name, (severity, passed) in checks.items():
            session.merge(
                AssessmentRow(device_id=device, name=name, severity=severity, passed=passed, evaluated=NOW)
            )


def look(rig: Rig, trend: Trend, now: float) -> None:
    with rig.database.write.begin() as session:
        trend(session, (), now)


def test_it_is_the_fleets_score_hour_by_hour(rig: Rig, trend: Trend, clock: Clock):
    """The latest of each hour, and the same as the recommendations' own."""
    assess(rig, "d1", a=("High", True), b=("Medium", False))
    assess(rig, "d2", a=("Low", False), b=("Low", True))
    look(rig, trend, NOW)
    first = fleet_score(Recommendations(rig.database).scores())
    assess(rig, "d2", a=("Low", True))
    clock.now += PERIOD_S
    look(rig, trend, NOW + HOUR_S)
    found = history(rig.database, 24)
    second = fleet_score(Recommendations(rig.database).scores())
    assert [one.score for one in found] == pytest.approx([first, second], abs=0.2)  # rounded differently
    assert [one.devices for one in found] == [2, 2]
    assert found[1].at - found[0].at == HOUR_S


def test_nothing_is_written_before_anything_was_assessed(rig: Rig, trend: Trend):
    """A score of nothing would be none."""
    look(rig, trend, NOW)
    assert history(rig.database, 24) == []


def test_old_hours_go(rig: Rig, trend: Trend, clock: Clock):
    """After a quarter of a year."""
    assess(rig, "d1", a=("High", True))
    look(rig, trend, NOW)
    clock.now += PERIOD_S
    look(rig, trend, NOW + KEPT_HOURS * HOUR_S)
    assert [one.at for one in history(rig.database, KEPT_HOURS)] == [NOW + KEPT_HOURS * HOUR_S]


def test_a_look_that_takes_long_is_taken_less_often(rig: Rig, trend: Trend, clock: Clock):
    """So that it never takes more than its share."""
    assess(rig, "d1", a=("High", True))
    clock.cost = 10.0
    look(rig, trend, NOW)
    clock.cost = 0.0
    clock.now += 10.0 / SHARE / 2
    look(rig, trend, NOW + HOUR_S)
    assert len(history(rig.database, 24)) == 1, "too early"
    clock.now += 10.0 / SHARE * 2
    look(rig, trend, NOW + HOUR_S)
    assert len(history(rig.database, 24)) == 2
