"""Enrol a device: make its identity, show the commands, and wait until its first event arrives."""

from __future__ import annotations

import shlex

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.questions import quoted
from vedette.hub.registry import RegistryError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.users import Role
from vedette.wire.iothub import ConnectionString, Identity

MODULE = "DefenderIotMicroAgent"
"""The module that the agent connects as, so that the device's own identity stays its application's."""

POLL_S = 3.0
"""How often to look for the first event."""


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/enrol", response_timeout=30)
    async def enrol(request: Request) -> None:
        with parts.frame(request, "Enrol a device", "/enrol"):
            if not parts.may(request, Role.OPERATOR):
                parts.text("Enrolling a device needs the role operator.", "empty")
                return
            with parts.block("stack").style("max-width: 860px"):
                _steps(backend, request)


def _steps(backend: Backend, request: Request) -> None:
    about = "An identity with keys of its own. Letters, digits and - . _ are safe."
    with parts.panel("1  Name it", about), parts.block("row"):
        name = ui.input("Device name").props("outlined dense autofocus maxlength=128").style("width: 300px")
        button = ui.button("Make the identity").props("unelevated dense").style("padding: 4px 14px")
    rest = parts.block("stack")

    async def make(*_: object) -> None:
        user = await backend.demand(request, Role.OPERATOR)
        device_id = (name.value or "").strip()
        try:
            with acting_as(f"user:{user.name}"):
                connection = await call(lambda: _register(backend, device_id))
        except RegistryError as error:
            raise ValueError(str(error)) from None
        name.disable()
        button.disable()
        with rest:
            _commands(backend, connection)
            _arrival(backend, device_id)

    button.on_click(parts.guarded(make))


def _register(backend: Backend, device_id: str) -> ConnectionString:
    """The identity's connection string. Raises RegistryError, ValueError."""
    registry = backend.registry
    if registry.get(Identity(device_id)) is None:
        registry.add(Identity(device_id))
    made = registry.add(Identity(device_id, MODULE))
    return ConnectionString(backend.hosts[0], made.identity, made.primary_key)


def _commands(backend: Backend, connection: ConnectionString) -> None:
    about = "As root on the device. The connection string is a secret; it is shown here only."
    host, port = backend.hosts[0], backend.mqtt_port
    with parts.panel("2  Run this on the device", about):
        lines = [
            "pip install vedette",
            "install -d -m 700 /etc/vedette",
            f"(umask 077; printf %s {shlex.quote(connection.format())} > /etc/vedette/connection_string.txt)",
            f"# copy the hub's pki/ca.pem to /etc/vedette/ca.pem; the device must reach {host}:{port}",
            "vedette agent check",
            "vedette agent run" + (f" --port {port}" if port != 8883 else ""),
        ]
        parts.text("\n".join(lines), "code")


def _arrival(backend: Backend, device_id: str) -> None:
    with parts.panel("3  Wait for its first event"):
        with parts.block("row"):
            waiting = ui.spinner(size="20px")
            said = ui.label("Nothing has arrived yet. This page looks every few seconds.")
        done = parts.block("row")

    async def look() -> None:
        question = (
            "SELECT min(TimeGenerated) AS First, count(*) AS Events FROM raw_events"  # noqa: S608
            f" WHERE DeviceId = {quoted(device_id)}"
        )
        rows = await backend.questions.ask(question)
        if rows[0]["Events"]:
            timer.deactivate()
            waiting.delete()
            said.text = f"The first event arrived at {parts.moment(rows[0]['First'])} UTC."
            with done:
                parts.link(f"See {device_id}", parts.device_at(device_id))

    timer = ui.timer(POLL_S, look)
