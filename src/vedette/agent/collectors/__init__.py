"""Collectors: facts of a source become events, one collector a file.

A collector owns its source and its cache. `agent.app` starts it, drains it when its priority is due, and
stops it; it knows nothing of messages, schedules or the hub. Recipe for a new one: CONTRIBUTING.md.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from vedette.agent.losses import Loss
from vedette.wire.events import Event
from vedette.wire.twin import Priority, Settings


class Collected(NamedTuple):
    """What one cycle yields: events, oldest first, and what was lost on the way to them."""

    events: list[Event]
    losses: list[Loss]


class Collector(Protocol):
    """What `agent.app` asks of a collector. Calls never overlap."""

    name: str
    """As in its twin settings: `Process` for `Process_Disabled`."""

    @property
    def source(self) -> str:
        """Which source is in use, for people: `eBPF`; with the reason, if a better one was not available."""
        ...

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        ...

    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""
        ...

    async def start(self, settings: Settings) -> None:
        """Acquire the source. Raises Unavailable if this machine has none that serves."""
        ...

    async def collect(self) -> Collected:
        """End the cycle: hand over everything observed until now, exactly once."""
        ...

    async def apply(self, settings: Settings) -> None:
        """Work under new settings from now on. Called right after `collect`; what is observed in between
        is kept. Raises Unavailable like `start`."""
        ...

    async def stop(self) -> Collected:
        """Release the source, then hand over what had been observed until that moment."""
        ...
