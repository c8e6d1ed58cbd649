"""A sign of life: since when agent and kernel run, in which boot, under which configuration."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from vedette.agent.collectors import Collected
from vedette.agent.collectors.periodic import PeriodicCollector
from vedette.agent.sources.files import attribute
from vedette.wire.events import Event, Heartbeat
from vedette.wire.twin import Priority, Settings


class HeartbeatCollector(PeriodicCollector):
    """One heartbeat a cycle.

    config_version: `$version` of the desired properties in force, 0 if there are none. monotonic: seconds,
    from which the agent's uptime is counted. clock: Unix seconds.
    """

    name = "Heartbeat"
    source = "/proc"

    def __init__(
        self,
        config_version: Callable[[], int] = lambda: 0,
        *,
        root: Path = Path("/"),
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config_version = config_version
        self._proc = root / "proc"
        self._monotonic = monotonic
        self._clock = clock
        self._begin = monotonic()

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.heartbeat_disabled

    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""
        return settings.heartbeat_frequency

    async def collect(self) -> Collected:
        """The heartbeat of this cycle."""
        heartbeat = Heartbeat(
            agent_uptime=int(self._monotonic() - self._begin),
            system_uptime=int(attribute(self._proc / "uptime").partition(".")[0] or 0),
            boot_id=attribute(self._proc / "sys/kernel/random/boot_id"),
            config_version=self._config_version(),
        )
        return Collected([Event(heartbeat, self._clock())], [])
