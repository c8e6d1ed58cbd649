"""What a simulated fleet has done and met, counted in bounded memory."""

from __future__ import annotations

import copy
import math
from collections import Counter

import msgspec

STEPS = 50
"""Steps of a histogram for each factor of e: a figure read from it is within 1 % of the measured one."""


class Latencies:
    """How long things took, as a histogram with steps of 2 %. Its size does not grow with what is counted."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def note(self, seconds: float) -> None:
        """Count one."""
        self._counts[round(math.log(max(seconds, 1e-6)) * STEPS)] += 1

    def quantile(self, share: float) -> float | None:
        """Seconds within which this share was done; None if nothing was counted."""
        left = share * self._counts.total()
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return math.exp(step / STEPS)
        return None


class Figures(msgspec.Struct):
    """Running totals.

    connects: times that a device was let in. messages: sent for the first time; repeated: again, after a
    lost connection; acknowledged, with their events and bytes (body and topic): known to be durable.
    held: not sent when they were due, since devices were away or waited for acknowledgements. twins:
    answers to requests for the twin; changes: pushed desired properties. refused, lost: connections that
    were not let in or ended, by reason. latencies: from PUBLISH to PUBACK.
    """

    connects: int = 0
    messages: int = 0
    repeated: int = 0
    acknowledged: int = 0
    events: int = 0
    bytes: int = 0
    held: int = 0
    twins: int = 0
    changes: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    lost: Counter[str] = msgspec.field(default_factory=Counter)
    latencies: Latencies = msgspec.field(default_factory=Latencies)

    def take(self) -> Figures:
        """What was counted since the last call; counting begins again."""
        taken, fresh = copy.copy(self), Figures()
        for name in self.__struct_fields__:
            setattr(self, name, getattr(fresh, name))
        return taken
