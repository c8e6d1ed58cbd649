"""The lookup that detection has in memory, made anew when a list changed or indicators expired."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy.orm import Session

from vedette.hub.detect.schema import Database
from vedette.hub.intel.indicators import Indicator
from vedette.hub.intel.lookup import Lookup
from vedette.hub.intel.store import listed, revisions

EXPIRY_PERIOD_S = 3600.0
"""How often expired indicators are dropped: a lookup of a million takes seconds to make."""


def lookup_now(database: Database) -> Lookup:
    """The lookup over all lists as they are."""
    watched = Watched()
    with database.read.begin() as session:
        watched.refresh(session, time.time())
    return watched.lookup


class Watched:
    """The lookup over all lists. lookup: the one that holds now."""

    def __init__(self) -> None:
        self.lookup = Lookup()
        self._state: tuple[str, ...] = ()
        self._expiry = float("inf")

    def refresh(self, session: Session, now: float) -> bool:
        """Look whether the lists are others; True if there is a new lookup. now: Unix seconds."""
        state = revisions(session, "indicators")
        if state == self._state and now < self._expiry:
            return False
        earliest = float("inf")

        def current() -> Iterator[Indicator]:
            nonlocal earliest
            for _, one in listed(session):
                expires = one.expires or float("inf")
                if expires > now:
                    earliest = min(earliest, expires)
                    yield one

        self.lookup = Lookup(current())
        self._expiry = max(earliest, now + EXPIRY_PERIOD_S)
        self._state = state
        return True
