"""Leases: which of several processes on one registry does work that only one may do at a time.

A lease has no end by the clock, for the clocks of hosts differ, and jump. Its holder counts it up while it
works; whoever stands by takes it over when it has seen no change for a while, by a clock of its own that only
goes forward. Each taking gives a higher token. A holder that was slow and lost the lease without noticing
does no harm: what it then does is refused, since it carries the lower token (`check`, and `lake.maintain`).
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.schema import Base

LEASE_S = 30.0
"""How long a lease holds without being renewed: twenty times what a batch of 10,000 events takes to judge."""

RENEWALS = 3
"""How often a lease is renewed in that time, so that one that fails is no reason to lose it."""


class LeaseRow(Base):
    """Who does some work; nobody if `holder` is empty.

    token: grows with each taking. beat: grows with each renewal. renewed: Unix seconds, for people only.
    """

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    token: Mapped[int]
    beat: Mapped[int]
    renewed: Mapped[float]


class Superseded(Exception):
    """Another process has taken over: what was done since must not be stored."""


class Holding(NamedTuple):
    """A lease as people see it. renewed: Unix seconds by the holder's clock."""

    name: str
    holder: str
    token: int
    renewed: float


Sessions = sessionmaker[Session]


class Lease:
    """One process's claim to some work. For one thread.

    read, write: sessions on the registry, the second for one writer after the other. clock: seconds that only
    go forward. token: of the last taking; 0 before the first.
    """

    def __init__(
        self,
        name: str,
        read: Sessions,
        write: Sessions,
        *,
        seconds: float = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.holder = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self.token = 0
        self.held = False
        self._read, self._write = read, write
        self._seconds, self._clock = seconds, clock
        self._renewed = 0.0
        self._seen: tuple[int, int] | None = None
        self._since = 0.0

    def claim(self) -> bool:
        """Take the lease, or renew it when that is due; False while another process holds it."""
        now = self._clock()
        if self.held and now - self._renewed < self._seconds / RENEWALS:
            return True
        with self._read.begin() as session:
            self.held = self._free(session.get(LeaseRow, self.name), now)
        if self.held:
            with self._write.begin() as session:
                self.held = self._take(session, now)
        return self.held

    def check(self, session: Session) -> None:
        """Raise Superseded if another process has taken over; none can before the transaction ends."""
        row = session.get(LeaseRow, self.name, with_for_update=True)
        if row is None or (row.holder, row.token) != (self.holder, self.token):
            self.held = False
            raise Superseded(f"{self.name}: another process has taken over")

    def release(self) -> None:
        """Give it back, so that nobody has to wait for its end."""
        self.held = False
        with self._write.begin() as session:
            row = session.get(LeaseRow, self.name, with_for_update=True)
            if row is not None and row.holder == self.holder:
                row.holder = ""

    def _free(self, row: LeaseRow | None, now: float) -> bool:
        """Whether the lease is ours, nobody's, or its holder's who has not been heard of for long enough."""
        if row is None or row.holder in ("", self.holder):
            return True
        if self._seen != (row.token, row.beat):
            self._seen, self._since = (row.token, row.beat), now
        return now - self._since > self._seconds

    def _take(self, session: Session, now: float) -> bool:
        row = session.get(LeaseRow, self.name, with_for_update=True)
        if not self._free(row, now):
            return False
        if row is None:
            row = LeaseRow(name=self.name, holder="", token=0, beat=0)
            session.add(row)
        if row.holder != self.holder:
            row.holder, row.token = self.holder, row.token + 1
        row.beat, row.renewed = row.beat + 1, time.time()
        self.token, self._renewed = row.token, now
        return True


def holdings(session: Session) -> Sequence[Holding]:
    """Every lease that somebody holds, or held when it was last heard of."""
    rows = session.scalars(select(LeaseRow).where(LeaseRow.holder != "").order_by(LeaseRow.name))
    return [Holding(row.name, row.holder, row.token, row.renewed) for row in rows]
