"""The configuration of the packet filter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import time

from msgspec.structs import asdict

from vedette.agent.collectors.snapshot import Part, SnapshotCollector
from vedette.agent.losses import Losses
from vedette.agent.sources import packet_filter
from vedette.agent.sources.rule import Rule
from vedette.wire.events import FirewallConfiguration, FirewallRule
from vedette.wire.twin import Priority, Settings


class FirewallCollector(SnapshotCollector[FirewallRule]):
    """Chains and rules of nftables and iptables.

    root: where the device's /proc and /sys are. rules: where the rules are asked for.
    """

    name = "FirewallConfiguration"
    source = "nftables, iptables"

    def __init__(
        self,
        state: Path,
        *,
        root: Path = Path("/"),
        rules: Callable[[Path], Iterable[Rule]] = packet_filter.rules,
        clock: Callable[[], float] = time,
    ) -> None:
        super().__init__(state, clock=clock)
        self._root = root
        self._rules = rules

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.firewall_disabled

    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""
        return settings.firewall_frequency

    def full_every(self, settings: Settings) -> int:
        """Days after which the rules are told again."""
        return settings.firewall_full_every

    async def start(self, settings: Settings) -> None:
        """Take the settings. Raises Unavailable if the filter's rules cannot be read."""
        await super().start(settings)
        await asyncio.to_thread(lambda: list(self._rules(self._root)))

    def read(self, losses: Losses) -> Iterator[FirewallRule]:
        """The rules that are in force now."""
        found = enumerate(self._rules(self._root), 1)
        return (FirewallRule(position=position, **asdict(rule)) for position, rule in found)

    def payload(self, part: Part[FirewallRule]) -> FirewallConfiguration:
        """The event that tells a part."""
        return FirewallConfiguration(
            snapshot_id=part.snapshot_id, part=part.number, parts=part.of, rules=part.items
        )
