"""One connection to a hub: MQTT 3.1.1 over TLS on the event loop. Decides nothing; `agent.uplink` does.

A `Route` says how it goes: directly or through an HTTP proxy, in the TLS stream or in WebSocket frames in it.

The codec is the hub's own (`wire.mqtt`): a client library would cost every device 4 MB of memory for what
is left to do here (docs/decisions/001-mqtt-codec.md).
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vedette.agent.route import Route
from vedette.agent.session import ANSWER_S, FILTERS, Window
from vedette.wire.iothub import KEEPALIVE_S
from vedette.wire.mqtt import CLIENT, Receiver, Violation, encode
from vedette.wire.packets import (
    FAILURE,
    Connack,
    Connect,
    ConnectCode,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
)

if TYPE_CHECKING:
    from vedette.wire.websocket import Client

CONNECT_S = 20.0
"""Bound of name lookup, TCP connect, proxy and TLS handshake together: a slow line, a slow processor."""

CLOSE_S = 2.0
"""How long a goodbye may take to leave; a line that is dead would hold it for minutes."""

TLS_BUFFER_BYTES = 16_384
"""Read buffer of a connection: one TLS record. asyncio's own is 256 KiB, which no device needs."""

MAX_PACKET_ID = 0xFFFF

CREDENTIALS_REFUSED = (ConnectCode.BAD_CLIENT_ID, ConnectCode.BAD_CREDENTIALS, ConnectCode.NOT_AUTHORIZED)

asyncio.sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES


