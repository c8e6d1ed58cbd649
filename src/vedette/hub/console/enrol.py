"""Enrol devices: one with an identity of its own, or a group that registers itself; then wait for events."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.enrol_commands import WAYS, commands
from vedette.hub.console.enrolments import Proof, enrolments
from vedette.hub.console.parts import at
from vedette.hub.console.questions import quoted
from vedette.hub.console.tags import nested
from vedette.hub.registry import RegistryError, TwinError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.enrollments import Enrollment
from vedette.hub.registry.twins import merge
from vedette.hub.registry.users import Role
from vedette.wire.iothub import ConnectionString, Identity

MODULE = "DefenderIotMicroAgent"
"""The module that the agent connects as, so that the device's own identity stays its application's."""

SCOPE = "vedette"
"""The id scope in what is shown. A hub answers for any; Azure's service would want its own."""

PROVISIONING = "provisioning.json"
"""What the agent reads to register itself."""

POLL_S = 3.0
"""How often to look for the first event."""

ARRIVED = 20
"""Devices of a group that are shown as they arrive."""


_KINDS = {
    "": ("Enrol a device", "One device"),
    "group": ("Enrol a group", "A group"),
    "list": ("Enrolments", "Enrolments"),
}
"""Kind in the address → title of the page, name of the choice."""


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/enrol", response_timeout=30)
    async def enrol(request: Request, kind: str = "") -> None:
        kind = kind if kind in _KINDS else ""
        with parts.frame(request, _KINDS[kind][0], "/enrol"):
            if not parts.may(request, Role.OPERATOR):
                parts.text("Enrolling a device needs the role operator.", "empty")
                return
            with parts.block("stack").style("max-width: 860px"):
                with parts.block("row"):
                    kinds = {name: at("/enrol", kind=key) for key, (_, name) in _KINDS.items()}
                    parts.segments(kinds, _KINDS[kind][1])
                if kind == "list":
                    await enrolments(backend, request)
                else:
                    (_group if kind == "group" else _device)(backend, request)


def _device(backend: Backend, request: Request) -> None:
    about = "An identity with keys of its own. Letters, digits and - . _ are safe."
    with parts.panel("1  Name it", about), parts.block("row"):
        name = ui.input("Device name").props("outlined dense autofocus maxlength=128").style("width: 300px")
        proof = Proof("Its own certificate")
        button = ui.button("Make the identity").props("unelevated dense").classes("small")
    proof.field("The device's certificate, PEM")
    rest = parts.block("stack")

    async def make(*_: object) -> None:
        user = await backend.demand(request, Role.OPERATOR)
        device_id, pem = (name.value or "").strip(), proof.pem
        try:
            with acting_as(f"user:{user.name}"):
                if pem:
                    own = Enrollment(device_id, False, certificates=(pem,))
                    await call(lambda: backend.registry.enrollments.add(own))
                else:
                    connection = await call(lambda: _register(backend, device_id))
        except RegistryError as error:
            raise ValueError(str(error)) from None
        for element in (name, button, *proof.elements):
            element.disable()
        with rest:
            if pem:
                with parts.panel("2  Run this on the device", "As root, with its certificate at hand."):
                    _ways(
                        backend, PROVISIONING, lambda: _by_certificate(backend, device_id), certificate=True
                    )
            else:
                with parts.panel(
                    "2  Run this on the device", "As root. The secret in it is shown here only."
                ):
                    _ways(backend, "connection_string.txt", lambda: connection.format())
            with parts.panel("3  Wait for its first event"):
                _arrivals(backend, lambda: _always([device_id]))

    button.on_click(parts.guarded(make))


async def _always(device_ids: Sequence[str]) -> Sequence[str]:
    return device_ids


def _register(backend: Backend, device_id: str) -> ConnectionString:
    """The identity's connection string. Raises RegistryError, ValueError."""
    registry = backend.registry
    if registry.get(Identity(device_id)) is None:
        registry.add(Identity(device_id))
    made = registry.add(Identity(device_id, MODULE))
    return ConnectionString(backend.hosts[0], made.identity, made.primary_key)


