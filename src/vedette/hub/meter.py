"""The message units of a day, of the hub and of its devices: what the daily quotas are held against.

Pure; time passed in. The registry keeps the sums, so that they survive a restart and several gateways share
them; what was spent since the last `take` is known here alone.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import msgspec

from vedette.hub.limits import Limits
from vedette.wire.message import metered_units

EVERYBODY = ""
"""Stands for all devices together where a device id is asked for."""

DAY_S = 86_400

Spent = Counter[tuple[str, str]]
"""Units by day (ISO 8601, UTC) and device id."""


class Usage(msgspec.Struct, frozen=True):
    """Units of a day. allowed: 0 for no limit."""

    day: str
    units: int
    allowed: int


def day_of(now: float) -> str:
    """The day of a time (Unix seconds), UTC."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


class Meter:
    """Counts units and tells whether there are any left.

    Devices are counted only where they have a quota, and forgotten at midnight: there are as many in here as
    devices that were let in on that day.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._day = ""
        self._ends = 0.0
        self._units: Counter[str] = Counter()
        self._fresh: Spent = Counter()

    def spent(self, device_id: str, now: float) -> bool:
        """True if a device may send nothing more today, or no device may."""
        self._turn(now)
        quotas = ((EVERYBODY, self._limits.daily_units), (device_id, self._limits.daily_units_per_device))
        return any(quota and self._units[who] >= quota for who, quota in quotas)

    def count(self, device_id: str, size: int, now: float) -> None:
        """Count a message of so many bytes, properties included."""
        self._turn(now)
        units = metered_units(size)
        for who in (EVERYBODY, device_id) if self._limits.daily_units_per_device else (EVERYBODY,):
            self._units[who] += units
            self._fresh[self._day, who] += units

    def take(self) -> Spent:
        """What was spent since the last call, to be written down."""
        taken, self._fresh = self._fresh, Counter()
        return taken

    def give_back(self, taken: Spent) -> None:
        """What was taken could not be written down."""
        self._fresh.update(taken)

    def learn(self, day: str, who: str, units: int) -> None:
        """The sum that is written down of a device, or of the hub."""
        self._begin(day)
        if day == self._day:
            self._units[who] = max(self._units[who], units + self._fresh[day, who])

    def usage(self, now: float) -> Usage:
        """Of the whole hub, today."""
        self._turn(now)
        return Usage(self._day, self._units[EVERYBODY], self._limits.daily_units)

    @property
    def by_device(self) -> bool:
        """True if devices have a quota."""
        return self._limits.daily_units_per_device > 0

    def _turn(self, now: float) -> None:
        if now >= self._ends:  # else it is the day that it was: asked twice a message
            self._begin(day_of(now))
            self._ends = (now // DAY_S + 1) * DAY_S

    def _begin(self, day: str) -> None:
        """A clock that is set back begins no day."""
        if day > self._day:
            self._day = day
            self._units.clear()
