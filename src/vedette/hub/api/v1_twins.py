"""`/api/v1`: twins, one by one or as a group."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path

from vedette.hub.api.caller import actor, needs
from vedette.hub.api.forms import (
    ID_PATTERN,
    MAX_GROUP,
    GroupForm,
    GroupMember,
    GroupPatch,
    TwinForm,
    TwinPatch,
    twin_form,
)
from vedette.hub.registry import Entry, Registry, RegistryError, TwinChange, TwinError, UnknownIdentity
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.query import QueryError, parse
from vedette.hub.registry.tokens import Grant, Role
from vedette.hub.registry.twins import checked, difference, merge
from vedette.wire.iothub import Identity

SCAN = 500
"""Devices read at a time while a group is looked for: at most 36 MB of twins."""

DeviceId = Annotated[str, Path(pattern=ID_PATTERN)]
ModuleId = Annotated[str, Path(pattern=ID_PATTERN)]


def router(registry: Registry) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["twins"])
    viewer = Annotated[Grant, Depends(needs(Role.VIEWER, registry.tokens))]
    operator = Annotated[Grant, Depends(needs(Role.OPERATOR, registry.tokens))]
    fleet = registry.fleet

    @routes.get("/twins/{device_id}")
    def get_device_twin(_: viewer, device_id: DeviceId) -> TwinForm:
        """A device's twin."""
        return twin_form(fleet.get(Identity(device_id)))

    @routes.patch("/twins/{device_id}")
    def change_device_twin(caller: operator, device_id: DeviceId, patch: TwinPatch) -> TwinForm:
        """Change a device's desired properties and tags."""
        with acting_as(actor(caller)):
            return twin_form(fleet.patch_twin(Identity(device_id), TwinChange(patch.tags, patch.desired)))

    @routes.get("/twins/{device_id}/{module_id}")
    def get_module_twin(_: viewer, device_id: DeviceId, module_id: ModuleId) -> TwinForm:
        """A module's twin: the settings of an agent, and what it reports."""
        return twin_form(fleet.get(Identity(device_id, module_id)))

    @routes.patch("/twins/{device_id}/{module_id}")
    def change_module_twin(
        caller: operator, device_id: DeviceId, module_id: ModuleId, patch: TwinPatch
    ) -> TwinForm:
        """Change a module's desired properties and tags."""
        identity = Identity(device_id, module_id)
        with acting_as(actor(caller)):
            return twin_form(fleet.patch_twin(identity, TwinChange(patch.tags, patch.desired)))

    @routes.post("/groups/preview")
    def preview(_: viewer, wanted: GroupPatch) -> GroupForm:
        """Whom a change of a group would concern, and what would change of each."""
        entries, without = _group(registry, wanted)
        return GroupForm(members=[_member(entry, wanted) for entry in entries], without_module=without)

    @routes.post("/groups/apply")
    def apply(caller: operator, wanted: GroupPatch) -> GroupForm:
        """Change a group's desired properties, one identity after the other; what fails says so."""
        entries, without = _group(registry, wanted)
        with acting_as(actor(caller)):
            members = [_applied(registry, entry, wanted) for entry in entries]
        return GroupForm(members=members, without_module=without)

    return routes


def _group(registry: Registry, wanted: GroupPatch) -> tuple[list[Entry], list[str]]:
    """The identities concerned, and devices without the module. Raises QueryError, TwinError."""
    checked(wanted.desired)
    members: list[Entry] = []
    without: list[str] = []
    for entry in _matching(registry, wanted.where):
        device_id = entry.device.identity.device_id
        if wanted.module_id is None:
            members.append(entry)
        else:
            try:
                members.append(registry.fleet.get(Identity(device_id, wanted.module_id)))
            except UnknownIdentity:
                without.append(device_id)
        if len(members) + len(without) > MAX_GROUP:
            raise QueryError(f"where: holds for more than {MAX_GROUP} devices; narrow it down")
    return members, without


def _matching(registry: Registry, where: str) -> Iterator[Entry]:
    """The devices that a condition holds for. Raises QueryError."""
    query = parse(f"SELECT * FROM devices WHERE {where}")  # noqa: S608 - parsed, and never sent to a database
    if query.columns or query.group_by:
        raise QueryError("where: a condition alone is needed")
    after: Identity | None = None
    while page := registry.fleet.page(SCAN, after, condition=query.condition):
        yield from page
        after = page[-1].device.identity


def _member(entry: Entry, wanted: GroupPatch) -> GroupMember:
    twin = entry.twin
    return GroupMember(
        device_id=twin.identity.device_id,
        module_id=twin.identity.module_id,
        desired_version=twin.desired_version,
        patch=difference(twin.desired, merge(twin.desired, checked(wanted.desired))),
    )


def _applied(registry: Registry, entry: Entry, wanted: GroupPatch) -> GroupMember:
    """Change one, unless it is so already: every change is a message that a device pays for."""
    member = _member(entry, wanted)
    if not member.patch:
        return member
    try:
        twin = registry.patch_desired(entry.twin.identity, wanted.desired)
    except (RegistryError, TwinError) as error:
        return member.model_copy(update={"error": str(error)})
    return member.model_copy(update={"desired_version": twin.desired_version})
