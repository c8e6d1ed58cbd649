"""Who may knock, and how often: bounds on connections before they are let in.

Pure; time passed in. Nothing here grows with what strangers send: every table has a bound.
"""

from __future__ import annotations

from collections import Counter

from vedette.hub.limits import Buckets, Limits
from vedette.wire.iothub import Identity

MAX_BUCKETS = 100_000
"""Identities whose rate of connecting is remembered; those that came least lately are forgotten first."""


class Knock:
    """A stranger's place at the door, until `leave`."""

    __slots__ = ("_address", "_door")

    def __init__(self, door: Door, address: str) -> None:
        self._door: Door | None = door
        self._address = address

    def leave(self) -> None:
        """It was let in, or has gone; more calls mean nothing."""
        door, self._door = self._door, None
        if door:
            door.gone(self._address)


class Door:
    """The connections that have not been let in, by address, and the identities that come too often."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._strangers: Counter[str] = Counter()
        self._connects: Buckets[Identity] = Buckets(
            limits.connects_per_second, limits.connect_burst, MAX_BUCKETS
        )

    def knock(self, address: str) -> Knock | None:
        """A connection comes: its place, or None if too many of its address wait already."""
        if self._strangers[address] >= self._limits.strangers_per_address:
            return None
        self._strangers[address] += 1
        return Knock(self, address)

    def gone(self, address: str) -> None:
        """A place is free."""
        self._strangers[address] -= 1
        if not self._strangers[address]:
            del self._strangers[address]

    def too_often(self, identity: Identity, now: float) -> bool:
        """A proven identity connects: True if it has to come again later. `now` is monotonic."""
        return not self._connects.of(identity, now).take(now)
