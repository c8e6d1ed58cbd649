"""What the hub asks and tells a client on one connection: direct methods, and messages to the device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import ParamSpec, Protocol, TypeVar

import msgspec

from vedette.hub.gateway.link import Link
from vedette.hub.gateway.topics import devicebound_topic, method_topic
from vedette.hub.operations import Operations
from vedette.hub.registry import Registry
from vedette.wire.events import HubOperation
from vedette.wire.iothub import Identity
from vedette.wire.packets import Publish

P = ParamSpec("P")
T = TypeVar("T")

MAX_CALLS = 32
"""Direct methods under way on one connection; a device does them one after the other."""

MAX_METHOD_BYTES = 131_072
"""Of a method's payload, and of its answer: the real service's limit."""


class CallFailed(Exception):
    """A direct method that got no answer; the text says why."""


class NotOnline(CallFailed):
    """The client is not connected, or does not listen for methods."""


class TooManyCalls(CallFailed):
    """As many as may be are under way."""


class Answer(msgspec.Struct, frozen=True):
    """A client's answer to a direct method. payload: JSON as it was sent, `null` if there was none."""

    status: int
    payload: msgspec.Raw


class Calls:
    """The direct methods under way on one connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._numbers = count(1)
        self._waiting: dict[str, asyncio.Future[Answer]] = {}

    async def call(self, name: str, payload: bytes, timeout: float) -> Answer:
        """Ask, and wait `timeout` seconds for the answer. Raises TimeoutError, CallFailed."""
        if len(self._waiting) >= MAX_CALLS:
            raise TooManyCalls(f"{MAX_CALLS} direct methods are under way")
        request_id = f"{next(self._numbers):x}"
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        self._link.send(Publish(method_topic(name, request_id), payload))
        try:
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            del self._waiting[request_id]

    def answered(self, request_id: str, status: int, body: bytes) -> None:
        """The client has answered; nobody may wait for it any more."""
        waiting = self._waiting.get(request_id)
        if waiting is None or waiting.done():
            return
        try:
            waiting.set_result(Answer(status, _json(body)))
        except CallFailed as error:
            waiting.set_exception(error)

    def end(self) -> None:
        """There will be no more answers."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(NotOnline("the device disconnected"))


def _json(body: bytes) -> msgspec.Raw:
    """A body that is JSON. Raises CallFailed."""
    if len(body) > MAX_METHOD_BYTES:
        raise CallFailed(f"the answer has more than {MAX_METHOD_BYTES} bytes")
    try:
        msgspec.json.decode(body or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CallFailed("the answer is not JSON") from None
    return msgspec.Raw(body or b"null")


class _Hub(Protocol):
    registry: Registry
    operations: Operations

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


class Mailbox:
    """The messages to a device on one connection: sent at QoS 1, gone when the client acknowledges them.

    What is not acknowledged is sent again on the next connection, as a duplicate [MQTT-3.3.1-1].
    """

    def __init__(self, hub: _Hub, link: Link, identity: Identity) -> None:
        self._hub = hub
        self._link = link
        self._identity = identity
        self._last = 0
        self._packet_ids = count(1)
        self._under_way: dict[int, int] = {}
        self._turn = asyncio.Lock()
        self._sent = HubOperation(
            operation="MessageToDevice",
            outcome="Accepted",
            protocol="MQTT",
            remote_address=link.address,
            identity=identity.client_id,
        )

    async def bring(self) -> None:
        """Send what waits and has not been sent on this connection. Raises HubFault."""
        async with self._turn:
            messages = self._hub.registry.messages
            for message in await self._hub.ask(messages.take, self._identity.device_id, self._last):
                packet_id = next(self._packet_ids) % 0xFFFF + 1
                self._under_way[packet_id] = self._last = message.seq
                topic = devicebound_topic(self._identity, message.properties)
                self._link.send(Publish(topic, message.body, 1, packet_id, message.again))
                self._hub.operations.note(self._identity, self._sent)

    async def acknowledged(self, packet_id: int) -> None:
        """The client has one. Raises HubFault."""
        seq = self._under_way.pop(packet_id, None)
        if seq is not None:
            await self._hub.ask(self._hub.registry.messages.settle, seq)
