"""DNS: the names that the device asked for, what servers answered, and how often.

The answers are seen by the network activity collector, which hands them on; nothing is looked up here.
"""

from __future__ import annotations

from vedette.agent.aggregate import EventCache, Overflow
from vedette.agent.collectors import Collected
from vedette.agent.sources.dnswire import Answer
from vedette.wire.events import DNS, type_of
from vedette.wire.twin import Priority, Settings


class DnsCollector:
    """The collector `DNS`. See `Collector` for what its methods promise."""

    name = "DNS"
    source = "answers that NetworkActivity sees"

    def __init__(self) -> None:
        self._cache: EventCache | None = None

    def enabled(self, settings: Settings) -> bool:
        """False if it is switched off, or what sees the answers is."""
        return not settings.dns_disabled and not settings.network_disabled

    def priority(self, settings: Settings) -> Priority:
        """As DNS_MessageFrequency says."""
        return settings.dns_frequency

    async def start(self, settings: Settings) -> None:
        """Count answers from now on."""
        self._cache = EventCache(type_of(DNS), settings.dns_cache_size, setting="DNS_CacheSize")

    def answered(self, answer: Answer, server: str, at: float) -> None:
        """Count an answer of a server, seen at `at` (Unix seconds)."""
        if self._cache is not None:
            event = DNS(
                query_name=answer.name,
                query_type=answer.kind,
                response_code=answer.code,
                responding_server=server,
                answers=answer.answers,
            )
            self._cache.add(event, now=at)

    async def collect(self) -> Collected:
        """The names since the last call."""
        return Collected(*self._cache.drain()) if self._cache else Collected([], [])

    async def apply(self, settings: Settings) -> None:
        """Keep so many names from now on."""
        if self._cache is not None:
            self._cache.limit(settings.dns_cache_size, Overflow.DROP_OLDEST)

    async def stop(self) -> Collected:
        """Count no more."""
        collected = await self.collect()
        self._cache = None
        return collected