class Ended(Exception):
    """A connection, or the attempt to make one, is over. The text says why; it holds no secret.

    kind: `unreachable`, `certificate`, `refused` (these credentials), `unavailable` (says the hub) or `lost`.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Link(asyncio.Protocol):
    """A connection of one identity, from `open` to `close`; not to be used again.

    stirred: called when something happened that the owner should look at. received: called with topic and
    body of each message. filters: what it subscribes to.

    window: what is in flight. acknowledged: rows that the hub has taken, for the owner to clear.
    since: when the hub accepted the connection (the loop's clock), None until then.
    """

    def __init__(
        self,
        client_id: str,
        *,
        stirred: Callable[[], None],
        received: Callable[[str, bytes], None],
        filters: Sequence[str] = FILTERS,
    ) -> None:
        self.window = Window()
        self.acknowledged: list[int] = []
        self.since: float | None = None
        self.subscribed = False
        self._client_id = client_id
        self._stirred = stirred
        self._received = received
        self._filters = filters
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._receiver = Receiver(CLIENT)
        self._frames: Client | None = None
        self._answered = asyncio.Event()
        self._gone = asyncio.Event()
        self._end: Ended | None = None
        self._packet_id = 0
        self._ping_at = self._pong_due = self._answer_due = float("inf")

    async def open(self, route: Route, *, user: str, password: str | None) -> None:
        """Connect and subscribe. Returns when the hub has accepted the connection. Raises Ended.

        password: None for a client that its certificate identifies.
        """
        if route.websocket:
            from vedette.wire.websocket import Client

            self._frames = Client(route.address)
        await dial(lambda: self, route)
        hello = Connect(
            self._client_id,
            user,
            None if password is None else password.encode(),
            KEEPALIVE_S,
            clean_session=False,
        )
        if self._frames:
            self._write(self._frames.greeting())
            await self._answer("no answer to the WebSocket request")
            self._answered.clear()
        self._send(hello)
        await self._answer("no answer to CONNECT")
        self._answer_due = self._loop.time() + ANSWER_S
        self._send(Subscribe(self._next_id(), tuple((text, 1) for text in self._filters)))

    def publish(self, topic: str, body: bytes, *, qos: int) -> int:
        """Send a message; its packet id, 0 at QoS 0. Raises Ended."""
        if self._end:
            raise self._end
        packet_id = self._next_id() if qos else 0
        self._send(Publish(topic, body, qos, packet_id))
        return packet_id

    def tick(self, now: float) -> None:
        """Keep the connection alive. Raises Ended if it is over, or is to be given up."""
        if self._end:
            raise self._end
        if now >= self._answer_due:
            raise Ended("lost", "no answer to SUBSCRIBE")
        if now >= self._pong_due:
            raise Ended("lost", "no answer to PINGREQ")
        if now >= self.window.stalled_at():
            raise Ended("lost", "connection without acknowledgements")
        if now >= self._ping_at:
            self._send(Pingreq())
            self._pong_due = now + ANSWER_S

    def deadline(self) -> float:
        """When `tick` has something to do, if nothing arrives before."""
        return min(self._ping_at, self._pong_due, self._answer_due, self.window.stalled_at())

    async def close(self) -> None:
        """Say goodbye, wait a moment for it to leave, and release the socket."""
        if self._transport is None:
            return
        if not self._end:
            self._end = Ended("lost", "closed by us")
            self._send(Disconnect())
        self._transport.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._gone.wait()
        except TimeoutError:
            self._transport.abort()
            await self._gone.wait()

    async def _answer(self, otherwise: str) -> None:
        """Wait for what was asked last. Raises Ended."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._answered.wait()
        except TimeoutError:
            raise Ended("lost", otherwise) from None
        if self._end:
            raise self._end

    def _send(self, packet: Packet) -> None:
        data = encode(packet)
        self._write(self._frames.frame(data) if self._frames else data)
        self._ping_at = self._loop.time() + KEEPALIVE_S

    def _write(self, data: bytes) -> None:
        assert self._transport is not None, "nothing is sent before the connection stands"
        self._transport.write(data)

    def _next_id(self) -> int:
        """Packet ids go round; the window is far smaller than their number."""
        self._packet_id = self._packet_id % MAX_PACKET_ID + 1
        return self._packet_id

    def _finish(self, end: Ended) -> None:
        """The first reason stays."""
        self._end = self._end or end
        self._answered.set()
        self._stirred()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes from the hub."""
        try:
            self._receiver.feed(self._unwrapped(data))
            while self._end is None and (packet := self._receiver.next_packet()) is not None:
                self._take(packet)
        except Violation as violation:
            self._finish(Ended("lost", f"the hub broke the protocol: {violation.reason}"))

    def _unwrapped(self, data: bytes) -> bytes:
        """What WebSocket frames carry, if there are any. Raises Violation."""
        if self._frames is None:
            return data
        waiting = not self._frames.open
        carried, back = self._frames.receive(data)
        if back:
            self._write(back)
        if waiting and self._frames.open:
            self._answered.set()
        return carried

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed."""
        self._gone.set()
        self._finish(Ended("lost", f"connection lost ({error or 'closed by the hub'})"))

    def _take(self, packet: Packet) -> None:
        now = self._loop.time()
        if isinstance(packet, Connack):
            self._admitted(packet.code, now)
        elif isinstance(packet, Suback):
            self._answer_due = float("inf")
            if FAILURE in packet.codes:
                self._finish(Ended("unavailable", "the hub refuses the subscriptions to the twin"))
            self.subscribed = True
        elif isinstance(packet, Puback):
            if (row := self.window.acknowledged(packet.packet_id, now)) is not None:
                self.acknowledged.append(row)
        elif isinstance(packet, Publish):
            if packet.qos:
                self._send(Puback(packet.packet_id))
            self._received(packet.topic, packet.payload)
        elif isinstance(packet, Pingresp):
            self._pong_due = float("inf")
        self._stirred()

    def _admitted(self, code: ConnectCode, now: float) -> None:
        if code is ConnectCode.ACCEPTED:
            self.since = now
            self._answered.set()
            return
        kind = "refused" if code in CREDENTIALS_REFUSED else "unavailable"
        self._finish(Ended(kind, f"refused by the hub: {code.name.replace('_', ' ').lower()}"))


async def dial(factory: Callable[[], asyncio.Protocol], route: Route) -> asyncio.Transport:
    """A TLS connection by this route, its server's certificate checked. Raises Ended."""
    try:
        async with asyncio.timeout(CONNECT_S):
            context = await asyncio.to_thread(_context, route)
            return await _connected(factory, route, context)
    except TimeoutError:
        raise Ended("unreachable", f"no connection within {CONNECT_S:.0f} s") from None
    except ssl.SSLCertVerificationError as error:
        trusted = f"CA file {route.ca_file}" if route.ca_file else "the system's CAs"
        why = f"certificate not accepted ({error.verify_message}); trusted: {trusted}"
        raise Ended("certificate", why) from None
    except socket.gaierror as error:  # its numbers are not the system's
        raise Ended("unreachable", f"name lookup: {error.strerror}") from None
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)  # asyncio puts a text of its own into strerror
        raise Ended("unreachable", os.strerror(number) if number else str(error)) from None


async def _connected(
    factory: Callable[[], asyncio.Protocol], route: Route, context: ssl.SSLContext
) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    if route.proxy is None:
        transport, _ = await loop.create_connection(factory, route.address, route.port, ssl=context)
        return transport
    from vedette.agent.tunnel import open_tunnel

    tunnel = await open_tunnel(route.proxy, route.address, route.port)
    transport, _ = await loop.create_connection(
        factory, sock=tunnel, ssl=context, server_hostname=route.address
    )
    return transport


def _context(route: Route) -> ssl.SSLContext:
    """TLS 1.2 or later, trusting one file or the system's authorities; with the client's certificate, if any.

    Raises OSError naming the file.
    """
    try:
        context = ssl.create_default_context(cafile=route.ca_file)
    except OSError as error:  # ssl does not say which file
        raise OSError(f"CA file {route.ca_file}: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if route.certificate:
        try:
            context.load_cert_chain(route.certificate, route.private_key)
        except OSError as error:
            files = f"{route.certificate} and {route.private_key}"
            raise OSError(f"client certificate {files}: {error.strerror or error}") from None
    return context
