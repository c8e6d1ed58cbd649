"""One simulated device on its connection. When it connects and sends is said by `fleet`.

It does what an agent does: CONNECT with a token, subscriptions to its twin, a request for the twin; every
desired property that comes is reported back as being in force. A message counts when its PUBACK is here;
what is not acknowledged when a connection is lost goes out again on the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, cast

import msgspec

from vedette.hub.simulate.figures import Figures
from vedette.wire.iothub import (
    KEEPALIVE_S,
    TWIN_DESIRED,
    TWIN_GET,
    TWIN_REPORTED,
    TWIN_RESPONSE,
    Identity,
    make_token,
    username,
)
from vedette.wire.message import Packed
from vedette.wire.mqtt import CLIENT, Receiver, Violation, encode
from vedette.wire.packets import (
    Connack,
    Connect,
    ConnectCode,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Subscribe,
)
from vedette.wire.twin import VERSION_KEY

WINDOW = 5
"""Messages that a device has under way at most; the SDKs stop at 20, and an agent rarely has two."""

FILTERS = ((f"{TWIN_RESPONSE}#", 0), (f"{TWIN_DESIRED}#", 0))
MAX_PACKET_ID = 0xFFFF
TOKEN_TTL_S = 86_400.0
"""A simulated fleet lives for minutes or hours; renewing tokens is not what it is for."""


class Account(NamedTuple):
    """Who a device is, and its key (base64). Its repr hides the key."""

    identity: Identity
    key: str

    def __repr__(self) -> str:
        return f"Account({self.identity.client_id!r})"


class _Sent(NamedTuple):
    """A message under way. at: when it was sent first, monotonic."""

    topic: str
    message: Packed
    at: float


class Device(asyncio.Protocol):
    """See above. ready: told on admission and after each acknowledgement: it may send.

    host: what the hub is called in its name and token. up: True from CONNACK to the end of the connection.
    settled: set when the connection was let in, or has ended; ended: while there is none.
    """

    def __init__(
        self, account: Account, host: str, figures: Figures, ready: Callable[[Device], None]
    ) -> None:
        self.account = account
        self.up = False
        self.settled = asyncio.Event()
        self.ended = asyncio.Event()
        self.ended.set()
        self._host = host
        self._figures = figures
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[int, _Sent] = {}
        self._packet_id = 0
        self._rid = 0
        self._reason = ""
        self._ping: asyncio.TimerHandle | None = None

    @property
    def free(self) -> bool:
        """True if it may send a message now."""
        return self.up and len(self._under_way) < WINDOW

    @property
    def waits(self) -> int:
        """Messages that are not acknowledged yet."""
        return len(self._under_way)

    def send(self, message: Packed) -> None:
        """Send a message; only while `free`."""
        self._packet_id = self._packet_id % MAX_PACKET_ID + 1
        sent = _Sent(self.account.identity.events_topic + message.properties, message, time.monotonic())
        self._under_way[self._packet_id] = sent
        self._figures.messages += 1
        self._write(Publish(sent.topic, message.body, 1, self._packet_id))

    def close(self) -> None:
        """Say goodbye."""
        if self.up:
            self._end("closed")
            self._write(Disconnect())
            self._transport.close()

    def abort(self) -> None:
        """Give up the connection, if there is one."""
        if not self.ended.is_set():
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._receiver = Receiver(CLIENT)
        self._reason = ""
        self.settled.clear()
        self.ended.clear()
        identity, key = self.account
        token = make_token(self._host, identity, key, now=time.time(), ttl=TOKEN_TTL_S)
        name = username(self._host, identity)
        self._write(Connect(identity.client_id, name, token.encode(), KEEPALIVE_S, clean_session=False))

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._receiver.feed(data)
        try:
            while packet := self._receiver.next_packet():
                self._take(packet)
        except Violation as violation:
            self._end(f"the hub broke the protocol: {violation.reason}")
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._end("connection lost")
        self.up = False
        if self._ping:
            self._ping.cancel()
        self.settled.set()
        self.ended.set()

    def _take(self, packet: Packet) -> None:
        match packet:
            case Puback(packet_id):
                self._acknowledged(packet_id)
            case Connack(ConnectCode.ACCEPTED):
                self._admitted()
            case Connack(code):
                self._figures.refused[code.name.replace("_", " ").lower()] += 1
                self._reason = "refused"
                self._transport.close()
            case Publish(topic, payload) if topic.startswith(TWIN_DESIRED):
                self._figures.changes += 1
                self._adopt(msgspec.json.decode(payload))
            case Publish(topic) if topic.startswith(TWIN_RESPONSE):
                self._figures.twins += 1

    def _admitted(self) -> None:
        """Subscribe, fetch the twin, and repeat what the last connection left open."""
        self.up = True
        self._figures.connects += 1
        self._write(
            Subscribe(MAX_PACKET_ID, FILTERS),
            Publish(f"{TWIN_GET}?$rid={self._next_rid()}"),
            *(
                Publish(one.topic, one.message.body, 1, number, True)
                for number, one in self._under_way.items()
            ),
        )
        self._figures.repeated += len(self._under_way)
        self._ping = self._loop.call_later(KEEPALIVE_S, self._keep_alive)
        self.settled.set()
        self._ready(self)

    def _acknowledged(self, packet_id: int) -> None:
        sent = self._under_way.pop(packet_id, None)
        if sent is None:
            return  # of a QoS 1 message that was repeated and is acknowledged twice
        self._figures.acknowledged += 1
        self._figures.events += sent.message.events
        self._figures.bytes += len(sent.topic) + len(sent.message.body)
        self._figures.latencies.note(time.monotonic() - sent.at)
        self._ready(self)

    def _adopt(self, desired: dict[str, object]) -> None:
        """Report a change as being in force."""
        desired.pop(VERSION_KEY, None)
        self._write(Publish(f"{TWIN_REPORTED}?$rid={self._next_rid()}", msgspec.json.encode(desired)))

    def _keep_alive(self) -> None:
        self._write(Pingreq())
        self._ping = self._loop.call_later(KEEPALIVE_S, self._keep_alive)

    def _next_rid(self) -> int:
        self._rid += 1
        return self._rid

    def _write(self, *packets: Packet) -> None:
        self._transport.write(b"".join(map(encode, packets)))

    def _end(self, reason: str) -> None:
        """Count the end of a connection; its first reason stays."""
        if not self._reason:
            self._reason = reason
            self._figures.lost[reason] += reason != "closed"
