"""Detection at work: batch by batch, each judged and its results stored with the position in one transaction.

So a crash between commit and detection loses nothing, and one in the middle repeats nothing. Several hubs on
one registry share the work by a lease: one judges, the others stand by. A worker that lost its lease without
noticing cannot do harm: its transaction finds another holder's, or a position other than it began at, and is
given up.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec
from sqlalchemy.orm import Session

from vedette.hub.detect import alerts
from vedette.hub.detect.changes import Batch, Changes, Position
from vedette.hub.detect.correlate import Correlator
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.rules import RuleSet
from vedette.hub.detect.schema import Database, PositionRow
from vedette.hub.detect.taxonomy import Observed
from vedette.hub.intel.lookup import Lookup
from vedette.hub.intel.watch import Watched
from vedette.hub.lake.storage import Where
from vedette.hub.lake.tables import RAW_EVENTS
from vedette.hub.registry.lease import Lease, Superseded

log = logging.getLogger(__name__)

PERIOD_S = 1.0
"""Pause when everything was judged. Devices report every half hour at most; a second is not noticed."""

TICK_S = 10.0
"""How often passing time is looked at (silence, ranges)."""

FORGET_S = 3600.0
"""How often what no window needs any more is dropped."""

LEASE = "detection"

Posture = Callable[[Session, Sequence[Observed], float], None]
"""What else is made of a batch, in the same transaction: recommendations."""


class Judged(msgspec.Struct):
    """What detection did since it started. failing: why the latest attempt failed, empty when it did not."""

    events: int = 0
    matches: int = 0
    alerts: int = 0
    version: int = -1
    holder: bool = False
    failing: str = ""


class Worker:
    """Judges what was committed. For one thread.

    posture: makes recommendations of the same batches. up_since: when the hub began to listen, Unix seconds.
    changed: other rules to go on with, None while they are the same. clock: see Lease.
    """

    def __init__(
        self,
        lake: Where,
        database: Database,
        rules: RuleSet,
        *,
        posture: Posture | None = None,
        up_since: float | None = None,
        changed: Callable[[], RuleSet | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = Judged()
        self._lease = Lease(LEASE, database.read, database.write, clock=clock)
        self._changes = Changes(lake)
        self._database = database
        self._listed = Watched()
        self._judge, self._correlator = _bench(rules, self._listed.lookup)
        self._changed = changed
        self._posture = posture
        self._up_since = time.time() if up_since is None else up_since
        self._ticked = self._forgot = float("-inf")

    def step(self, now: float) -> bool:
        """Judge the next batch; True if there is more to do at once. Raises what disk and database raise."""
        if rules := self._changed():
            self._judge.close()
            self._judge, self._correlator = _bench(rules, self._listed.lookup)
        position = self._begin(now)
        if position is None:
            return False
        self._look_at_lists(now)
        with collector_at_rest():
            batch = self._changes.after(position)
        moved = batch.position != position
        if not moved and now - self._ticked < TICK_S:
            return False
        with collector_at_rest():
            matches = self._judge.judge(batch.events)
        try:
            with self._database.write.begin() as session:
                self._hold(session, position)
                findings = self._correlator.take(session, matches, now=now, fresh_after=position.watermark)
                if batch.caught_up:
                    findings += self._correlator.due(session, now, self._up_since)
                raised = alerts.record(session, findings, now)
                if self._posture:
                    self._posture(session, batch.events, now)
                self._forget(session, now)
                _store(session, batch.position)
        except Superseded as error:
            self.state.holder = False
            log.info("detection: %s", error)
            return False
        self._ticked = now
        self._count(batch, len(matches), len(raised))
        return moved and not batch.caught_up

    def _look_at_lists(self, now: float) -> None:
        with self._database.read.begin() as session:
            if self._listed.refresh(session, now):
                self._judge.use(self._listed.lookup)
                log.info("%d indicators are looked for", len(self._listed.lookup))

    def release(self) -> None:
        """Give the lease back, so that another worker need not wait for its end, and close the database."""
        try:
            self._lease.release()
        finally:
            self._judge.close()
            self._database.close()

    def _begin(self, now: float) -> Position | None:
        """Take or renew the lease, and the position to go on from; None while another worker holds it."""
        self.state.holder = self._lease.claim()
        if not self.state.holder:
            return None
        with self._database.read.begin() as session:
            stored = session.get(PositionRow, RAW_EVENTS.name)
            known = Position(stored.version, stored.watermark) if stored else None
        return known or self._changes.beginning(now)

    def _hold(self, session: Session, position: Position) -> None:
        """Make sure that nobody else has gone on from this position. Raises Superseded."""
        self._lease.check(session)
        stored = session.get(PositionRow, RAW_EVENTS.name)
        if stored is not None and (stored.version, stored.watermark) != tuple(position):
            raise Superseded("another worker has moved the position")

    def _forget(self, session: Session, now: float) -> None:
        if now - self._forgot >= FORGET_S:
            self._forgot = now
            self._correlator.forget(session, now)
            alerts.forget(session, now)

    def _count(self, batch: Batch, matches: int, raised: int) -> None:
        self.state.events += len(batch.events)
        self.state.matches += matches
        self.state.alerts += raised
        self.state.version = batch.position.version


def _bench(rules: RuleSet, lookup: Lookup) -> tuple[Judge, Correlator]:
    """What judges by these rules. All that it remembers of past events is in the database."""
    running = rules.running()
    return Judge(running.selections.values(), lookup), Correlator(running)


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Spare Python the search for garbage cycles while a batch is made.

    It makes none, and its tens of thousands of dictionaries cause a search each few hundred, which took half
    of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _store(session: Session, position: Position) -> None:
    row = PositionRow(name=RAW_EVENTS.name, version=position.version, watermark=position.watermark)
    session.merge(row)


class Detection:
    """Runs a worker in a thread of its own, `detection`. `start` after the intake's, `close` after it.

    worker: made in that thread, since loading the rules takes a moment and SQLite belongs to one thread.
    """

    def __init__(self, worker: Callable[[], Worker], *, period: float = PERIOD_S) -> None:
        self.state = Judged()
        self._make = worker
        self._period = period
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="detection")
        self._running: asyncio.Future[None]

    async def start(self) -> None:
        """Load the rules, then begin to judge. Raises what the database raises."""
        loop = asyncio.get_running_loop()
        worker = await loop.run_in_executor(self._thread, self._make)
        self.state = worker.state
        self._running = loop.run_in_executor(self._thread, self._run, worker)

    async def close(self) -> None:
        """Finish the batch that is being judged, judge what is left, then stop."""
        self._stop.set()
        await self._running
        self._thread.shutdown()

    def _run(self, worker: Worker) -> None:
        while not self._stop.wait(0 if self._turn(worker) else self._period):
            pass
        while self._turn(worker):
            pass
        try:
            worker.release()
        except Exception as error:  # noqa: BLE001 - a database that is away must not keep a hub from stopping
            log.warning("detection: the lease is not given back, it will end by itself: %s", error)

    def _turn(self, worker: Worker) -> bool:
        """One step; what fails is said once and tried again. Whether there is more to do."""
        try:
            more = worker.step(time.time())
        except Exception as error:  # a full disk or a locked database must not end detection
            if not self.state.failing:
                log.error("detection fails: %s", error, exc_info=error)
            self.state.failing = str(error) or type(error).__name__
            return False
        if self.state.failing:
            log.info("detection works again")
            self.state.failing = ""
        return more
