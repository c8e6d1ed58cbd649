"""The day's units outlive a restart, and every change of who gives way is told once."""

from pathlib import Path

import pytest

from vedette.agent.budget import FILE, Budget
from vedette.agent.governor import DAY_S
from vedette.wire.events import Gap


class Days:
    """A wall clock that a test moves, and an outbox that it fills."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.now = 20_000 * DAY_S
        self.waiting = 0

    def budget(self, cap: int) -> Budget:
        return Budget(self.state, cap, lambda: self.waiting, clock=lambda: self.now)


@pytest.fixture
def days(tmp_path: Path) -> Days:
    return Days(tmp_path)


def test_a_restart_gives_no_new_units(days: Days):
    """What was spent today is remembered; tomorrow is another day."""
    budget = days.budget(10)
    assert [budget.pay(4) for _ in range(3)] == [True, True, False]
    assert (days.state / FILE).stat().st_mode & 0o777 == 0o600
    again = days.budget(10)
    assert not again.pay(4)
    days.now += DAY_S
    assert again.pay(4)


def test_without_a_cap_nothing_is_written(days: Days):
    """A device that need not count does not wear its flash."""
    budget = days.budget(0)
    assert all(budget.pay(1000) for _ in range(100))
    assert list(days.state.iterdir()) == []


def test_each_change_is_told_once(days: Days):
    """Who gives way, how much was spent of what; and that it is over."""
    budget = days.budget(10)
    assert budget.news() is None
    budget.pay(6)
    first = budget.news()
    assert first is not None
    assert first.payload == Gap(priorities=("Low",), daily_units=10, spent_units=6)
    assert budget.news() is None
    days.waiting = 3
    second = budget.news()
    assert second is not None
    assert second.payload == Gap(priorities=("High", "Medium", "Low"), daily_units=10, spent_units=9)
    days.now += DAY_S
    days.waiting = 0
    over = budget.news()
    assert over is not None
    assert over.payload == Gap(priorities=(), daily_units=10, spent_units=0)
    assert budget.news() is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"spent": "x"}', b"x" * 70_000])
def test_a_damaged_file_counts_from_zero(days: Days, content: bytes, caplog: pytest.LogCaptureFixture):
    """The agent starts, and says what it does not know."""
    (days.state / FILE).write_bytes(content)
    assert days.budget(10).pay(10)
    assert "counted from zero" in caplog.text


def test_a_cap_that_is_lifted_frees_everything(days: Days):
    """The twin changed its mind."""
    budget = days.budget(2)
    assert budget.pay(2)
    assert budget.held()
    budget.limit(0)
    assert not budget.held()
    assert budget.pay(100)
