"""The collectors at work: started, drained, reconfigured, restarted after a failure, stopped.

One collector's failure never reaches another: it is logged once, counted, and tried again with back-off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from vedette.agent.collectors import Collected, Collector
from vedette.agent.losses import Loss
from vedette.agent.meter import on_behalf
from vedette.agent.sources import Unavailable
from vedette.wire.events import Event
from vedette.wire.message import Window
from vedette.wire.twin import Settings

log = logging.getLogger(__name__)

RETRY_MIN_S = 5.0
RETRY_MAX_S = 600.0
"""Back-off of a collector that cannot work, doubling between the two: soon enough after a passing fault,
and a machine that lacks a source for good is asked six times an hour."""

ALSO_CONCERN = {"Baseline": ("CollectorsCore_PriorityIntervals", "Agent_MaxCpuPercent")}
"""Settings that matter to a collector beside those that begin with its name: the baseline is scanned once in
an interval, at a pace that the whole agent may go."""


class Batch(NamedTuple):
    """One collector's cycle: its events with the time they stand for, and its losses."""

    name: str
    events: list[Event]
    window: Window
    losses: list[Loss]


class Status(msgspec.Struct, frozen=True):
    """A collector's state for people: `running`, `off`, or why it is not running."""

    name: str
    state: str
    source: str


class _Post:
    """One collector's place: since when it counts (Unix seconds; None while it does not)."""

    __slots__ = ("collector", "failures", "reason", "rest_since", "rested", "retry_at", "since")

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.since: float | None = None
        self.failures = 0
        self.retry_at: float | None = None
        self.reason = "off"
        self.rest_since: float | None = None
        self.rested = 0.0

    def concerned(self, changed: set[str]) -> bool:
        """Whether any of these settings matters to the collector."""
        prefixes = (f"{self.collector.name}_", *ALSO_CONCERN.get(self.collector.name, ()))
        return any(key.startswith(prefixes) for key in changed)


