"""The event cache: identical events become one with a hit count, in a bounded buffer.

Pure: no clock, no input or output. Which events are identical is declared in `wire.events`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from enum import StrEnum

import msgspec

from vedette.agent.losses import CACHE_FULL, Loss, Losses
from vedette.wire.events import Event, EventType, Payload

log = logging.getLogger(__name__)


class Overflow(StrEnum):
    """What a full cache does with a new event.

    DROP_OLDEST: the event that was first observed longest ago leaves (the Linux agents).
    DROP_NEW: nothing new is taken until the next cycle (the RTOS agents).
    """

    DROP_OLDEST = "drop-oldest"
    DROP_NEW = "drop-new"


class _Entry:
    __slots__ = ("first_seen", "hits", "payload", "sums")

    def __init__(self, payload: Payload, first_seen: float, hits: int, sums: list[int]) -> None:
        self.payload = payload
        self.first_seen = first_seen
        self.hits = hits
        self.sums = sums


def _at_least_one(capacity: int) -> int:
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1, not {capacity}")
    return capacity


def _held_nowhere_else(key: Hashable) -> int:
    return 0


class EventCache:
    """Events of one type since the last `drain`, oldest first.

    capacity: distinct events kept. setting: the twin key to name when it does not suffice.
    forget: called with the key of an evicted event; returns the hits that the source still held for it
    (a kernel map counts by itself) and makes the source treat the key as new.
    """

    def __init__(
        self,
        kind: EventType,
        capacity: int,
        policy: Overflow = Overflow.DROP_OLDEST,
        *,
        setting: str,
        forget: Callable[[Hashable], int] = _held_nowhere_else,
    ) -> None:
        self._kind = kind
        self._capacity = _at_least_one(capacity)
        self._policy = policy
        self._setting = setting
        self._forget = forget
        self._entries: dict[Hashable, _Entry] = {}
        self._losses = Losses()
        self._warned = False

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def add(self, payload: Payload, hits: int = 1, *, now: float, key: Hashable = None) -> bool:
        """Count `hits` observations of an event; True if it is in the cache afterwards.

        The first observation's payload and time (`now`, Unix seconds) stay; fields declared as sums are
        added up. `key` replaces the declared identity where the source has a cheaper equal one.
        """
        if key is None:
            key = self._kind.key(payload)
        sums = [getattr(payload, field) for field in self._kind.sums]
        entry = self._entries.get(key)
        if entry is not None:
            entry.hits += hits
            for i, value in enumerate(sums):
                entry.sums[i] += value
            return True
        if len(self._entries) >= self._capacity and not self._make_room(hits):
            return False
        self._entries[key] = _Entry(payload, now, hits, sums)
        return True

    def add_hits(self, key: Hashable, hits: int) -> bool:
        """Count more observations of an event that is already here; False if it is not."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        entry.hits += hits
        return True

    def drop(self, reason: str, *, events: int = 0, hits: int = 0) -> None:
        """Count a loss that happened before an event reached this cache."""
        self._losses.count(reason, events=events, hits=hits)

    def limit(self, capacity: int, policy: Overflow) -> None:
        """Work under another capacity and policy from now on; what no longer fits leaves, oldest first."""
        self._capacity = _at_least_one(capacity)
        self._policy = policy
        while len(self._entries) > capacity:
            self._evict()

    def drain(self) -> tuple[list[Event], list[Loss]]:
        """End the cycle: the events in order of first observation, the losses; both start anew.

        An entry without hits (announced by a source, never counted) is not an event and is left out.
        """
        events = [self._event(entry) for entry in self._entries.values() if entry.hits]
        self._entries = {}
        self._warned = False
        return events, self._losses.take()

    def _event(self, entry: _Entry) -> Event:
        payload = entry.payload
        if entry.sums:
            payload = msgspec.structs.replace(payload, **dict(zip(self._kind.sums, entry.sums, strict=True)))
        return Event(payload, entry.first_seen, entry.hits)

    def _make_room(self, hits: int) -> bool:
        """Apply the policy to a full cache; True if a new event may come in."""
        if not self._warned:
            self._warned = True
            log.warning(
                "%s: more than %d distinct events in one cycle; raise %s to keep them all",
                self._kind.name,
                self._capacity,
                self._setting,
            )
        if self._policy is Overflow.DROP_NEW:
            self._losses.count(CACHE_FULL, events=1, hits=hits)
            return False
        self._evict()
        return True

    def _evict(self) -> None:
        key = next(iter(self._entries))
        entry = self._entries.pop(key)
        self._losses.count(CACHE_FULL, events=1, hits=entry.hits + self._forget(key))
