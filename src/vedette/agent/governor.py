"""Two limits that the agent keeps by itself: what a day may cost, and what it may take of the processor.

Pure: times and measurements are passed in. `agent.app` acts on the verdicts.

`DailyUnits`   metered messages of a UTC day. Priorities give way one after the other as the day's units are
               used up, so that what matters most is sent longest.
`Processor`    the share of one core, averaged over a minute. The collector that used most rests; it comes
               back when the rest of the agent leaves room, later each time that it had to rest again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import msgspec

from vedette.wire.twin import Priority

DAY_S = 86_400.0

SHARES = {Priority.LOW: 0.6, Priority.MEDIUM: 0.8, Priority.HIGH: 1.0}
"""Part of the day's units up to which a priority is sent. What is kept for Medium and High pays for a day
that began with a flood of Low; with a quiet day nobody gives way."""

LAST_UNIT = 1
"""Kept of the cap for the event that tells that even High is held back."""


class Day(msgspec.Struct, frozen=True):
    """What was spent in a day: days since the Unix epoch (UTC), metered messages."""

    number: int = 0
    spent: int = 0


class DailyUnits:
    """Metered messages of the day, against a cap (0: none).

    day: what an earlier run of the agent had spent. A clock that is set to another day begins a new one.
    """

    def __init__(self, cap: int, day: Day) -> None:
        self.cap = cap
        self.day = day

    def take(self, units: int, now: float) -> bool:
        """True, and the units are spent, if a message of so many units may be sent at `now` (Unix seconds).

        One message that is larger than the whole cap may be the only one of its day: held back, it would
        hold back everything behind it for ever.
        """
        today = self._today(now)
        if self.cap and today.spent + units > self.cap and today.spent:
            return False
        self.day = Day(today.number, today.spent + units)
        return True

    def held(self, waiting: int, now: float) -> frozenset[Priority]:
        """The priorities that give way now; waiting: units of messages that are not sent yet."""
        if not self.cap:
            return frozenset()
        used = self.spent(waiting, now)
        most = {priority: self.cap * share for priority, share in SHARES.items()}
        most[Priority.HIGH] = max(1, self.cap - LAST_UNIT)
        return frozenset(
            priority for priority, limit in most.items() if used >= min(limit, most[Priority.HIGH])
        )

    def spent(self, waiting: int, now: float) -> int:
        """Units of this day: sent, and waiting to be."""
        return self._today(now).spent + waiting

    def _today(self, now: float) -> Day:
        number = int(now // DAY_S)
        return self.day if self.day.number == number else Day(number, 0)


WINDOW_S = 60.0
"""The limit holds for the average over this time."""

WARM_UP_S = 60.0
"""After its start the agent loads itself and takes its first inventories: that is not what it will cost."""

WORTH = 0.1
"""A collector that used less than this part of the limit is not worth stopping: the load is elsewhere."""

CALM = 0.8
"""Part of the limit under which the rest must be for a collector to come back."""

REST_MIN_S = 300.0
REST_MAX_S = 21_600.0
"""How long a collector rests: doubling from 5 minutes to 6 hours with each time; 6 hours of work without
being stopped, and it begins anew."""


class Verdict(NamedTuple):
    """Stop a collector, or let it work again. percent: the average of the last minute, of one core."""

    what: Literal["shed", "restore"]
    name: str
    percent: float


class _Sample(NamedTuple):
    at: float
    total: float
    by_name: Mapping[str, float]


class Processor:
    """Watches processor time against a limit in percent of one core (0: none). now: monotonic seconds."""

    def __init__(self, limit: float, now: float) -> None:
        self.limit = limit
        self._samples: deque[_Sample] = deque()
        self._not_before = now + WARM_UP_S
        self._resting: dict[str, float] = {}
        self._rests: dict[str, float] = {}
        self._back_at: dict[str, float] = {}

    @property
    def resting(self) -> Collection[str]:
        """Who rests, first come first."""
        return tuple(self._resting)

    def observe(self, now: float, total: float, by_name: Mapping[str, float]) -> Verdict | None:
        """Take in running totals in seconds: of the process, and of the collectors that may be stopped.

        At most one verdict for a whole window: each change is given the time to show.
        """
        self._samples.append(_Sample(now, total, dict(by_name)))
        while len(self._samples) > 1 and self._samples[1].at <= now - WINDOW_S:
            self._samples.popleft()
        first = self._samples[0]
        if now < self._not_before or now - first.at < WINDOW_S:
            return None
        percent = 100 * (total - first.total) / (now - first.at)
        if not self.limit or percent <= self.limit * CALM:
            return self._restore(now, percent)
        return self._shed(now, percent, first, by_name) if percent > self.limit else None

    def _shed(
        self, now: float, percent: float, first: _Sample, by_name: Mapping[str, float]
    ) -> Verdict | None:
        used = {
            name: seconds - first.by_name.get(name, 0.0)
            for name, seconds in by_name.items()
            if name not in self._resting
        }
        name = max(used, key=lambda name: used[name], default="")
        if not name or 100 * used[name] / (now - first.at) < WORTH * self.limit:
            return None
        well = now - self._back_at.get(name, now) > REST_MAX_S
        rest = REST_MIN_S if well else min(REST_MAX_S, 2 * self._rests.get(name, REST_MIN_S / 2))
        self._rests[name] = rest
        self._resting[name] = now + rest
        return self._decided(now, Verdict("shed", name, percent))

    def _restore(self, now: float, percent: float) -> Verdict | None:
        name = next((name for name, until in self._resting.items() if not self.limit or until <= now), None)
        if name is None:
            return None
        del self._resting[name]
        self._back_at[name] = now
        return self._decided(now, Verdict("restore", name, percent))

    def _decided(self, now: float, verdict: Verdict) -> Verdict:
        self._not_before = now + WINDOW_S
        self._samples.clear()
        return verdict
