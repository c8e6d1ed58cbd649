"""The classic dialect: snapshots and aggregated events by timers of their own, sent as High or Low.

What is drained waits in two queues in memory; `wire.classic_events` says what it looks like.
"""

from __future__ import annotations

import logging
import os
import platform
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vedette.agent.collectors import Collector
from vedette.agent.dialect import Plan, Traffic
from vedette.agent.losses import CACHE_FULL, Losses
from vedette.agent.roster import Batch
from vedette.agent.settings import cached_document, read_bounded, write_private
from vedette.wire.classic import (
    MESSAGE_SIZE,
    OBJECT,
    ClassicSettings,
    ConflictingSettings,
    Level,
    classic_from,
    seconds_of,
)
from vedette.wire.classic_events import (
    CONFIGURATION,
    DROPPED,
    MESSAGES,
    Kind,
    Origin,
    Ready,
    classic_events,
    classic_messages,
    told,
)
from vedette.wire.classic_items import ConfigurationError, DroppedEvents, ErrorType, MessageStatistics
from vedette.wire.message import METERING_UNIT, Packed
from vedette.wire.twin import InvalidSettings

log = logging.getLogger(__name__)

AGENT_ID = "agent_id"
"""File of the state directory with the GUID by which a classic hub knows the agent."""

SNAPSHOT = "Snapshot"
"""The timer of everything that is taken as a whole."""


