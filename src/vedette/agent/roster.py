"""The collectors at work: started, drained, reconfigured, restarted after a failure, stopped.

One collector's failure never reaches another: it is logged once, counted, and tried again with back-off.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from vedette.agent.collectors import Collected, Collector
from vedette.agent.losses import Loss
from vedette.agent.sources import Unavailable
from vedette.wire.events import Event
from vedette.wire.message import Window
from vedette.wire.twin import Priority, Settings

log = logging.getLogger(__name__)

RETRY_MIN_S = 5.0
RETRY_MAX_S = 600.0
"""Back-off of a collector that cannot work, doubling between the two: soon enough after a passing fault,
and a machine that lacks a source for good is asked six times an hour."""

NOTHING = Collected([], [])


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

    __slots__ = ("collector", "failures", "reason", "retry_at", "since")

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.since: float | None = None
        self.failures = 0
        self.retry_at: float | None = None
        self.reason = "off"


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

    async def start(self, settings: Settings) -> None:
        """Start every collector that the settings do not switch off."""
        for post in self._posts:
            if post.collector.enabled(settings):
                await self._start(post, settings)

    async def collect(self, priorities: Collection[Priority], settings: Settings) -> list[Batch]:
        """Drain the running collectors of these priorities."""
        return [
            batch
            for post in self._posts
            if post.since is not None and post.collector.priority(settings) in priorities
            for batch in await self._drain(post, post.collector.collect)
        ]

    async def apply(self, old: Settings, new: Settings) -> list[Batch]:
        """Go over to new settings; only the collectors concerned notice. Returns what stopped ones held."""
        batches: list[Batch] = []
        changed = _changed_keys(old, new)
        for post in self._posts:
            name = post.collector.name
            if post.since is not None and not post.collector.enabled(new):
                batches += await self._stop(post)
            elif post.since is None and post.collector.enabled(new):
                await self._start(post, new)
            elif post.since is not None and any(key.startswith(f"{name}_") for key in changed):
                await self._attempt(post, post.collector.apply(new))
        return batches

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
        return [batch for post in self._posts if post.since is not None for batch in await self._stop(post)]

    def status(self) -> Sequence[Status]:
        """The state of each collector, in flow order."""
        return [
            Status(post.collector.name, "running", post.collector.source)
            if post.since is not None
            else Status(post.collector.name, post.reason, "")
            for post in self._posts
        ]

    async def _start(self, post: _Post, settings: Settings) -> None:
        begin = self._clock()
        if await self._attempt(post, post.collector.start(settings)):
            log.info("%s: collecting by %s", post.collector.name, post.collector.source)
            post.since, post.failures, post.retry_at = begin, 0, None

    async def _stop(self, post: _Post) -> list[Batch]:
        batches = await self._drain(post, post.collector.stop)
        post.since, post.retry_at, post.reason = None, None, "off"
        return batches

    async def _drain(self, post: _Post, take: Callable[[], Awaitable[Collected]]) -> list[Batch]:
        assert post.since is not None, "only a running collector can be drained"
        start = post.since
        taken: list[Collected] = []

        async def drain() -> None:
            taken.append(await take())

        if not await self._attempt(post, drain()):
            return []
        end = max(start, self._clock())
        post.since = end
        (collected,) = taken
        batch = Batch(post.collector.name, collected.events, Window(start, end), collected.losses)
        self._drained(batch)
        return [batch]

    async def _attempt(self, post: _Post, work: Awaitable[None]) -> bool:
        """Await a collector's work; True if it went well. Otherwise the collector is put on back-off."""
        name = post.collector.name
        try:
            await work
        except Unavailable as reason:
            if post.failures == 0:
                log.warning("%s: not collecting: %s", name, reason)
            post.reason = str(reason)
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
        """Release what a failed collector may still hold; its own failure to do so is only logged."""
        try:
            await post.collector.stop()
        except Exception:
            log.exception("%s: could not be stopped after its failure", post.collector.name)


def _changed_keys(old: Settings, new: Settings) -> set[str]:
    before, after = old.document(), new.document()
    return {key for key in after if before[key] != after[key]}
