"""What the agent speaks with its hub: how it is told its settings, when it sends, what its messages are.

One agent, two dialects: that of the micro agent (flat settings, three priorities) and that of the classic
agent before it. Collectors know nothing of either. A dialect turns the twin into a `Plan`, names for each
collector the timer by which it is drained, and makes messages of what was drained. The micro agent's is here,
the other in `agent.classic`, which takes no memory of those who do not speak it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from vedette.agent.collectors import Collector
from vedette.agent.losses import Losses
from vedette.agent.roster import Batch
from vedette.agent.settings import CACHED_TWIN, load_cached
from vedette.wire.message import Packed, pack
from vedette.wire.twin import InvalidSettings, Settings, reported_document, settings_from


class Plan(msgspec.Struct, frozen=True):
    """What is in force.

    timers: seconds by name; when one is due, the collectors that it drains are asked. own: settings that only
    the dialect knows.
    """

    settings: Settings
    timers: dict[str, float]
    own: msgspec.Struct | None = None


class Traffic(NamedTuple):
    """Messages since the agent started: acknowledged by the hub, and lost before that."""

    sent: int = 0
    failed: int = 0


class Dialect(Protocol):
    """How to speak with one kind of hub. losses: events that a dialect itself had to drop."""

    cache: str
    losses: Losses

    def remembered(self, state: Path) -> Plan:
        """The plan of the last accepted twin; defaults if there is none."""
        ...

    def plan(self, desired: Mapping[str, Any]) -> Plan:
        """What a desired document asks for. Raises InvalidSettings with every wrong setting."""
        ...

    def document(self, plan: Plan) -> dict[str, Any]:
        """The document that `plan` makes the same of."""
        ...

    def report(self, plan: Plan, invalid: Mapping[str, str]) -> dict[str, Any]:
        """What is reported: the settings in force, and the verdict on the latest document."""
        ...

    def adopted(self, plan: Plan) -> None:
        """Another plan is in force."""
        ...

    def refused(self, plan: Plan, error: InvalidSettings) -> None:
        """A document was refused; the plan stays."""
        ...

    def timer(self, plan: Plan, collector: Collector) -> str:
        """The timer by which a collector is drained."""
        ...

    def messages(self, plan: Plan, batches: Iterable[Batch], due: Collection[str]) -> Iterable[Packed]:
        """Messages of what was drained, and of what has waited for the timers that are due."""
        ...


class Micro:
    """That of the micro agent: everything drained is sent at once, by priority."""

    cache = CACHED_TWIN

    def __init__(self) -> None:
        self.losses = Losses()

    def remembered(self, state: Path) -> Plan:
        """The plan of the last accepted twin."""
        return self._plan(load_cached(state))

    def plan(self, desired: Mapping[str, Any]) -> Plan:
        """Flat keys. Raises InvalidSettings."""
        return self._plan(settings_from(desired))

    def document(self, plan: Plan) -> dict[str, Any]:
        """Every setting under its key."""
        return plan.settings.document()

    def report(self, plan: Plan, invalid: Mapping[str, str]) -> dict[str, Any]:
        """Every setting, `latest_state` and `latest_invalid_fields`."""
        return reported_document(plan.settings, invalid)

    def adopted(self, plan: Plan) -> None:
        """The report tells it."""

    def refused(self, plan: Plan, error: InvalidSettings) -> None:
        """The report tells it."""

    def timer(self, plan: Plan, collector: Collector) -> str:
        """The collector's priority."""
        return collector.priority(plan.settings)

    def messages(self, plan: Plan, batches: Iterable[Batch], due: Collection[str]) -> Iterable[Packed]:
        """Events in the order in which they were drained."""
        return pack(
            [(batch.events, batch.window) for batch in batches],
            max_bytes=plan.settings.message_bytes,
            timezone=time.localtime().tm_gmtoff // 3600,
        )

    def _plan(self, settings: Settings) -> Plan:
        timers = {priority.value: seconds for priority, seconds in settings.intervals.items()}
        return Plan(settings, timers)
