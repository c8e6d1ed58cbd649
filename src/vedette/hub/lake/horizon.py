"""Whether the clock may be believed when it says that data is old enough to be removed.

A clock that leaps ahead, by a fault or by somebody's hand, would make the whole lake too old at once. So
after a leap nothing is removed for a day: time to set the clock right, and soon enough if it was right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, datetime

LEAP_S = 3600.0
"""How far the clock may get ahead of the time that has passed. NTP steps are seconds."""

IDLE_DAYS = 2
"""Days without data after which a start is taken for a leap: the hub was off, or its clock is wrong."""

HOLD_S = 24 * 3600.0


class Horizon:
    """Watches the clock. clock: seconds that only go forward."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._offset: float | None = None
        self._held_until = float("-inf")

    def look(self, now: datetime, newest: date | None) -> bool:
        """Whether `now` may be believed; ask often. newest: the last day before today that has data."""
        passed = self._clock()
        offset = now.timestamp() - passed
        if self._offset is None:
            leapt = newest is not None and (now.date() - newest).days > IDLE_DAYS
        else:
            leapt = offset - self._offset > LEAP_S
        self._offset = offset
        if leapt:
            self._held_until = passed + HOLD_S
        return passed >= self._held_until
