"""Device provisioning (DPS) on the gateway's port: a device registers and learns what it is.

The device registers, is told to ask again, asks, and is told its hub and device id. Who may, and what is
answered, stands in `registrar`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ParamSpec, Protocol, TypeVar
from urllib.parse import quote, unquote

import msgspec
from cryptography import x509

from vedette.hub.gateway.auth import Refused
from vedette.hub.gateway.link import Link
from vedette.hub.gateway.registrar import RETRY_AFTER_S, Applicant, admit, applicant_of, outcome, register
from vedette.hub.gateway.topics import ForbiddenTopic
from vedette.hub.registry import Registry
from vedette.hub.registry.enrollments import Enrollment
from vedette.wire.dps import ASK, REGISTER, RESPONSE
from vedette.wire.iothub import query_of
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
    Unsuback,
    Unsubscribe,
)

P = ParamSpec("P")
T = TypeVar("T")

MAX_LIFE_S = 300.0
"""Of a connection: registration takes two round trips, and whoever needs longer may come again."""

DONE, OVERDUE = "registration done", "registration took too long"


class Hub(Protocol):
    """What is asked of the gateway around it."""

    registry: Registry

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the registry from a thread."""
        ...


def applies(connect: Connect) -> bool:
    """True if a CONNECT is for registration."""
    return (connect.username or "").split("/")[1:2] == ["registrations"]


def read_applicant(connect: Connect, chain: Sequence[x509.Certificate]) -> Applicant:
    """What a CONNECT for registration says, and the certificates of its connection. Raises Refused."""
    scope, _, rest = (connect.username or "").partition("/registrations/")
    registration_id = unquote(rest.partition("/")[0])
    if registration_id != connect.client_id:
        raise Refused(ConnectCode.BAD_CREDENTIALS, "user name: does not name the registration id")
    return applicant_of(scope, registration_id, connect.password, chain)


class Provisioning:
    """One connection of a device that registers itself. host: the hub that it is assigned to."""

    def __init__(self, hub: Hub, link: Link, host: str, applicant: Applicant) -> None:
        self._hub = hub
        self._link = link
        self._host = host
        self._applicant = applicant
        self._subscribed = False
        self._enrollment: Enrollment

    async def run(self) -> None:
        """Serve the connection to its end. Raises Refused, ForbiddenTopic, Violation, HubFault."""
        self._link.limit_life(MAX_LIFE_S, OVERDUE)
        registration_id = self._applicant.registration_id
        candidates = await self._hub.ask(self._hub.registry.enrollments.candidates, registration_id)
        self._enrollment = admit(self._applicant, list(candidates), time.time())
        self._link.send(Connack(ConnectCode.ACCEPTED))
        while (packet := await self._link.receive()) is not None:
            await self._serve(packet)
            await self._link.drain()

    async def _serve(self, packet: Packet) -> None:
        match packet:
            case Publish():
                await self._publish(packet)
            case Subscribe():
                codes = tuple(
                    min(qos, 1) if text == f"{RESPONSE}#" else FAILURE for text, qos in packet.filters
                )
                self._subscribed |= any(code != FAILURE for code in codes)
                self._link.send(Suback(packet.packet_id, codes))
            case Unsubscribe():
                self._link.send(Unsuback(packet.packet_id))
            case Pingreq():
                self._link.send(Pingresp())
            case Disconnect():
                self._link.close(DONE)
            case _:
                pass  # PUBACK: what we send needs none

    async def _publish(self, packet: Publish) -> None:
        registry = self._hub.registry
        request_id = query_of(packet.topic).get("$rid", "")
        if packet.topic.startswith(REGISTER):
            status, body = await self._hub.ask(register, registry, self._enrollment, self._applicant)
        elif packet.topic.startswith(ASK):
            registration_id = self._applicant.registration_id
            status, body = await self._hub.ask(outcome, registry, registration_id, self._host)
        else:
            raise ForbiddenTopic("topic: may not be published to")
        if packet.packet_id:
            self._link.send(Puback(packet.packet_id))
        if self._subscribed:
            retry = f"&retry-after={RETRY_AFTER_S}" if status == 202 else ""
            topic = f"{RESPONSE}{status}/?$rid={quote(request_id, safe='')}{retry}"
            self._link.send(Publish(topic, msgspec.json.encode(body)))
