"""What was dropped, by place and reason. Every loss in the agent ends up in one of these."""

from __future__ import annotations

import msgspec

CACHE_FULL = "cache full"
KERNEL_MAP_FULL = "kernel map full"
KERNEL_RING_FULL = "kernel ring full"
KERNEL_RACE = "counted while being read"
SOCKET_OVERRUN = "netlink socket overrun"
TEXT_LOST = "command line gone before it was read"
FORK_TABLE_FULL = "fork table full"
PROGRAM_TABLE_FULL = "program table full"
NAMES_UNTOLD = "name of a flow not told: kernel ring full"
CAPTURE_FULL = "capture buffer full"
FLOW_TABLE_FULL = "flow table full"
OUTBOX_FULL = "outbox full"
OUTBOX_AGE = "older than the message timeout"
OUTBOX_DAMAGED = "outbox file damaged"
MESSAGE_TOO_LARGE = "message larger than a hub takes"
TOO_MANY_ITEMS = "more items than a snapshot holds"
MALFORMED = "malformed record"
QUEUE_OVERFLOW = "inotify queue overflow"
WATCH_LIMIT = "directory without a watch: limit reached"
UNREADABLE_DIRECTORY = "directory without a watch: not readable"


class Loss(msgspec.Struct, frozen=True):
    """So many aggregated events, standing for so many observations, dropped for one reason.

    `events` is 0 where observations were lost before it was known which event they belong to.
    """

    reason: str
    events: int
    hits: int


class Losses:
    """Running totals by reason. Bounded by the number of reasons that the code names."""

    def __init__(self) -> None:
        self._totals: dict[str, tuple[int, int]] = {}

    def count(self, reason: str, *, events: int = 0, hits: int = 0) -> None:
        """Add a loss; nothing is recorded for zero."""
        if events or hits:
            known_events, known_hits = self._totals.get(reason, (0, 0))
            self._totals[reason] = known_events + events, known_hits + hits

    def merge(self, losses: list[Loss]) -> None:
        """Add what another place counted."""
        for loss in losses:
            self.count(loss.reason, events=loss.events, hits=loss.hits)

    def take(self) -> list[Loss]:
        """The totals since the last call; they start again from zero."""
        taken = [Loss(reason, events, hits) for reason, (events, hits) in self._totals.items()]
        self._totals.clear()
        return taken
