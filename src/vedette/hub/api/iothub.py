"""The IoT Hub service REST subset: identities, twins, queries, statistics, methods, messages to devices.

Official service SDKs are the clients: paths, status codes and headers are theirs. Routes that only work on
the registry are plain functions, which FastAPI runs in threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from vedette.hub.api.access import Access
from vedette.hub.api.documents import (
    BulkItem,
    IdentityBody,
    TwinBody,
    draft,
    identity_document,
    twin_document,
)
from vedette.hub.api.refusal import Refusal, ServiceRoute, argument, refusal_of
from vedette.hub.api.search import PAGE_ROWS, search
from vedette.hub.limits import Limits
from vedette.hub.meter import day_of
from vedette.hub.registry import Draft, Entry, Fleet, Registry, Right
from vedette.hub.registry.query import parse
from vedette.wire.iothub import Identity

MAX_BODY_BYTES = 1_048_576
"""Of a request: a bulk of a hundred devices with their tags."""

MAX_BULK = 100
"""Operations of one bulk request: the real service's limit."""

MAX_LISTED = 1_000
"""Devices of one listing: the real service's limit."""

T = TypeVar("T")


async def _body(request: Request) -> bytes:
    """The request's body. Raises Refusal when it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, "RequestEntityTooLarge", f"{MAX_BODY_BYTES} bytes are allowed")
    return bytes(body)


Body = Annotated[bytes, Depends(_body)]
IfMatch = Annotated[str | None, Header()]


def read(body: bytes, kind: type[T]) -> T:
    """A body as a typed value. Raises Refusal naming the field."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise argument(f"body: {error}") from None


