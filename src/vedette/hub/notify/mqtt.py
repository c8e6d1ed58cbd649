"""MQTT: one PUBLISH with QoS 1, delivered when the broker has acknowledged it."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from vedette.hub.notify.message import Message
from vedette.hub.notify.routes import Route
from vedette.hub.notify.ways import Undelivered, connect
from vedette.wire.mqtt import CLIENT, Receiver, Violation, encode
from vedette.wire.packets import Connack, Connect, ConnectCode, Disconnect, Packet, Puback, Publish

PACKET_ID = 1
READ_BYTES = 4_096

T = TypeVar("T", Connack, Puback)

_FINAL = frozenset({ConnectCode.BAD_PROTOCOL, ConnectCode.BAD_CLIENT_ID})


async def send(route: Route, message: Message, now: float) -> None:
    """Raises Undelivered, OSError."""
    target = route.target
    reader, writer = await connect(route)
    try:
        peer = _Peer(reader, writer)
        password = route.secret.encode() or None
        greeting = Connect(f"vedette-{message.id[:12]}", target.user or None, password)
        answer = await peer.ask(greeting, Connack)
        if answer.code != ConnectCode.ACCEPTED:
            reason = f"the broker refuses the connection: {answer.code.name.lower()}"
            raise Undelivered(reason, final=answer.code in _FINAL)
        body = message.body.encode()
        await peer.ask(Publish(target.path, body, qos=1, packet_id=PACKET_ID), Puback)
        writer.write(encode(Disconnect()))
        await writer.drain()
    finally:
        writer.close()
        await writer.wait_closed()


class _Peer:
    """A broker: packets out, the awaited one in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._receiver = Receiver(CLIENT)

    async def ask(self, packet: Packet, answer: type[T]) -> T:
        """Send a packet and wait for its answer. Raises Undelivered."""
        self._writer.write(encode(packet))
        await self._writer.drain()
        while True:
            try:
                got = self._receiver.next_packet()
            except Violation as violation:
                raise Undelivered(f"the broker breaks the protocol: {violation.reason}") from None
            if isinstance(got, answer):
                return got
            if got is None:
                data = await self._reader.read(READ_BYTES)
                if not data:
                    raise Undelivered("the broker closed the connection")
                self._receiver.feed(data)
