"""What an authenticated identity may do on its connection: send messages, work with its twin, subscribe.

Requests are served in the order in which they come, but for device-to-cloud messages: these wait for the lake
side by side, as many as there is room for, and their PUBACKs leave in the order of their PUBLISHes
[MQTT-4.6.0-2], each when its own message and all before it are durable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

import msgspec

from vedette.hub.gateway.downlink import Answer, Calls, Mailbox
from vedette.hub.gateway.journal import Warnings
from vedette.hub.gateway.link import Link
from vedette.hub.gateway.room import Room
from vedette.hub.gateway.topics import (
    DESIRED_FILTER,
    METHODS_FILTER,
    RESPONSE_FILTER,
    Events,
    ForbiddenTopic,
    MethodAnswer,
    TwinGet,
    TwinReport,
    desired_topic,
    hears_messages,
    may_subscribe,
    read_topic,
    response_topic,
)
from vedette.hub.intake import Inbound
from vedette.hub.limits import Bucket, Limits
from vedette.hub.meter import Meter
from vedette.hub.operations import Operations
from vedette.hub.registry import Change, Device, Registry, RegistryError, Twin, TwinError, UnknownIdentity
from vedette.hub.registry.twins import decode_patch
from vedette.wire.events import HubOperation
from vedette.wire.iothub import Identity
from vedette.wire.mqtt import Violation
from vedette.wire.packets import (
    FAILURE,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

MAX_WAITING = 64
"""Messages of one connection that wait for the lake; the SDKs stop at 20 by themselves."""

MAX_WAITING_BYTES = 1_048_576
"""The same in bytes: four of the largest messages."""

SHOWN_CHARACTERS = 128
"""Characters of a device's text that a log line repeats."""

DISCONNECTED = "client disconnected"
LOST = "connection lost"
LAKE_FAULT = "lake does not take messages"
OUR_FAULT = "fault of the hub"
QUOTA = "daily quota of messages is spent"

_REFUSALS = {
    400: "twin: not a valid patch",
    403: QUOTA,
    404: "identity: unknown",
    429: "twin: too many requests",
    500: OUR_FAULT,
}
"""Status of a twin request → why it was refused, as HubOperation tells it."""


class HubFault(Exception):
    """Something of ours is broken, and has been logged; the client may try again."""


