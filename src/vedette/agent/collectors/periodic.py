"""What collectors share that look at the device when they are asked, and hold nothing in between."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vedette.agent.collectors import Collected
from vedette.wire.twin import Priority, Settings


class PeriodicCollector(ABC):
    """A collector whose source is there at any moment: starting it takes nothing but its settings."""

    name: str
    source: str
    _settings: Settings

    @abstractmethod
    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""

    @abstractmethod
    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""

    async def start(self, settings: Settings) -> None:
        """Take the settings."""
        self._settings = settings

    async def apply(self, settings: Settings) -> None:
        """Take other settings."""
        self._settings = settings

    @abstractmethod
    async def collect(self) -> Collected:
        """Look, and tell."""

    async def stop(self) -> Collected:
        """Nothing was held back."""
        return Collected([], [])