def json(value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """An answer."""
    return Response(msgspec.json.encode(value), status, headers, "application/json; charset=utf-8")


def bare(if_match: str | None) -> str | None:
    """An ETag without its quotes."""
    return if_match.strip('"') if if_match else None


def router(registry: Registry, access: Access) -> APIRouter:
    """The routes that need only the registry."""
    routes = APIRouter(route_class=ServiceRoute, include_in_schema=False)

    def allows(rights: Right) -> Any:
        return [Depends(access.needs(rights))]

    _add_identities(routes, registry.fleet, allows)
    _add_twins(routes, registry.fleet, allows, Depends(access.notes("TwinUpdate")))
    _add_overview(routes, registry.fleet, allows)
    _add_statistics(routes, registry, access.limits, allows)
    return routes


class _Allows(Protocol):
    def __call__(self, rights: Right) -> Any: ...


def _add_identities(routes: APIRouter, fleet: Fleet, allows: _Allows) -> None:
    reading, writing = allows(Right.REGISTRY_READ), allows(Right.REGISTRY_WRITE)

    @routes.get("/devices", dependencies=reading)
    def devices(top: Annotated[int, Query(ge=1)] = MAX_LISTED) -> Response:
        return json([identity_document(entry) for entry in fleet.page(min(top, MAX_LISTED))])

    @routes.post("/devices", dependencies=writing)
    def bulk(body: Body) -> Response:
        return _bulk(fleet, read(body, list[BulkItem]))

    @routes.get("/devices/{device_id}/modules", dependencies=reading)
    def modules(device_id: str) -> Response:
        return json([identity_document(entry) for entry in fleet.modules(device_id)])

    @routes.get("/devices/{device_id}", dependencies=reading)
    @routes.get("/devices/{device_id}/modules/{module_id}", dependencies=reading)
    def get(device_id: str, module_id: str = "") -> Response:
        return _identity(fleet.get(Identity(device_id, module_id)))

    @routes.put("/devices/{device_id}", dependencies=writing)
    @routes.put("/devices/{device_id}/modules/{module_id}", dependencies=writing)
    def put(device_id: str, body: Body, module_id: str = "", if_match: IfMatch = None) -> Response:
        identity, asked = Identity(device_id, module_id), read(body, IdentityBody)
        if if_match is None:
            return _identity(fleet.create(draft(identity, asked)))
        return _identity(fleet.update(draft(identity, asked, fleet.get(identity)), bare(if_match)))

    @routes.delete("/devices/{device_id}", dependencies=writing)
    @routes.delete("/devices/{device_id}/modules/{module_id}", dependencies=writing)
    def delete(device_id: str, module_id: str = "", if_match: IfMatch = None) -> Response:
        fleet.delete(Identity(device_id, module_id), bare(if_match))
        return Response(status_code=204)


def _add_twins(routes: APIRouter, fleet: Fleet, allows: _Allows, noted: Any) -> None:
    reading = allows(Right.REGISTRY_READ | Right.SERVICE_CONNECT)
    writing = [noted, *allows(Right.REGISTRY_WRITE | Right.SERVICE_CONNECT)]

    @routes.get("/twins/{device_id}", dependencies=reading)
    @routes.get("/twins/{device_id}/modules/{module_id}", dependencies=reading)
    def get(device_id: str, module_id: str = "") -> Response:
        return _twin(fleet.get(Identity(device_id, module_id)))

    @routes.patch("/twins/{device_id}", dependencies=writing)
    @routes.patch("/twins/{device_id}/modules/{module_id}", dependencies=writing)
    def patch(device_id: str, body: Body, module_id: str = "", if_match: IfMatch = None) -> Response:
        change = read(body, TwinBody).change()
        return _twin(fleet.patch_twin(Identity(device_id, module_id), change, bare(if_match)))

    @routes.put("/twins/{device_id}", dependencies=writing)
    @routes.put("/twins/{device_id}/modules/{module_id}", dependencies=writing)
    def put(device_id: str, body: Body, module_id: str = "", if_match: IfMatch = None) -> Response:
        change = read(body, TwinBody).change(whole=True)
        return _twin(fleet.replace_twin(Identity(device_id, module_id), change, bare(if_match)))


class _Asked(msgspec.Struct):
    """Body of a query."""

    query: str


def _add_overview(routes: APIRouter, fleet: Fleet, allows: _Allows) -> None:
    reading = allows(Right.REGISTRY_READ | Right.SERVICE_CONNECT)

    @routes.post("/devices/query", dependencies=reading)
    def query(
        body: Body,
        x_ms_max_item_count: Annotated[int, Header()] = PAGE_ROWS,
        x_ms_continuation: Annotated[str, Header()] = "",
    ) -> Response:
        asked = parse(read(body, _Asked).query)
        page = search(fleet, asked, x_ms_max_item_count, x_ms_continuation)
        more = {"x-ms-continuation": page.continuation} if page.continuation else {}
        return json(page.rows, {"x-ms-item-type": page.kind} | more)


def _add_statistics(routes: APIRouter, registry: Registry, limits: Limits, allows: _Allows) -> None:
    reading = allows(Right.REGISTRY_READ | Right.SERVICE_CONNECT)

    @routes.get("/statistics/devices", dependencies=reading)
    def device_statistics() -> Response:
        counts = registry.fleet.counts()
        return json(
            {
                "totalDeviceCount": counts.devices,
                "enabledDeviceCount": counts.enabled,
                "disabledDeviceCount": counts.devices - counts.enabled,
            }
        )

    @routes.get("/statistics/service", dependencies=reading)
    def service_statistics() -> Response:
        return json(
            {
                "connectedDeviceCount": registry.fleet.counts().connected,
                "dailyMessageUnits": registry.usage.units(day_of(time.time())),
                "dailyMessageUnitsAllowed": limits.daily_units or None,
            }
        )


def _identity(entry: Entry) -> Response:
    return json(identity_document(entry), {"ETag": f'"{entry.device.etag}"'})


def _twin(entry: Entry) -> Response:
    return json(twin_document(entry), {"ETag": f'"{entry.twin_etag}"'})


def _bulk(fleet: Fleet, items: Sequence[BulkItem]) -> Response:
    """Do each operation by itself; those that fail are listed."""
    if len(items) > MAX_BULK:
        raise argument(f"body: {MAX_BULK} operations are allowed")
    errors = []
    for item in items:
        try:
            _import(fleet, item)
        except Exception as error:  # noqa: BLE001 - what is not the caller's is logged
            refusal = refusal_of(error, module=bool(item.module_id))
            errors.append(
                {
                    "deviceId": item.id,
                    "moduleId": item.module_id,
                    "errorCode": refusal.code,
                    "errorStatus": refusal.message,
                }
            )
    return json({"isSuccessful": not errors, "errors": errors, "warnings": []}, status=400 if errors else 200)


def _import(fleet: Fleet, item: BulkItem) -> None:
    change = TwinBody(item.tags, item.properties).change()
    match item.import_mode.lower():
        case "create":
            fleet.create(draft(item.identity, item), change)
        case "update":
            fleet.update(_updated(fleet, item), "*")
        case "updateifmatchetag":
            fleet.update(_updated(fleet, item), item.e_tag or "")
        case "delete":
            fleet.delete(item.identity)
        case "deleteifmatchetag":
            fleet.delete(item.identity, item.e_tag or "")
        case "updatetwin":
            fleet.patch_twin(item.identity, change)
        case _:
            raise ValueError("importMode: not create, update, delete, updateTwin or one of their IfMatchETag")


def _updated(fleet: Fleet, item: BulkItem) -> Draft:
    return draft(item.identity, item, fleet.get(item.identity))
