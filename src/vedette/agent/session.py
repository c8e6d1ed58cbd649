"""What the agent says to a hub and when, as state machines: no socket, no clock, no thread.

Three of them, each unaware of the others; `agent.uplink` joins them to a connection.

`Window`   device-to-cloud messages. At most MAX_IN_FLIGHT are unacknowledged; a message counts as sent when
           its PUBACK is here; after a lost connection everything unacknowledged is sent again, oldest first
           (at least once: the hub drops duplicates by `$.mid`).
`Twin`     the twin. After each connect the whole twin is fetched. A pushed change counts only if it is newer
           than what is known; if one is missing in between, the whole twin is fetched again. Reports are
           kept until the hub has confirmed them.
`Backoff`  how long to stay away after a failure.

Facts: the service's public documentation, whose retry and version rules for device authors these are, and the
official SDKs' behaviour.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from vedette.wire.iothub import (
    MAX_IN_FLIGHT,
    TWIN_DESIRED,
    TWIN_GET,
    TWIN_REPORTED,
    TWIN_RESPONSE,
    query_of,
)
from vedette.wire.twin import VERSION_KEY

log = logging.getLogger(__name__)

FILTERS = (TWIN_RESPONSE + "#", TWIN_DESIRED + "#")
"""What a session subscribes to."""

IN_FLIGHT_BYTES = 524_288
"""Bodies in flight beyond which no further message is sent: they are copied into memory."""

ANSWER_S = 30.0
"""A request that is not answered by then is made again; so long is a CONNACK or SUBACK waited for."""

RETRY_S = 60.0
"""Pause after the hub refused a twin request for now (429, 5xx)."""

ACK_S = 300.0
"""A connection without an acknowledgement for so long is given up: a hub that stores nothing any more,
although it answers pings, may have a neighbour that does."""

Document = dict[str, Any]
_T = TypeVar("_T")


class Publish(msgspec.Struct, frozen=True):
    """A request to send, at QoS 0: the answer is its acknowledgement."""

    topic: str
    body: bytes


class Desired(msgspec.Struct, frozen=True):
    """The desired half of the twin in full, and its version."""

    document: Document
    version: int


class Window:
    """The messages in flight on one connection. Packet ids are the connection's, row ids the outbox's."""

    def __init__(self) -> None:
        self.last = 0
        self._flight: dict[int, tuple[int, int]] = {}
        self._bytes = 0
        self._progress = 0.0

    def __len__(self) -> int:
        return len(self._flight)

    @property
    def open(self) -> bool:
        """True if another message may be sent."""
        return len(self._flight) < MAX_IN_FLIGHT and self._bytes < IN_FLIGHT_BYTES

    def sent(self, packet_id: int, row: int, size: int, now: float) -> None:
        """A message was handed to the connection; `last` is its row: the next one to send follows it."""
        if not self._flight:
            self._progress = now
        self._flight[packet_id] = row, size
        self._bytes += size
        self.last = row

    def acknowledged(self, packet_id: int, now: float) -> int | None:
        """The row that a PUBACK stands for; None if nothing (or a request) was sent under this id."""
        row, size = self._flight.pop(packet_id, (None, 0))
        self._bytes -= size
        if row is not None:
            self._progress = now
        return row

    def stalled_at(self) -> float:
        """When this connection is to be given up, if no acknowledgement comes before."""
        return self._progress + ACK_S if self._flight else float("inf")


class _Request(msgspec.Struct, frozen=True):
    rid: str
    expires: float
    report: Document = {}


class _TwinAnswer(msgspec.Struct, frozen=True):
    desired: Document


class Twin:
    """The device's copy of its twin, over all connections of a process.

    salt: makes request ids differ from those of an earlier process, whose answers may still arrive.
    """

    def __init__(self, salt: str) -> None:
        self._salt = salt
        self._count = 0
        self._known: Document | None = None
        self._report: Document = {}
        self._get: _Request | None = None
        self._patch: _Request | None = None
        self._get_due = self._report_due = float("inf")
        self._newest_seen = 0
        self._connected = False
        self._complained = False

    @property
    def settled(self) -> bool:
        """True if every report has been confirmed."""
        return not self._report and self._patch is None

    def connected(self, now: float) -> None:
        """Subscriptions stand: fetch the twin, and report what is not confirmed. May be said again."""
        if self._connected:
            return
        self._connected = True
        self._get_due = self._report_due = now

    def disconnected(self) -> None:
        """Answers that are still due will not come."""
        self._connected = False
        self._get = None
        self._withdraw_report()

    def report(self, document: Document) -> None:
        """Patch the reported half: at once if connected, else as soon as that is the case."""
        self._report = _merged(self._report, document, keep_null=True)

    def poll(self, now: float) -> list[Publish]:
        """The requests to send now; requests that were not answered in time are made again."""
        if not self._connected:
            return []
        if self._get and now >= self._get.expires:
            self._get = None
            self._get_due = now
        if self._patch and now >= self._patch.expires:
            self._withdraw_report()
        requests = []
        if self._get is None and now >= self._get_due:
            requests.append(self._fetch(now))
        if self._report and self._patch is None and now >= self._report_due:
            requests.append(self._send_report(now))
        return requests

    def deadline(self) -> float:
        """When `poll` has something to do, if nothing arrives before."""
        if not self._connected:
            return float("inf")
        get = self._get.expires if self._get else self._get_due
        if self._patch:
            return min(get, self._patch.expires)
        return min(get, self._report_due) if self._report else get

    def received(self, topic: str, body: bytes, now: float) -> Desired | None:
        """A message from the hub; the desired document, if it is news. Anything unknown is ignored."""
        if topic.startswith(TWIN_RESPONSE):
            status, rid = topic[len(TWIN_RESPONSE) :].partition("/")[0], query_of(topic).get("$rid")
            if self._get and rid == self._get.rid:
                return self._fetched(status, body, now)
            if self._patch and rid == self._patch.rid:
                self._reported(status, body, now)
        elif topic.startswith(TWIN_DESIRED):
            return self._pushed(body, now)
        return None

    def _fetch(self, now: float) -> Publish:
        self._get = _Request(self._rid(), now + ANSWER_S)
        self._get_due = float("inf")
        self._newest_seen = 0
        return Publish(f"{TWIN_GET}?$rid={self._get.rid}", b"")

    def _send_report(self, now: float) -> Publish:
        self._patch = _Request(self._rid(), now + ANSWER_S, self._report)
        self._report = {}
        return Publish(f"{TWIN_REPORTED}?$rid={self._patch.rid}", msgspec.json.encode(self._patch.report))

    def _rid(self) -> str:
        self._count += 1
        return f"{self._salt}{self._count:x}"

    def _withdraw_report(self) -> None:
        if self._patch:
            self._report = _merged(self._patch.report, self._report, keep_null=True)
            self._patch = None

    def _fetched(self, status: str, body: bytes, now: float) -> Desired | None:
        self._get = None
        document = _decoded(body, _TwinAnswer) if status == "200" else None
        if document is None:
            self._get_due = now + RETRY_S
            self._complain("get the twin", status, body)
            return None
        self._complained = False
        news = self._learnt(document.desired)
        if self._newest_seen > _version(document.desired):
            self._get_due = now  # a change was pushed while this answer was on its way
        return news

    def _pushed(self, body: bytes, now: float) -> Desired | None:
        patch = _decoded(body, Document)
        version = _version(patch or {})
        if patch is None or not version:
            self._get_due = min(self._get_due, now + RETRY_S)
            self._complain("read a pushed change of the twin", "", body)
        elif self._known is None or self._get:
            self._newest_seen = max(self._newest_seen, version)
        elif version == _version(self._known) + 1:
            return self._learnt(_merged(self._known, patch, keep_null=False))
        elif version > _version(self._known):
            self._get_due = now
        return None

    def _learnt(self, document: Document) -> Desired | None:
        if document == self._known:
            return None
        self._known = document
        return Desired(document, _version(document))

    def _reported(self, status: str, body: bytes, now: float) -> None:
        if status in ("200", "204"):
            self._patch = None
            self._complained = False
        elif status == "429" or status.startswith("5"):
            self._withdraw_report()
            self._report_due = now + RETRY_S
            self._complain("report the settings", status, body)
        else:  # it will never be accepted
            self._patch = None
            log.error("the hub rejects what is reported: status %.8s, %.200r", status, body)

    def _complain(self, what: str, status: str, body: bytes) -> None:
        """Once, until a request succeeds."""
        if not self._complained:
            self._complained = True
            log.warning(
                "cannot %s: status %.8s, %.200r; tried again every %.0f s", what, status, body, RETRY_S
            )


class Pace(msgspec.Struct, frozen=True):
    """Bounds of the waits after failures, in seconds.

    Each wait is drawn evenly from zero to a limit that doubles with every failure (full jitter), so that a
    fleet that lost its hub comes back spread out. Refused credentials get better by an operator's hand
    only: longer waits. A connection that lasted `stable` counts as a success; shorter ones do not, or two
    agents with one identity would cut each other off without end.
    """

    first: float = 4.0
    ceiling: float = 300.0
    refused_first: float = 30.0
    refused_ceiling: float = 1800.0
    stable: float = 60.0


class Backoff:
    """Counts failures in a row. draw: a random number, 0 <= n < 1."""

    def __init__(self, pace: Pace, draw: Callable[[], float]) -> None:
        self._pace = pace
        self._draw = draw
        self._failures = 0

    def after(self, *, lasted: float, refused: bool = False) -> float:
        """Seconds to wait after a connection that lasted so long (0: it never came to be)."""
        if lasted >= self._pace.stable:
            self._failures = 0
        first, ceiling = self._pace.first, self._pace.ceiling
        if refused:
            first, ceiling = self._pace.refused_first, self._pace.refused_ceiling
        limit = min(ceiling, first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return self._draw() * limit


def _version(document: Document) -> int:
    version = document.get(VERSION_KEY)
    return version if isinstance(version, int) and not isinstance(version, bool) else 0


def _decoded(body: bytes, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _merged(onto: Document, patch: Document, *, keep_null: bool) -> Document:
    """A document with a patch applied: objects merge, null deletes (or stays, to delete at the hub)."""
    merged = dict(onto)
    for key, value in patch.items():
        if isinstance(value, dict):
            below = merged.get(key)
            merged[key] = _merged(below if isinstance(below, dict) else {}, value, keep_null=keep_null)
        elif value is None and not keep_null:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged
