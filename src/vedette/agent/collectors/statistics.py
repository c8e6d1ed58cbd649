"""What became of the events, by collector, and what the agent itself used.

`agent.app` records an outcome where it happens; this collector only adds up and tells. `sent` means handed
to the outbox: what the outbox drops later is recorded under its own name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from os import sysconf
from pathlib import Path
from typing import NamedTuple

from vedette.agent.collectors import Collected
from vedette.agent.collectors.periodic import PeriodicCollector
from vedette.agent.losses import CACHE_FULL, Loss, Losses
from vedette.agent.sources.files import attribute
from vedette.wire.events import Event, Outcome, Statistics
from vedette.wire.twin import Priority, Settings

SENT = "sent"
AGENT = "Agent"
"""Name under which the agent's own use of the device is told."""


class Gauges(NamedTuple):
    """The outbox now, and the metered messages that it was given since the agent started."""

    queue_messages: int = 0
    queue_bytes: int = 0
    metered_units: int = 0


class Use(NamedTuple):
    """Seconds of a collector since the agent started: of processor time, and of rest that it had to take."""

    cpu: float = 0.0
    shed: float = 0.0

    def since(self, before: Use) -> Use:
        """What has been added, to the millisecond."""
        return Use(round(self.cpu - before.cpu, 3), round(self.shed - before.shed, 3))


def _unknown() -> Mapping[str, Use]:
    return {}


class StatisticsCollector(PeriodicCollector):
    """One event for each collector that had an outcome or was at work in the cycle, and one for the agent.

    gauges, uses (by collector): asked once a cycle. processor: seconds of processor time of this process.
    clock: Unix seconds.
    """

    name = "Statistics"
    source = "the agent"

    def __init__(
        self,
        gauges: Callable[[], Gauges] = Gauges,
        *,
        uses: Callable[[], Mapping[str, Use]] = _unknown,
        processor: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gauges = gauges
        self._uses = uses
        self._told_uses: Mapping[str, Use] = {}
        self._processor = processor
        self._clock = clock
        self._settings = Settings()
        self._tallies: dict[str, Losses] = {}
        self._lost = Losses()
        self._capacity = 0
        self._told_processor = 0.0
        self._told_units = 0

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.statistics_disabled

    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""
        return settings.statistics_frequency

    async def start(self, settings: Settings) -> None:
        """Begin a cycle."""
        await self.apply(settings)
        self._told_processor, self._told_units = self._processor(), self._gauges().metered_units

    async def apply(self, settings: Settings) -> None:
        """Take other settings."""
        await super().apply(settings)
        self._capacity = settings.statistics_cache_size

    def record(self, name: str, *, events: int = 0, hits: int = 0, losses: Iterable[Loss] = ()) -> None:
        """Add what became of a collector's events: so many sent, standing for so many hits, and losses.

        Beyond `Statistics_CacheSize` names nothing is added; that is itself counted as a loss. Nothing at
        all is added while the collector is not at work.
        """
        losses = list(losses)
        if not self._capacity or not (events or hits or losses):
            return
        if name not in self._tallies and len(self._tallies) >= self._capacity:
            self._lost.count(CACHE_FULL, events=1)
            return
        tally = self._tallies.setdefault(name, Losses())
        tally.count(SENT, events=events, hits=hits)
        for loss in losses:
            tally.count(f"dropped: {loss.reason}", events=loss.events, hits=loss.hits)

    async def collect(self) -> Collected:
        """The outcomes since the last cycle, by name, and the agent's own figures."""
        now = self._clock()
        tallies, self._tallies = self._tallies, {}
        uses, before = self._uses(), self._told_uses
        self._told_uses = uses
        used = {name: use.since(before.get(name, Use())) for name, use in uses.items()}
        names = tallies.keys() | {name for name, use in used.items() if any(use)}
        told = [_told(name, tallies.get(name), used.get(name, Use())) for name in sorted(names)]
        return Collected([Event(payload, now) for payload in (*told, self._agent())], self._lost.take())

    async def stop(self) -> Collected:
        """The last cycle."""
        self._capacity = 0
        return await self.collect()

    def _agent(self) -> Statistics:
        processor, gauges = self._processor(), self._gauges()
        spent = processor - self._told_processor, gauges.metered_units - self._told_units
        self._told_processor, self._told_units = processor, gauges.metered_units
        return Statistics(
            name=AGENT,
            cpu_seconds=round(spent[0], 3),
            resident_bytes=resident_bytes(),
            queue_messages=gauges.queue_messages,
            queue_bytes=gauges.queue_bytes,
            metered_units=spent[1],
        )


def _told(name: str, tally: Losses | None, use: Use) -> Statistics:
    return Statistics(
        name=name,
        events=tuple(
            Outcome(description=loss.reason, hit_count=loss.hits, events=loss.events)
            for loss in (tally.take() if tally else [])
        ),
        cpu_seconds=use.cpu or None,
        shed_seconds=use.shed or None,
    )


def resident_bytes() -> int:
    """Memory of this process that is in RAM: the second field of proc_pid_statm(5), in pages."""
    fields = attribute(Path("/proc/self/statm")).split()
    return int(fields[1]) * sysconf("SC_PAGESIZE") if len(fields) > 1 else 0
