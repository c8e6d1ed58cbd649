"""The clock is believed unless it leaps."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from vedette.hub.lake.horizon import HOLD_S, IDLE_DAYS, Horizon

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
YESTERDAY = date(2026, 1, 4)


@pytest.mark.parametrize(
    ("newest", "believed"),
    [(None, True), (YESTERDAY, True), (NOW.date() - timedelta(days=IDLE_DAYS + 1), False)],
)
def test_at_the_start_the_data_vouches_for_the_clock(newest: date | None, believed: bool):
    """A lake that was written yesterday agrees with it; one that was not may be old, or the clock wrong."""
    assert Horizon(lambda: 0.0).look(NOW, newest) is believed


@pytest.mark.parametrize(
    ("step", "believed"),
    [(0, True), (2, True), (-1, True), (-86_400 * 365, True), (7_200, False), (86_400 * 365, False)],
)
def test_a_leap_ahead_holds_for_a_day_and_a_step_back_does_not(step: float, believed: bool):
    """What is behind makes nothing older."""
    passed = 0.0
    horizon = Horizon(lambda: passed)
    assert horizon.look(NOW, YESTERDAY)
    passed += 10
    leapt = NOW + timedelta(seconds=10 + step)
    assert horizon.look(leapt, YESTERDAY) is believed
    passed += HOLD_S - 1
    assert horizon.look(leapt + timedelta(seconds=HOLD_S - 1), YESTERDAY) is believed
    passed += 1
    assert horizon.look(leapt + timedelta(seconds=HOLD_S), YESTERDAY)
