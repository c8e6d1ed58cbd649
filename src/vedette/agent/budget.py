"""The day's metered messages, kept across restarts: a restart loop must not spend them twice.

What may be sent is decided by `agent.governor`; here it meets the clock, the state directory and the events
that tell of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from vedette.agent.governor import DailyUnits, Day
from vedette.agent.settings import read_bounded, write_private
from vedette.wire.events import Event, Gap
from vedette.wire.twin import Priority

log = logging.getLogger(__name__)

FILE = "units.json"


class Budget:
    """Pays for messages. Without a cap it only counts, and writes nothing.

    waiting: metered units of the messages that are not sent yet. clock: Unix seconds.
    """

    def __init__(
        self, state: Path, cap: int, waiting: Callable[[], int], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = state / FILE
        self._waiting = waiting
        self._clock = clock
        self._units = DailyUnits(cap, self._recall())
        self._told: frozenset[Priority] = frozenset()

    def limit(self, cap: int) -> None:
        """Work under another cap from now on."""
        self._units.cap = cap

    def pay(self, units: int) -> bool:
        """True if a message of so many units may be sent now: they are spent then."""
        if not self._units.take(units, self._clock()):
            return False
        if self._units.cap:
            self._remember()
        return True

    def held(self) -> frozenset[Priority]:
        """The priorities that are not to be sent now."""
        return self._units.held(self._waiting(), self._clock())

    def news(self) -> Event | None:
        """The event that tells of a change in what is held back; None if there was none."""
        held = self.held()
        if held == self._told:
            return None
        self._told = held
        now = self._clock()
        names = tuple(priority.value for priority in Priority if priority in held)
        spent = self._units.spent(self._waiting(), now)
        log.warning(
            "daily units: %d of %d; held back: %s", spent, self._units.cap, ", ".join(names) or "nothing"
        )
        return Event(Gap(priorities=names, daily_units=self._units.cap, spent_units=spent), now)

    def _recall(self) -> Day:
        try:
            return msgspec.json.decode(read_bounded(self._file), type=Day)
        except FileNotFoundError:
            return Day()
        except (OSError, ValueError) as error:
            log.warning("%s: %s; today's units are counted from zero", self._file, error)
            return Day()

    def _remember(self) -> None:
        try:
            write_private(self._file, msgspec.json.encode(self._units.day))
        except OSError as error:
            log.warning("%s: %s; a restart would forget what was spent today", self._file, error.strerror)
