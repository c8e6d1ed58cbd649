"""The security baseline: a scan in the background, its results when they are due.

A scan takes seconds to minutes, so it is not made when the results are asked for but before: right after
the start, and then in time for each next cycle. Its steps run in one thread of their own, `baseline`,
which yields to everything else: lowest CPU priority, and a pause after each step.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vedette.agent.baseline.declare import Result
from vedette.agent.baseline.run import run, wanted
from vedette.agent.baseline.scan import Outcome
from vedette.agent.baseline.tree import DiskTree
from vedette.agent.collectors import Collected
from vedette.wire.events import Baseline, Event
from vedette.wire.twin import Priority, Settings

NICENESS = 19
"""The scan gets the CPU when nobody else wants it (setpriority(2): per thread on Linux)."""

MAX_PAUSE_S = 5.0
"""Longest rest after one step, however long it took: a slow program's time was not spent here."""

SCAN_PART = 0.8
"""Of what the whole agent may take of the processor (`Agent_MaxCpuPercent`); the rest is for the others."""

LEAD_S = 60.0
"""A scan starts this much before its results are due, and twice what the last one took."""


class BaselineCollector:
    """Scans the device below a root.

    clock: Unix seconds, for the events of a scan, which all have one time.
    """

    name = "Baseline"
    source = "files"

    def __init__(self, root: Path = Path("/"), *, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._clock = clock
        self._settings = Settings()
        self._task: asyncio.Task[None] | None = None
        self._ready: list[Event] = []
        self._collected = asyncio.Event()
        self.scanned = asyncio.Event()
        """Set while results wait to be collected."""

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.baseline_disabled

    def priority(self, settings: Settings) -> Priority:
        """How soon its results are sent."""
        return settings.baseline_frequency

    async def start(self, settings: Settings) -> None:
        """Begin the first scan."""
        self._settings = settings
        self._task = asyncio.create_task(self._scans(), name="baseline")

    async def collect(self) -> Collected:
        """The results of the latest complete scan, if they were not handed over yet."""
        if self._task and self._task.done():
            await self._task
        ready, self._ready = self._ready, []
        self.scanned.clear()
        self._collected.set()
        return Collected(ready, [])

    async def apply(self, settings: Settings) -> None:
        """Scan anew under other settings."""
        await self._cancel()
        await self.start(settings)

    async def stop(self) -> Collected:
        """End a scan at its present step; hand over what the last complete one found."""
        await self._cancel()
        ready, self._ready = self._ready, []
        return Collected(ready, [])

    async def _cancel(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _scans(self) -> None:
        """Scan, wait until the results were taken, sleep until the next are needed, and again."""
        while True:
            begin = time.monotonic()
            self._ready = await self._scan()
            self.scanned.set()
            self._collected.clear()
            await self._collected.wait()
            interval = self._settings.intervals[self.priority(self._settings)]
            lead = LEAD_S + 2 * (time.monotonic() - begin)
            await asyncio.sleep(max(interval - lead, interval / 2))

    async def _scan(self) -> list[Event]:
        loop = asyncio.get_running_loop()
        settings, outcomes = self._settings, []
        tree = DiskTree(self._root)
        steps = run(tree, settings)
        worker = ThreadPoolExecutor(1, "baseline", initializer=_yield_to_others)
        try:
            while True:
                begin = time.monotonic()
                more, outcome = await loop.run_in_executor(worker, _step, steps)
                if not more:
                    break
                if outcome and wanted(outcome, settings):
                    outcomes.append(outcome)
                spent = time.monotonic() - begin
                await asyncio.sleep(min(spent * (100 / share(settings) - 1), MAX_PAUSE_S))
        finally:
            tree.close()
            worker.shutdown(wait=False)
        now, scan_id = self._clock(), uuid.uuid4().hex
        return [Event(_payload(outcome, scan_id), now) for outcome in outcomes]


def share(settings: Settings) -> float:
    """Percent of one core that a scan takes: with more than its part, the agent's governor would end it."""
    if not settings.max_cpu:
        return settings.baseline_cpu_share
    return min(settings.baseline_cpu_share, settings.max_cpu * SCAN_PART)


def _yield_to_others() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _step(steps: Iterator[Outcome | None]) -> tuple[bool, Outcome | None]:
    """One step of a scan; False once there are none left."""
    for outcome in steps:
        return True, outcome
    return False, None


PASSED_EVIDENCE = 2
"""Lines of evidence sent with a check that passed. What failed is told in full."""


def _payload(outcome: Outcome, scan_id: str) -> Baseline:
    """What is sent of an outcome. Advice only where it is needed: a scan of 237 checks is metered."""
    bad = outcome.result in {Result.FAIL, Result.ERROR}
    return Baseline(
        event_id=scan_id,
        baseline_check_id=outcome.check_id,
        baseline_check_result=outcome.result.value,
        baseline_check_description=outcome.description,
        baseline_check_remediation=outcome.remediation if bad else "",
        baseline_check_severity=outcome.severity.value,
        baseline_check_error=outcome.reason,
        baseline_check_group=outcome.group,
        baseline_check_evidence=outcome.evidence if bad else outcome.evidence[:PASSED_EVIDENCE],
    )