def _group(backend: Backend, request: Request) -> None:
    about = "Devices that hold a key made from the group's register themselves: nobody has to add them here."
    with parts.panel("1  Name the group", about), parts.block("row"):
        name = ui.input("Group name").props("outlined dense autofocus maxlength=128").style("width: 240px")
        tags = ui.input("Tags of its devices, as in site=north, line=3").props("outlined dense")
        tags.style("width: 330px")
        proof = Proof("Certificates of an authority")
        button = ui.button("Make the group").props("unelevated dense").classes("small")
    proof.field("The authority's certificate, PEM")
    rest = parts.block("stack")

    async def make(*_: object) -> None:
        user = await backend.demand(request, Role.OPERATOR)
        certificates = tuple(filter(None, [proof.pem]))
        wanted = Enrollment(
            (name.value or "").strip(), True, tags=_tags(tags.value or ""), certificates=certificates
        )
        try:
            with acting_as(f"user:{user.name}"):
                made = await call(lambda: backend.registry.enrollments.add(wanted))
        except (RegistryError, TwinError) as error:
            raise ValueError(str(error)) from None
        for element in (name, tags, button, *proof.elements):
            element.disable()
        with rest:
            _member(backend, made)
            with parts.panel("3  Wait for devices of the group"):
                begun = time.time()
                _arrivals(backend, lambda: call(lambda: _members(backend, made, begun)))

    button.on_click(parts.guarded(make))


def _tags(text: str) -> dict[str, object]:
    """`site=north, place.hall=3` as tags. Raises ValueError."""
    tags: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"tags: {part!r} is not name=value")
        tags = merge(tags, nested(key.strip(), value.strip()))
    return tags


def _member(backend: Backend, group: Enrollment) -> None:
    about = "As root. Each device gets a key of its own, made from the group's; it is shown here only."
    if group.certificates:
        about = "As root. Each device has a certificate of its own, issued under the authority."
    with parts.panel("2  Run this on each device", about):
        device = ui.input("Registration id of the device", value=f"{group.name}-1").props("outlined dense")
        device.style("width: 300px; margin-bottom: 10px")

        def content() -> str:
            registration_id = (device.value or "").strip()
            if group.certificates:
                return _by_certificate(backend, registration_id)
            return _provisioning(
                backend, registration_id, symmetric_key=group.device_keys(registration_id)[0]
            )

        show = _ways(backend, PROVISIONING, content, certificate=bool(group.certificates))
        device.on_value_change(show)


def _provisioning(backend: Backend, registration_id: str, **proof: object) -> str:
    """The document by which a device registers itself."""
    where = {"endpoint": backend.hosts[0], "port": backend.mqtt_port, "id_scope": SCOPE}
    return msgspec.json.encode({**where, "registration_id": registration_id, **proof}).decode()


def _by_certificate(backend: Backend, registration_id: str) -> str:
    return _provisioning(backend, registration_id, x509=True)


def _members(backend: Backend, group: Enrollment, since: float) -> list[str]:
    """Devices that have registered since a time with a key of the group, or by a certificate."""
    found = []
    for one in backend.registry.enrollments.registrations(since):
        device = backend.registry.get(Identity(one.device_id))
        if device is None:
            continue
        if group.certificates:
            fits = backend.registry.fleet.profile(device.identity).authentication != "sas"
        else:
            fits = device.primary_key == group.device_keys(one.registration_id)[0]
        if fits:
            found.append(one.device_id)
    return found[:ARRIVED]


def _ways(
    backend: Backend, file: str, content: Callable[[], str], *, certificate: bool = False
) -> Callable[..., None]:
    """The commands for each way of installing; returns what shows them anew."""
    host, port = backend.hosts[0], backend.mqtt_port
    way = ui.toggle(list(WAYS), value=next(iter(WAYS))).props("dense no-caps unelevated").classes("ways")
    shown = parts.text("", "code").style("margin-top: 10px")

    def show(*_: object) -> None:
        shown.text = commands(str(way.value), file, content(), host, port, certificate=certificate)

    way.on_value_change(show)
    show()
    return show


def _arrivals(backend: Backend, expected: Callable[[], Awaitable[Sequence[str]]]) -> None:
    """Say when events of the expected devices arrive."""
    with parts.block("row"):
        waiting = ui.spinner(size="20px")
        said = ui.label("Nothing has arrived yet. This page looks every few seconds.")
    done = parts.block("stack")
    known: set[str] = set()

    async def look() -> None:
        missing = [name for name in await expected() if name not in known]
        entries = await call(lambda: backend.roll.entries(missing))
        if connected := [entry.device_id for entry in entries if entry.online or entry.seen]:
            said.text = f"Connected: {', '.join(connected)}. The first event comes with the next send."
        names = ", ".join(map(quoted, missing))
        if not names:
            return
        rows = await backend.questions.ask(
            "SELECT DeviceId, min(TimeGenerated) AS First FROM raw_events"  # noqa: S608
            f" WHERE DeviceId IN ({names}) AND RawEventName <> 'HubOperation' GROUP BY 1"
        )
        for row in rows:
            device_id = str(row["DeviceId"])
            known.add(device_id)
            waiting.set_visibility(False)
            said.text = "The first event has arrived."
            with done, parts.block("row"):
                parts.link(f"See {device_id}", parts.device_at(device_id))
                parts.text(f"first event at {parts.moment(row['First'])} UTC", "dim")

    ui.timer(POLL_S, look)
