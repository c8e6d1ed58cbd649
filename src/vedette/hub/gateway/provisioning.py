"""Device provisioning (DPS) on the gateway's port: a device shows its enrollment's key and learns what it is.

The device registers, is told to ask again, asks, and is told its hub and device id. We assign at once, so the
first answer to "ask again" is the last; the detour is the protocol's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import quote, unquote

import msgspec

from vedette.hub.gateway.auth import MAX_EXPIRY_DIGITS, NOBODY, Refused
from vedette.hub.gateway.link import Link
from vedette.hub.gateway.topics import ForbiddenTopic
from vedette.hub.registry import AlreadyExists, Registry
from vedette.hub.registry.enrollments import Enrollment, Registration
from vedette.wire.dps import ASK, REGISTER, RESPONSE
from vedette.wire.iothub import DialectError, Token, query_of, valid_id
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

RETRY_AFTER_S = 1
"""When the device shall ask for the outcome; it is there already."""


DONE, OVERDUE = "registration done", "registration took too long"


class Hub(Protocol):
    """What is asked of the gateway around it."""

    registry: Registry

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the registry from a thread."""
        ...


class Applicant(msgspec.Struct, frozen=True):
    """What a CONNECT for registration says of itself; nothing is proven yet."""

    scope: str
    registration_id: str
    token: Token


def applies(connect: Connect) -> bool:
    """True if a CONNECT is for registration."""
    return (connect.username or "").split("/")[1:2] == ["registrations"]


def read_applicant(connect: Connect) -> Applicant:
    """Raises Refused. Any id scope will do: devices keep the one they were made with."""
    scope, _, rest = (connect.username or "").partition("/registrations/")
    registration_id = unquote(rest.partition("/")[0])
    if registration_id != connect.client_id or not valid_id(registration_id):
        raise Refused(ConnectCode.BAD_CREDENTIALS, "user name: does not name the registration id")
    try:
        token = Token.parse((connect.password or b"").decode())
    except (DialectError, UnicodeDecodeError):
        raise Refused(ConnectCode.BAD_CREDENTIALS, "password: not a token") from None
    if len(token.expiry) > MAX_EXPIRY_DIGITS:
        raise Refused(ConnectCode.BAD_CREDENTIALS, "password: not a token")
    return Applicant(scope, registration_id, token)


def admit(applicant: Applicant, candidates: list[Enrollment], now: float) -> Enrollment:
    """The enrollment that a token proves, at `now` (Unix seconds). Raises Refused.

    Every candidate's keys are tried, and a stranger's, so that no answer comes sooner than another.
    """
    token = applicant.token
    proven = [one for one in candidates if token.signed_by(one.device_keys(applicant.registration_id))]
    token.signed_by(NOBODY)
    if not proven:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "registration: no enrollment has this key")
    if not proven[0].enabled:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "registration: enrollment is disabled")
    wanted = f"{applicant.scope}/registrations/{applicant.registration_id}"
    if unquote(token.resource).lower() != wanted.lower():
        raise Refused(ConnectCode.NOT_AUTHORIZED, "token: made for something else")
    if token.expired(now):
        raise Refused(ConnectCode.NOT_AUTHORIZED, "token: expired")
    return proven[0]


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
        request_id = query_of(packet.topic).get("$rid", "")
        if packet.topic.startswith(REGISTER):
            status, body = await self._register()
        elif packet.topic.startswith(ASK):
            status, body = await self._outcome()
        else:
            raise ForbiddenTopic("topic: may not be published to")
        if packet.packet_id:
            self._link.send(Puback(packet.packet_id))
        if self._subscribed:
            retry = f"&retry-after={RETRY_AFTER_S}" if status == 202 else ""
            topic = f"{RESPONSE}{status}/?$rid={quote(request_id, safe='')}{retry}"
            self._link.send(Publish(topic, msgspec.json.encode(body)))

    async def _register(self) -> tuple[int, dict[str, Any]]:
        registry, registration_id = self._hub.registry, self._applicant.registration_id
        try:
            registration = await self._hub.ask(registry.enrol, self._enrollment, registration_id)
        except AlreadyExists:
            return 409, {"errorCode": 409_001, "message": "a device of this id is there, not by registration"}
        return 202, {"operationId": _operation(registration), "status": "assigning"}

    async def _outcome(self) -> tuple[int, dict[str, Any]]:
        enrollments, registration_id = self._hub.registry.enrollments, self._applicant.registration_id
        registration = await self._hub.ask(enrollments.registration, registration_id)
        if registration is None:
            return 404, {"errorCode": 404_002, "message": "no such operation"}
        state = {
            "registrationId": registration.registration_id,
            "createdDateTimeUtc": _time(registration.created),
            "assignedHub": self._host,
            "deviceId": registration.device_id,
            "status": "assigned",
            "substatus": "initialAssignment",
            "lastUpdatedDateTimeUtc": _time(registration.updated),
            "etag": registration.etag,
        }
        operation = _operation(registration)
        return 200, {"operationId": operation, "status": "assigned", "registrationState": state}


def _operation(registration: Registration) -> str:
    return f"4.{registration.etag}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
