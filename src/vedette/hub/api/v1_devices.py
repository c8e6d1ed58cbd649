"""`/api/v1`: devices and modules."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response, status

from vedette.hub.api.caller import actor, needs
from vedette.hub.api.forms import (
    ID_PATTERN,
    IdentityChange,
    IdentityForm,
    NewIdentity,
    NewIdentityForm,
    identity_form,
)
from vedette.hub.registry import Draft, Registry
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.tokens import Grant, Role
from vedette.wire.iothub import ConnectionString, Identity

PAGE, MAX_PAGE = 100, 1_000
"""Devices of a page: as asked, and at most. Their twins, which come along, may take 72 KB each."""

DeviceId = Annotated[str, Path(pattern=ID_PATTERN)]
ModuleId = Annotated[str, Path(pattern=ID_PATTERN)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
After = Annotated[str | None, Query(pattern=ID_PATTERN, description="Begin behind this device.")]


def router(registry: Registry, host: str) -> APIRouter:
    """The routes. host: stands in connection strings."""
    routes = APIRouter(tags=["devices"])
    viewer = Annotated[Grant, Depends(needs(Role.VIEWER, registry.tokens))]
    operator = Annotated[Grant, Depends(needs(Role.OPERATOR, registry.tokens))]
    fleet = registry.fleet

    @routes.get("/devices")
    def list_devices(
        _: viewer,
        limit: Limit = PAGE,
        after: Annotated[str, Query(pattern=ID_PATTERN, description="Begin behind this device.")]
        | None = None,
    ) -> list[IdentityForm]:
        """Devices by id; modules are listed below each."""
        page = fleet.page(limit, Identity(after) if after else None)
        return [identity_form(entry) for entry in page]

    @routes.post("/devices", status_code=status.HTTP_201_CREATED)
    def add(caller: operator, wanted: NewIdentity) -> NewIdentityForm:
        """Register a device, or a module of a registered device."""
        identity = Identity(wanted.device_id, wanted.module_id or "")
        with acting_as(actor(caller)):
            entry = fleet.create(Draft(identity))
        connection = ConnectionString(host, identity, entry.device.primary_key)
        return NewIdentityForm(**identity_form(entry).model_dump(), connection_string=connection.format())

    @routes.get("/devices/{device_id}")
    def get_device(_: viewer, device_id: DeviceId) -> IdentityForm:
        """One device."""
        return identity_form(fleet.get(Identity(device_id)))

    @routes.patch("/devices/{device_id}")
    def change_device(caller: operator, device_id: DeviceId, change: IdentityChange) -> IdentityForm:
        """Let a device connect, or not; it speaks for its modules."""
        with acting_as(actor(caller)):
            registry.set_enabled(Identity(device_id), change.enabled)
        return identity_form(fleet.get(Identity(device_id)))

    @routes.delete("/devices/{device_id}", status_code=status.HTTP_204_NO_CONTENT)
    def remove_device(caller: operator, device_id: DeviceId) -> Response:
        """Forget a device with its modules and twins; its events stay."""
        with acting_as(actor(caller)):
            fleet.delete(Identity(device_id))
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    @routes.get("/devices/{device_id}/modules")
    def list_modules(_: viewer, device_id: DeviceId) -> list[IdentityForm]:
        """The modules of a device."""
        return [identity_form(entry) for entry in fleet.modules(device_id)]

    @routes.delete("/devices/{device_id}/modules/{module_id}", status_code=status.HTTP_204_NO_CONTENT)
    def remove_module(caller: operator, device_id: DeviceId, module_id: ModuleId) -> Response:
        """Forget a module and its twin."""
        with acting_as(actor(caller)):
            fleet.delete(Identity(device_id, module_id))
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    return routes
