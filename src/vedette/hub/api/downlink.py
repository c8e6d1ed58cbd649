"""What a service asks and tells devices over REST: direct methods, cloud-to-device messages.

The real service takes cloud-to-device messages over AMQP only. We do not speak AMQP: the POST here is ours,
with the header names of the real service's HTTP API for devices. So the official service SDKs do everything
here but `send`.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import APIRouter, Depends, Header, Request, Response

from vedette.hub.api.access import Access
from vedette.hub.api.iothub import Body, json, read
from vedette.hub.api.refusal import Refusal, ServiceRoute, argument
from vedette.hub.gateway.downlink import MAX_METHOD_BYTES, Answer, CallFailed, NotOnline, TooManyCalls
from vedette.hub.registry import Registry, Right
from vedette.hub.registry.messages import DEFAULT_TTL_S, Messages, QueueFull
from vedette.wire.iothub import Identity

MAX_NAME_CHARACTERS = 128
"""Of a method's name: a topic segment."""

MAX_PROPERTIES_BYTES = 8_192
"""Of a message's properties: they travel in the topic."""

PROPERTY = "iothub-app-"
"""Prefix of headers that are a message's own properties."""

SYSTEM = {
    "iothub-messageid": "$.mid",
    "iothub-correlationid": "$.cid",
    "iothub-userid": "$.uid",
    "content-type": "$.ct",
    "content-encoding": "$.ce",
}
"""Header → key of the property bag."""

CALL_FAILURES = {NotOnline: (404, "DeviceNotOnline"), TooManyCalls: (429, "ThrottlingException")}
NO_ANSWER = "the device did not answer in time"


class Gateway(Protocol):
    """What is asked of the gateway."""

    async def call(
        self, identity: Identity, name: str, payload: bytes, *, timeout: float, connect_timeout: float = 0
    ) -> Answer:
        """Raises NotOnline, TooManyCalls, CallFailed, TimeoutError."""
        ...


class MethodBody(msgspec.Struct, rename="camel"):
    """A direct method; times in seconds, within the real service's bounds."""

    method_name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
    payload: msgspec.Raw = msgspec.Raw(b"null")
    response_timeout_in_seconds: Annotated[int, msgspec.Meta(ge=5, le=300)] | None = 30
    connect_timeout_in_seconds: Annotated[int, msgspec.Meta(ge=0, le=300)] | None = 0


def router(registry: Registry, gateway: Gateway, access: Access) -> APIRouter:
    """The routes that reach devices."""
    allowed = Depends(access.needs(Right.SERVICE_CONNECT))
    routes = APIRouter(route_class=ServiceRoute, include_in_schema=False, dependencies=[allowed])

    noted = [Depends(access.notes("MethodInvoke"))]

    @routes.post("/twins/{device_id}/methods", dependencies=noted)
    @routes.post("/twins/{device_id}/modules/{module_id}/methods", dependencies=noted)
    async def call(device_id: str, body: Body, module_id: str = "") -> Response:
        return await _call(gateway, Identity(device_id, module_id), read(body, MethodBody))

    @routes.post("/devices/{device_id}/messages/devicebound")
    def send(
        device_id: str,
        body: Body,
        request: Request,
        iothub_expiry: Annotated[float, Header()] = DEFAULT_TTL_S,
    ) -> Response:
        return _send(registry.messages, device_id, body, _properties(request), iothub_expiry)

    @routes.delete("/devices/{device_id}/commands")
    def purge(device_id: str) -> Response:
        return json({"deviceId": device_id, "totalMessagesPurged": registry.messages.purge(device_id)})

    return routes


async def _call(gateway: Gateway, identity: Identity, asked: MethodBody) -> Response:
    payload = bytes(asked.payload)
    if len(payload) > MAX_METHOD_BYTES:
        raise argument(f"payload: {MAX_METHOD_BYTES} bytes are allowed")
    try:
        answer = await gateway.call(
            identity,
            asked.method_name,
            payload,
            timeout=asked.response_timeout_in_seconds or 30,
            connect_timeout=asked.connect_timeout_in_seconds or 0,
        )
    except TimeoutError:
        raise Refusal(504, "GatewayTimeout", NO_ANSWER) from None
    except CallFailed as error:
        status, code = CALL_FAILURES.get(type(error), (502, "GenericBadGateway"))
        raise Refusal(status, code, str(error)) from None
    return json({"status": answer.status, "payload": answer.payload})


def _properties(request: Request) -> dict[str, str]:
    """A message's properties, from the request's headers. Raises Refusal."""
    found = {
        SYSTEM.get(name, name.removeprefix(PROPERTY)): value
        for name, value in request.headers.items()
        if name in SYSTEM or name.startswith(PROPERTY)
    }
    found.setdefault("$.mid", str(uuid.uuid4()))
    if sum(len(name) + len(value) for name, value in found.items()) > MAX_PROPERTIES_BYTES:
        raise argument(f"properties: {MAX_PROPERTIES_BYTES} characters are allowed")
    return found


def _send(
    messages: Messages, device_id: str, body: bytes, properties: dict[str, str], ttl: float
) -> Response:
    try:
        messages.put(device_id, properties, body, ttl)
    except QueueFull as error:
        raise Refusal(403, "DeviceMaximumQueueDepthExceeded", str(error)) from None
    headers: dict[str, Any] = {"iothub-messageid": properties["$.mid"]}
    return Response(status_code=202, headers=headers)