class Classic:
    """That of the classic agent: what is drained waits for the next High or Low message.

    Waiting events are kept in memory, each of the two queues in half of `maxLocalCacheSizeInBytes`; what
    does not fit is lost oldest first, and counted.
    """

    cache = "twin_classic.json"

    def __init__(self, agent_id: str, traffic: Callable[[], Traffic]) -> None:
        self.losses = Losses()
        self._agent_id = agent_id
        self._traffic = traffic
        self._queues = {Level.HIGH: _Queue(), Level.LOW: _Queue()}
        self._told = Traffic()
        self._small = 0

    def remembered(self, state: Path) -> Plan:
        """The plan of the last accepted twin."""
        try:
            return self.plan(cached_document(state, self.cache))
        except InvalidSettings as error:
            log.warning("cached twin is of another version, starting with defaults: %s", error)
            return self.plan({})

    def plan(self, desired: Mapping[str, Any]) -> Plan:
        """The classic agent's object of settings. Raises InvalidSettings."""
        wanted = classic_from(desired)
        timers = {
            Level.HIGH.value: seconds_of(wanted.high_frequency),
            Level.LOW.value: seconds_of(wanted.low_frequency),
            SNAPSHOT: seconds_of(wanted.snapshot_frequency),
            "Process": wanted.process_interval,
        }
        if wanted.aggregate_connection_create:
            timers["NetworkActivity"] = seconds_of(wanted.connection_create_interval)
        return Plan(wanted.settings, timers, wanted)

    def document(self, plan: Plan) -> dict[str, Any]:
        """Every setting in its object."""
        return _own(plan).document()

    def report(self, plan: Plan, invalid: Mapping[str, str]) -> dict[str, Any]:
        """What is in force: an object that was refused changes nothing of it."""
        return self.document(plan)

    def adopted(self, plan: Plan) -> None:
        """Tell of a message size that pays for more than it takes."""
        if plan.settings.message_bytes % METERING_UNIT:
            self._complain(
                plan, "NotOptimal", {MESSAGE_SIZE: f"metered by {METERING_UNIT} bytes: no multiple"}
            )

    def refused(self, plan: Plan, error: InvalidSettings) -> None:
        """Tell each setting."""
        kind: ErrorType = "Conflict" if isinstance(error, ConflictingSettings) else "TypeMismatch"
        self._complain(plan, kind, error.fields)

    def _complain(self, plan: Plan, kind: ErrorType, fields: Mapping[str, str]) -> None:
        """Tell by a ConfigurationError event, one item a setting."""
        in_force = self.document(plan)[OBJECT]
        items = [
            ConfigurationError(
                configuration_name=key,
                error_type=kind,
                used_configuration=str(in_force.get(key, {}).get("value", "")),
                message=reason,
            )
            for key, reason in fields.items()
        ]
        self._enqueue(plan, told(CONFIGURATION, items, time.time(), self._origin()))

    def timer(self, plan: Plan, collector: Collector) -> str:
        """A timer of its own if its events are aggregated; that of the snapshots; or of its priority."""
        name = collector.name
        levels = {
            "NetworkActivity": _own(plan).connection_create,
            "Login": _own(plan).login,
            "LogCollector": _own(plan).diagnostic,
            "Statistics": Level.LOW,
        }
        return name if name in plan.timers else levels.get(name, SNAPSHOT)

    def messages(self, plan: Plan, batches: Iterable[Batch], due: Collection[str]) -> Iterator[Packed]:
        """The queues whose timers are due, High first."""
        origin = self._origin()
        for batch in batches:
            self._enqueue(plan, classic_events(batch.events, batch.window, _own(plan), origin))
            if batch.name == "Statistics":
                self._enqueue(plan, self._statistics(batch.window.end, origin))
        for level, queue in self._queues.items():
            if level in due:
                limit = plan.settings.message_bytes
                for message in classic_messages(queue.take(), origin, max_bytes=limit):
                    self._small += len(message.body) < METERING_UNIT
                    yield message

    def _enqueue(self, plan: Plan, events: Iterable[tuple[Kind, Ready]]) -> None:
        for kind, ready in events:
            level = kind.level(_own(plan))
            if level is not Level.OFF:
                self._queues[level].put(ready, _own(plan).cache_bytes // 2, self.losses)

    def _statistics(self, at: float, origin: Origin) -> Iterator[tuple[Kind, Ready]]:
        counts = {level: queue.take_counts() for level, queue in self._queues.items()}
        items = [
            DroppedEvents(
                queue="High" if level is Level.HIGH else "Low",
                collected_events=collected,
                dropped_events=dropped,
            )
            for level, (collected, dropped) in counts.items()
        ]
        yield from told(DROPPED, items, at, origin)
        now, small = self._traffic(), self._small
        sent, failed = now.sent - self._told.sent, now.failed - self._told.failed
        self._told, self._small = now, 0
        yield from told(
            MESSAGES, [MessageStatistics(messages_sent=sent, small=small, failed=failed)], at, origin
        )

    def _origin(self) -> Origin:
        return Origin(self._agent_id, platform.node(), os.getpid(), time.localtime().tm_gmtoff)


def _own(plan: Plan) -> ClassicSettings:
    assert isinstance(plan.own, ClassicSettings), "a plan of this dialect"
    return plan.own


class _Queue:
    """Events that wait for a message; each is counted as collected, and perhaps as dropped."""

    def __init__(self) -> None:
        self._waiting: deque[Ready] = deque()
        self._bytes = self._collected = self._dropped = 0

    def put(self, ready: Ready, limit: int, losses: Losses) -> None:
        """Append an event; the oldest leave if they exceed the limit in bytes."""
        self._waiting.append(ready)
        self._bytes += len(ready.body)
        self._collected += 1
        while self._bytes > limit:
            oldest = self._waiting.popleft()
            self._bytes -= len(oldest.body)
            self._dropped += 1
            losses.count(CACHE_FULL, events=1, hits=oldest.hits)

    def take(self) -> list[Ready]:
        """All that waits, oldest first."""
        taken = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return taken

    def take_counts(self) -> tuple[int, int]:
        """Events collected and dropped since the last call."""
        counts = self._collected, self._dropped
        self._collected = self._dropped = 0
        return counts


def agent_id(state: Path) -> str:
    """The GUID of this agent, made at its first start. Where it cannot be kept, it lasts until the next."""
    path = state / AGENT_ID
    try:
        return str(uuid.UUID(read_bounded(path).decode().strip()))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("%s: %s; a new id is made", path, error)
    made = str(uuid.uuid4())
    try:
        write_private(path, made.encode())
    except OSError as error:
        log.warning("%s: %s; the id will change with the next start", path, error.strerror)
    return made
