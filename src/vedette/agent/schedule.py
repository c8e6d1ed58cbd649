"""When each timer, a priority above all, is due. Pure: the caller passes monotonic seconds and sleeps.

Every deadline lies on one grid, `origin + k * interval`. Intervals that are multiples of each other
therefore fall due together, and what is due together shares a message. The origin differs from device to
device, so that a fleet switched on at one moment does not send at one moment.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import floor
from typing import Generic, TypeVar

from vedette.wire.twin import MAX_INTERVAL

TimerT = TypeVar("TimerT", bound=Hashable)

SPREAD_S = 60 * MAX_INTERVAL
"""Phases are spread over the longest interval allowed, hence evenly over every shorter one."""

TOGETHER_S = 0.05
"""Deadlines this close are one moment. Far above what rounding and early timers bring (microseconds),
far below the shortest interval (0.6 s)."""


class Schedule(Generic[TimerT]):
    """The next deadline of each priority, or whatever the timers are called.

    intervals: seconds by priority. phase: 0 ≤ phase < 1, drawn once for a device and kept.
    A priority is first due after at most one of its intervals.
    """

    def __init__(self, intervals: Mapping[TimerT, float], *, phase: float, now: float) -> None:
        if not 0 <= phase < 1:
            raise ValueError(f"phase must be at least 0 and below 1, not {phase}")
        self._origin = now - phase * SPREAD_S
        self._intervals = dict(intervals)
        self._next = {priority: self._after(now, interval) for priority, interval in intervals.items()}

    def due(self, now: float) -> set[TimerT]:
        """The priorities whose deadline has come; each moves on to its next deadline after `now`.

        Periods that were missed meanwhile (the device slept, the process stood still) count as one.
        """
        come = {priority for priority, at in self._next.items() if at <= now + TOGETHER_S}
        for priority in come:
            self._next[priority] = self._after(now, self._intervals[priority])
        return come

    def next_at(self) -> float:
        """The moment of the earliest deadline; infinite if there is no priority."""
        return min(self._next.values(), default=float("inf"))

    def change(self, intervals: Mapping[TimerT, float], now: float) -> None:
        """Work with other intervals from now on. A priority whose interval stays keeps its deadline."""
        self._next = {
            priority: self._next[priority]
            if self._intervals.get(priority) == interval
            else self._after(now, interval)
            for priority, interval in intervals.items()
        }
        self._intervals = dict(intervals)

    def _after(self, now: float, interval: float) -> float:
        """The first point of an interval's grid that is later than `now`, and not the same moment."""
        passed = floor((now + TOGETHER_S - self._origin) / interval)
        at = self._origin + (passed + 1) * interval
        return at if at > now + TOGETHER_S else at + interval
