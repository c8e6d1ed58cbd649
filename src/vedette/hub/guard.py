"""HTTP clients that take their time, or too much: deadlines and bounds on each connection, below uvicorn.

uvicorn bounds idle connections and what is kept of a body, and leaves it to a proxy to bound heads, silence
within a request, and addresses. A hub has no proxy in front.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vedette.hub.limits import HttpLimits


class Guard:
    """The connections of one port, by address, and how many requests were refused, by reason."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.refused: Counter[str] = Counter()
        self._held: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        """How many there are."""
        return self._held.total()

    def enter(self, address: str) -> bool:
        """A connection comes; False if its address has as many as it may."""
        if self._held[address] >= self.limits.connections_per_address:
            return False
        self._held[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was let in has gone, or is no HTTP any more."""
        self._held[address] -= 1
        if not self._held[address]:
            del self._held[address]


class GuardedHttp(HttpToolsProtocol):
    """One connection. At any time at most one of its deadlines runs: for the head, the body, or the peer to
    read what is sent; while the application works there is none."""

    def __init__(self, guard: Guard, **given: Any) -> None:
        super().__init__(**given)
        self._guard = guard
        self._address = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._body_bytes = 0
        self._over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """See asyncio.Protocol."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if not self._guard.enter(address):
            self._cut("connections of one address")
            return
        self._address = address
        self._within(self._guard.limits.head_seconds, HTTPStatus.REQUEST_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._go()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._over:
            return
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._within(self._guard.limits.head_seconds, HTTPStatus.REQUEST_TIMEOUT)
        super().data_received(data)
        self._head_bytes += len(data)
        # What has not come to its end is in the parser's memory.
        if self._in_head and self._head_bytes > self._guard.limits.head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def handle_websocket_upgrade(self) -> None:
        """See HttpToolsProtocol. From here on the WebSocket's server has its own bounds."""
        self._go()
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        """See HttpToolsProtocol."""
        super().on_message_begin()
        self._in_head, self._head_bytes, self._body_bytes = True, 0, 0

    def on_headers_complete(self) -> None:
        """See HttpToolsProtocol."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._guard.limits.head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif not self._over:
            self._in_head = False
            self._within(self._guard.limits.body_seconds, HTTPStatus.REQUEST_TIMEOUT)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See HttpToolsProtocol."""
        self._body_bytes += len(body)
        if self._body_bytes > self._guard.limits.body_bytes:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if not self._over:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """See HttpToolsProtocol."""
        if not self._over:
            self._unwatch()
            super().on_message_complete()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._within(self._guard.limits.read_seconds, None)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._unwatch()
        super().resume_writing()

    def _within(self, seconds: float, status: HTTPStatus | None) -> None:
        """Something has to happen in time; else the answer is this, or an end without one."""
        self._unwatch()
        if status is None:
            self._deadline = self.loop.call_later(seconds, self._cut, "client does not read")
        else:
            self._deadline = self.loop.call_later(seconds, self._refuse, status)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _go(self) -> None:
        """The connection is none of ours any more."""
        self._unwatch()
        if self._address:
            self._guard.leave(self._address)
            self._address = ""

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer, unless the request has one or another's is under way, and close."""
        if self._over:
            return
        self._over = True
        self._guard.refused[status.phrase.lower()] += 1
        self._unwatch()
        if self._unanswered:
            line = f"HTTP/1.1 {status} {status.phrase}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(line.encode())
        if self.cycle is not None:  # the application, which may wait for more, learns that there is none
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    @property
    def _unanswered(self) -> bool:
        if self._in_head:
            return self.cycle is None or self.cycle.response_complete
        return not self.cycle.response_started

    def _cut(self, reason: str) -> None:
        """End without an answer."""
        self._over = True
        self._guard.refused[reason] += 1
        self.transport.abort()
