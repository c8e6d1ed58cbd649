"""A rule over the past, while somebody watches: how far it is, and its end before its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from vedette.hub.detect import history
from vedette.hub.detect.alerts import Alert
from vedette.hub.detect.rules import RuleSet
from vedette.hub.detect.schema import Database
from vedette.hub.intel.watch import lookup_now
from vedette.hub.lake import Lake

AT_A_TIME = threading.BoundedSemaphore(1)
"""Trials of all pages that run at once: one takes a core, and the gateway needs the others."""


class Busy(Exception):
    """Another trial is running."""


class _Cancelled(Exception):
    """Nobody waits for the answer any more."""


class Trial:
    """events: read so far. share: of the time that is looked at, 0 to 1."""

    def __init__(self, lake: Lake, database: Database, rules: RuleSet, span: float) -> None:
        self.events = 0
        self.share = 0.0
        self._lake = lake
        self._database = database
        self._rules = rules
        self._span = span
        self._ended = False

    def run(self) -> Sequence[Alert] | None:
        """The alerts that there would have been; None if it was cancelled. Blocks. Raises Busy."""
        if not AT_A_TIME.acquire(blocking=False):
            raise Busy("Another trial is running; try again when it has ended.")
        begun = time.time() - self._span

        def heard(events: int, until: float) -> None:
            self.events, self.share = events, min(1.0, max(0.0, (until - begun) / self._span))
            if self._ended:
                raise _Cancelled

        try:
            listed = lookup_now(self._database)
            return history.replay(self._lake.where, self._rules, begun, heard, listed)[1]
        except _Cancelled:
            return None
        finally:
            AT_A_TIME.release()

    def cancel(self) -> None:
        """End it after the batch that is being read."""
        self._ended = True
