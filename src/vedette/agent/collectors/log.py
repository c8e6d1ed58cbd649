"""The agent's own warnings and errors, as events.

Messages with the same template become one event with a hit count, so that a fault which repeats every
second costs one event a cycle. What secrets look like is blotted out, although the agent logs none.
"""

from __future__ import annotations

import logging
import re
import traceback

from vedette.agent.aggregate import EventCache, Overflow
from vedette.agent.collectors import Collected
from vedette.agent.collectors.periodic import PeriodicCollector
from vedette.wire.events import EVENT_TYPES, Log
from vedette.wire.twin import Priority, Settings

LOGGER = "vedette"

MAX_DISTINCT = 64
"""Distinct messages kept in a cycle. The agent has about a hundred templates; more at once is a storm,
of which the beginning tells most: nothing new is taken."""

MAX_MESSAGE = 512
"""Characters of a message; beyond that come lists and dumps."""

SECRETS = re.compile(
    r"(?i)\b(SharedAccessKey|SharedAccessSignature|sig|password|passwd|secret|token|key)(\s*[=:]\s*|\s+sr=)\S+"
)
BLOT = r"\1\2***"


class LogCollector(PeriodicCollector):
    """Warnings and errors logged below `vedette`, from any thread.

    name: that of its twin settings; its events are of the type `Log`.
    """

    name = "LogCollector"
    source = "logging"

    def __init__(self) -> None:
        self._tap = _Tap()

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.log_disabled

    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""
        return settings.log_frequency

    async def start(self, settings: Settings) -> None:
        """Listen to the agent's log from now on."""
        await super().start(settings)
        logging.getLogger(LOGGER).addHandler(self._tap)

    async def collect(self) -> Collected:
        """What was logged since the last cycle."""
        return self._tap.drain()

    async def stop(self) -> Collected:
        """Listen no more, and tell the last."""
        logging.getLogger(LOGGER).removeHandler(self._tap)
        return self._tap.drain()


class _Tap(logging.Handler):
    """Counts records in a cache. `logging` holds its lock around `emit`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._cache = EventCache(
            EVENT_TYPES["Log"], MAX_DISTINCT, Overflow.DROP_NEW, setting="LogCollector_MessageFrequency"
        )
        self._emitting = False

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record. What is logged meanwhile by this very thread (the cache says that it is full)
        is not taken: a log must not feed on itself. Other threads wait at the lock."""
        if self._emitting:
            return
        self._emitting = True
        try:
            self._cache.add(payload(record), now=record.created)
        except Exception:  # noqa: BLE001  a logging handler must not raise; `logging` reports it
            self.handleError(record)
        finally:
            self._emitting = False

    def drain(self) -> Collected:
        """The events of the cycle and what did not fit into it."""
        self.acquire()
        try:
            return Collected(*self._cache.drain())
        finally:
            self.release()


def payload(record: logging.LogRecord) -> Log:
    """The event that tells a record."""
    return Log(
        level="CRITICAL" if record.levelno >= 50 else "ERROR" if record.levelno >= 40 else "WARNING",
        logger=record.name[:MAX_MESSAGE],
        template=_blotted(str(record.msg)),
        message=_blotted(record.getMessage()),
        exception=_exception(record),
    )


def _blotted(text: str) -> str:
    return SECRETS.sub(BLOT, text[: 2 * MAX_MESSAGE])[:MAX_MESSAGE]


def _exception(record: logging.LogRecord) -> str:
    """`OSError at outbox.py:120`. Its text is left out: it may quote what was being handled."""
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    kind, _, trace = record.exc_info
    place = traceback.extract_tb(trace, limit=-1)
    where = f" at {place[0].filename.rpartition('/')[2]}:{place[0].lineno}" if place else ""
    return f"{kind.__name__}{where}"