class Hub(Protocol):
    """What a session asks of the gateway around it."""

    registry: Registry
    room: Room
    warnings: Warnings
    limits: Limits
    operations: Operations
    meter: Meter

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the registry from a thread. Raises its RegistryError and TwinError, for all else HubFault."""
        ...

    async def deliver(self, inbound: Inbound) -> None:
        """Hand a message on; when this returns it is durable. Raises HubFault."""
        ...

    def throttled(self, what: str) -> None:
        """Note that a client was slowed down or told to wait."""
        ...

    def heard(self, identity: Identity) -> None:
        """Note that the identity is active."""
        ...

    def subscribed(self, identity: Identity) -> None:
        """Note that the identity may listen for methods now."""
        ...


class _Slot:
    """One PUBLISH whose PUBACK is due, in its place in the order. packet_id 0: QoS 0, none is due."""

    __slots__ = ("done", "packet_id")

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id
        self.done = False


class Session:
    """One connection of an identity, from CONNACK to its end.

    device: the record that let it in. subscriptions: topic filters kept from before. keeps: CleanSession was
    0, so that subscriptions outlive this. number: of a newer connection, on any gateway, it is larger.
    """

    def __init__(
        self, hub: Hub, link: Link, device: Device, subscriptions: frozenset[str], *, keeps: bool, number: int
    ) -> None:
        self.link = link
        self.identity = device.identity
        self.etag = device.etag
        self.number = number
        self._hub = hub
        self._subscriptions = subscriptions
        self._keeps = keeps
        self._room = Room(MAX_WAITING, MAX_WAITING_BYTES)
        self._due: deque[_Slot] = deque()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._acknowledging = False
        now = time.monotonic()
        limits = hub.limits
        self._messages = Bucket(limits.messages_per_second, limits.message_burst, now)
        self._requests = Bucket(limits.twin_requests_per_second, limits.twin_request_burst, now)
        self._calls = Calls(link)
        self._mailbox = Mailbox(hub, link, self.identity)

    async def run(self) -> None:
        """Serve the connection until it ends. Its end has a reason, in `link.reason`."""
        try:
            await self.bring_messages()
            while (packet := await self.link.receive()) is not None:
                self._hub.heard(self.identity)
                await self._serve(packet)
                await self.link.drain()
            self.link.stop(LOST)
        except (Violation, ForbiddenTopic) as error:
            self.link.close(str(error))
        except (HubFault, RegistryError):
            self.link.close(OUR_FAULT)
        except Exception:
            log.exception("%s: session failed", self.link.peer)
            self.link.close(OUR_FAULT)
        finally:
            self._calls.end()

    async def settle(self) -> None:
        """Wait until every message that was received is durable and acknowledged, or is known not to be."""
        await asyncio.gather(*self._deliveries)
        self._acknowledge()

    def push(self, change: Change) -> None:
        """Send a change of the desired properties, if the client subscribed to them."""
        if change.patch is not None and DESIRED_FILTER in self._subscriptions:
            body = msgspec.json.encode({**change.patch, "$version": change.version})
            self.link.send(Publish(desired_topic(change.version), body))
            self._pay(len(body))

    @property
    def hears_methods(self) -> bool:
        """True if the client waits for direct methods."""
        return METHODS_FILTER in self._subscriptions

    async def call(self, name: str, payload: bytes, timeout: float) -> Answer:
        """Have the client run a direct method. Raises TimeoutError, CallFailed."""
        return await self._calls.call(name, payload, timeout)

    async def bring_messages(self) -> None:
        """Send the messages that wait for a device, if it has subscribed to them. Raises HubFault."""
        if not self.identity.module_id and hears_messages(self._subscriptions, self.identity):
            await self._mailbox.bring()

    async def _serve(self, packet: Packet) -> None:
        match packet:
            case Publish():
                await self._publish(packet)
            case Subscribe():
                await self._subscribe(packet)
            case Unsubscribe():
                await self._unsubscribe(packet)
            case Pingreq():
                self.link.send(Pingresp())
            case Disconnect():
                self.link.close(DISCONNECTED)
            case Puback(packet_id):
                await self._mailbox.acknowledged(packet_id)
            case _:
                pass  # the server's table lets nothing else through

    async def _publish(self, packet: Publish) -> None:
        try:
            request = read_topic(packet.topic, self.identity)
        except ForbiddenTopic:
            self._hub.warnings.write("%s: publishes to %s", self.link.peer, printable(packet.topic))
            raise
        slot = _Slot(packet.packet_id)
        match request:
            case Events(properties):
                size = len(packet.topic) + len(packet.payload)
                if self._spent():
                    await self.settle()  # what came before is acknowledged
                    self.link.close(QUOTA)
                    return
                self._pay(size)
                await self._keep_pace()
                await self._room.enter(size)
                await self._hub.room.enter(size)
                self._due.append(slot)
                inbound = Inbound(self.identity, properties, packet.payload, time.time())
                delivery = asyncio.create_task(self._deliver(inbound, slot, size))
                self._deliveries.add(delivery)
                delivery.add_done_callback(self._deliveries.discard)
            case MethodAnswer(request_id, status):
                self._due.append(slot)
                self._calls.answered(request_id, status, packet.payload)
                self._complete(slot)
            case _:
                self._due.append(slot)
                await self._answer(request, packet.payload)
                self._complete(slot)

    def _spent(self) -> bool:
        """True if nothing is left of the day's quota."""
        spent = self._hub.meter.spent(self.identity.device_id, time.time())
        if spent:
            self._hub.throttled("quota")
        return spent

    def _pay(self, size: int) -> None:
        """Take so many bytes off the day's quota."""
        self._hub.meter.count(self.identity.device_id, size, time.time())

    async def _keep_pace(self) -> None:
        """Read a client that sends too fast more slowly: TCP makes it wait."""
        if wait := self._messages.owe(time.monotonic()):
            self._hub.throttled("messages")
            await asyncio.sleep(wait)

    async def _deliver(self, inbound: Inbound, slot: _Slot, size: int) -> None:
        try:
            await self._hub.deliver(inbound)
        except HubFault:
            self._acknowledge()
            self.link.close(LAKE_FAULT)
        else:
            slot.done = True
            if not self._acknowledging:  # one TLS record for all that one commit has made durable
                self._acknowledging = True
                self._loop.call_soon(self._acknowledge)
        finally:
            self._room.leave(size)
            self._hub.room.leave(size)

    def _complete(self, slot: _Slot) -> None:
        """Mark one PUBLISH as done, and acknowledge it if its turn has come."""
        slot.done = True
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Acknowledge all that are done up to the first that is not."""
        self._acknowledging = False
        acks = []
        while self._due and self._due[0].done:
            if packet_id := self._due.popleft().packet_id:
                acks.append(Puback(packet_id))
        if acks:
            self.link.send(*acks)

    async def _answer(self, request: TwinGet | TwinReport, body: bytes) -> None:
        """Serve a twin request; whatever goes wrong, the client gets a status and a reason."""
        version, answer = None, b""
        try:
            if not self._requests.take(time.monotonic()):
                self._hub.throttled("twin requests")
                status, answer = 429, error_body(429_001, "too many twin requests; try again later")
            elif self._spent():
                status, answer = 403, error_body(403_002, QUOTA)
            elif isinstance(request, TwinGet):
                status = 200
                twin = await self._hub.ask(self._hub.registry.twin, self.identity)
                answer = msgspec.json.encode(twin.document())
            else:
                status = 204
                version = (await self._hub.ask(self._report, body)).reported_version
        except TwinError as error:
            status, answer = 400, error_body(400_004, str(error))
        except UnknownIdentity as error:
            status, answer = 404, error_body(404_001, str(error))
        except HubFault:
            status, answer = 500, error_body(500_001, "the hub could not do it; try again")
        if status < 300:
            self._pay(len(body) + len(answer))
        if isinstance(request, TwinReport):
            self._note_update(status)
        if RESPONSE_FILTER in self._subscriptions:
            self.link.send(Publish(response_topic(status, request.request_id, version), answer))

    def _note_update(self, status: int) -> None:
        """Count an update of the reported properties."""
        update = HubOperation(
            operation="TwinUpdate",
            outcome="Accepted" if status == 204 else "Refused",
            reason=_REFUSALS.get(status, ""),
            protocol="MQTT",
            remote_address=self.link.address,
            identity=self.identity.client_id,
        )
        self._hub.operations.note(self.identity, update)

    def _report(self, body: bytes) -> Twin:
        return self._hub.registry.patch_reported(self.identity, decode_patch(body))

    async def _subscribe(self, packet: Subscribe) -> None:
        granted = {text for text, _ in packet.filters if may_subscribe(text, self.identity)}
        for text, _ in packet.filters:
            if text not in granted:
                self._hub.warnings.write("%s: subscribes to %s", self.link.peer, printable(text))
        await self._resubscribe(self._subscriptions | granted)
        codes = (min(qos, 1) if text in granted else FAILURE for text, qos in packet.filters)
        self.link.send(Suback(packet.packet_id, tuple(codes)))
        self._hub.subscribed(self.identity)
        await self.bring_messages()

    async def _unsubscribe(self, packet: Unsubscribe) -> None:
        await self._resubscribe(self._subscriptions - set(packet.filters))
        self.link.send(Unsuback(packet.packet_id))

    async def _resubscribe(self, filters: frozenset[str]) -> None:
        if filters != self._subscriptions and self._keeps:
            await self._hub.ask(self._hub.registry.set_subscriptions, self.identity, filters)
        self._subscriptions = filters


def error_body(code: int, message: str) -> bytes:
    """Body of a twin answer that is an error: one SDK reads the status, another only this."""
    return msgspec.json.encode({"errorCode": code, "message": message})


def printable(text: str) -> str:
    """A device's text for a log line: escaped and cut."""
    return ascii(text[:SHOWN_CHARACTERS])