class Roster:
    """All collectors of an agent. Calls must not overlap: `agent.app` makes them one at a time.

    clock: Unix seconds, for windows. monotonic: seconds, for back-off. drained: told of each batch before
    the next collector is drained.
    """

    def __init__(
        self,
        collectors: Iterable[Collector],
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        drained: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        self._drained = drained
        self._posts = [_Post(collector) for collector in collectors]
        self._clock = clock
        self._monotonic = monotonic
        self._rescued: list[Batch] = []

    async def start(self, settings: Settings) -> None:
        """Start every collector that the settings do not switch off."""
        for post in self._posts:
            if post.collector.enabled(settings):
                await self._start(post, settings)

    async def collect(self, due: Callable[[Collector], bool]) -> list[Batch]:
        """Drain the running collectors that are due."""
        batches = self._take_rescued()
        for post in self._posts:
            if post.since is not None and due(post.collector):
                batches += await self._drain(post, post.collector.collect)
        return batches

    async def apply(self, old: Settings, new: Settings) -> list[Batch]:
        """Go over to new settings; only the collectors concerned notice. Returns what stopped ones held."""
        batches: list[Batch] = []
        changed = _changed_keys(old, new)
        for post in self._posts:
            if post.since is not None and not post.collector.enabled(new):
                batches += await self._stop(post)
            elif post.since is None and post.collector.enabled(new):
                await self._start(post, new)
            elif post.since is not None and post.concerned(changed):
                await self._attempt(post, post.collector.apply(new))
        return batches + self._take_rescued()

    async def shed(self, name: str) -> list[Batch]:
        """Stop a collector until `restore`, whatever the settings say. Returns what it held."""
        post = self._post(name)
        post.rest_since = self._monotonic()
        batches = await self._stop(post) if post.since is not None else []
        post.retry_at, post.reason = None, "resting: Agent_MaxCpuPercent"
        return batches

    async def restore(self, name: str, settings: Settings) -> None:
        """Let a collector work again that `shed` had stopped."""
        post = self._post(name)
        post.rested = self.rested(name)
        post.rest_since, post.reason = None, "off"
        if post.collector.enabled(settings):
            await self._start(post, settings)

    def rested(self, name: str) -> float:
        """Seconds that a collector has been stopped by `shed`, all together."""
        post = self._post(name)
        return post.rested + (0.0 if post.rest_since is None else self._monotonic() - post.rest_since)

    @property
    def names(self) -> list[str]:
        """The collectors, in flow order."""
        return [post.collector.name for post in self._posts]

    def _post(self, name: str) -> _Post:
        return next(post for post in self._posts if post.collector.name == name)

    async def revive(self, settings: Settings) -> None:
        """Try again to start what failed and whose back-off has passed."""
        now = self._monotonic()
        for post in self._posts:
            if post.retry_at is not None and post.retry_at <= now and post.collector.enabled(settings):
                await self._start(post, settings)

    def retry_at(self) -> float:
        """Monotonic time of the next attempt; infinity if none is due."""
        return min((post.retry_at for post in self._posts if post.retry_at is not None), default=float("inf"))

    async def stop(self) -> list[Batch]:
        """Stop all, and hand over what they still held."""
        batches = self._take_rescued()
        for post in self._posts:
            if post.since is not None:
                batches += await self._stop(post)
        return batches + self._take_rescued()

    def status(self) -> Sequence[Status]:
        """The state of each collector, in flow order."""
        return [
            Status(post.collector.name, "running", post.collector.source)
            if post.since is not None
            else Status(post.collector.name, post.reason, "")
            for post in self._posts
        ]

    async def _start(self, post: _Post, settings: Settings) -> None:
        if post.rest_since is not None:
            return
        begin = self._clock()
        if await self._attempt(post, post.collector.start(settings)):
            log.info("%s: collecting by %s", post.collector.name, post.collector.source)
            post.since, post.failures, post.retry_at = begin, 0, None

    async def _stop(self, post: _Post) -> list[Batch]:
        batches = await self._drain(post, post.collector.stop)
        post.since, post.retry_at, post.reason = None, None, "off"
        return batches

    async def _drain(self, post: _Post, take: Callable[[], Coroutine[Any, Any, Collected]]) -> list[Batch]:
        taken: list[Collected] = []

        async def drain() -> None:
            taken.append(await take())

        return [self._batch(post, taken[0])] if await self._attempt(post, drain()) else []

    def _batch(self, post: _Post, collected: Collected) -> Batch:
        """What a collector handed over, with the time that it stands for."""
        assert post.since is not None, "only a running collector has something to hand over"
        start, post.since = post.since, max(post.since, self._clock())
        batch = Batch(post.collector.name, collected.events, Window(start, post.since), collected.losses)
        self._drained(batch)
        return batch

    async def _attempt(self, post: _Post, work: Coroutine[Any, Any, None]) -> bool:
        """Await a collector's work; True if it went well. Otherwise the collector is put on back-off."""
        name = post.collector.name
        try:
            await on_behalf(name, work)
        except Unavailable as reason:
            if post.failures == 0:
                log.warning("%s: not collecting: %s", name, reason)
            post.reason = str(reason)
            if post.since is not None:  # it worked until now
                await self._abandon(post)
        except Exception as error:
            log.exception("%s: failed, will be restarted", name)
            post.reason = f"failed: {type(error).__name__}"
            await self._abandon(post)
        else:
            return True
        delay = min(RETRY_MAX_S, RETRY_MIN_S * 2.0**post.failures)
        post.since, post.failures, post.retry_at = None, post.failures + 1, self._monotonic() + delay
        return False

    async def _abandon(self, post: _Post) -> None:
        """Release what a failed collector still has, and keep what it had observed for the next send."""
        try:
            collected = await on_behalf(post.collector.name, post.collector.stop())
        except Exception:
            log.exception("%s: could not be stopped after its failure", post.collector.name)
            return
        if post.since is not None and any(collected):
            self._rescued.append(self._batch(post, collected))

    def _take_rescued(self) -> list[Batch]:
        rescued, self._rescued = self._rescued, []
        return rescued


def _changed_keys(old: Settings, new: Settings) -> set[str]:
    before, after = old.document(), new.document()
    return {key for key in after if before[key] != after[key]}
