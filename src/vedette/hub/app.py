"""The hub, composed: gateway → intake → lake, with the registry beside them and HTTPS in front.

One process does all of it, or one half: `_serving` is what devices and people reach, and there may be
many of them on one registry and one lake; `_working` looks after the lake and judges what comes into it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import NamedTuple

import uvloop
from fastapi import FastAPI

from vedette.hub import console
from vedette.hub.api import downlink, iothub, metrics, provisioning, service, v1
from vedette.hub.api.access import Access
from vedette.hub.api.v1_events import Queries
from vedette.hub.detect.engine import Detection
from vedette.hub.detect.schema import Database
from vedette.hub.detection import open_detection
from vedette.hub.findings import findings
from vedette.hub.follow import Following
from vedette.hub.gateway import Gateway, websocket
from vedette.hub.gateway.secure import device_context
from vedette.hub.https import Https
from vedette.hub.intake import Intake
from vedette.hub.introduction import networks
from vedette.hub.lake import Lake, Maintenance
from vedette.hub.lake.errors import LakeFault
from vedette.hub.lake.tables import open_tables
from vedette.hub.notify.notifier import Notifier
from vedette.hub.operations import Operations
from vedette.hub.presence import Presence
from vedette.hub.process import allow_sockets, spare_collections
from vedette.hub.recorder import Recorder
from vedette.hub.registry import Registry
from vedette.hub.registry.hubs import Role
from vedette.hub.settings import HubError, HubSettings, HubState, check_port
from vedette.hub.tls import Pki, ensure_pki
from vedette.hub.traces import exported

log = logging.getLogger(__name__)

MAINTENANCE = "maintenance"
"""The lease of whoever maintains the lake."""


class _Hub(NamedTuple):
    """What both halves need."""

    state: HubState
    settings: HubSettings
    pki: Pki
    registry: Registry
    role: Role


class _Work(NamedTuple):
    """The half that looks after what is stored."""

    maintenance: Maintenance
    detection: Detection
    notifier: Notifier

    @property
    def fault(self) -> str:
        """Why it cannot go on at the moment; empty while all is well."""
        return self.maintenance.state.failing or self.detection.state.failing


def run(state: HubState, settings: HubSettings, role: Role = "all") -> None:
    """Run a hub until SIGINT or SIGTERM. Raises HubError if it cannot listen."""
    if role != "worker":
        check_port(settings.bind, settings.mqtt_port, "--mqtt-port")
    check_port(settings.bind, settings.https_port, "--https-port")
    allow_sockets()
    # uvloop's TLS needs a tenth of the memory of asyncio's for each connection.
    uvloop.run(_run(state, settings, role))


async def _run(state: HubState, settings: HubSettings, role: Role) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    try:
        await asyncio.to_thread(open_tables, state.lake)
    except LakeFault as error:
        raise HubError(str(error)) from None
    pki = ensure_pki(state.pki, settings.host_names)
    hub = _Hub(state, settings, pki, Registry(state.registry_url), role)
    async with AsyncExitStack() as parts:  # they end in the reverse order
        parts.callback(hub.registry.close)
        parts.enter_context(exported(settings.traces))
        work = await parts.enter_async_context(_working(hub)) if role != "gateway" else None
        gateway = await parts.enter_async_context(_serving(hub, work)) if role != "worker" else None
        if work and not gateway:
            await parts.enter_async_context(_watched(hub, work))
        name = _name(settings)
        presence = Presence(hub.registry, name, role, gateway.forgotten if gateway else lambda: None)
        await presence.start()
        parts.push_async_callback(presence.close)
        log.info("hub %s (%s) listens: HTTPS %d", name, role, settings.https_port)
        if gateway:
            log.info("devices connect to %s: MQTT %d", settings.bind, settings.mqtt_port)
        spare_collections()
        await stop.wait()
        log.info("hub stops")


def _name(settings: HubSettings) -> str:
    """Tells hub processes on one registry apart, and stays the same over restarts."""
    return f"{socket.gethostname()}:{settings.https_port}"


@asynccontextmanager
async def _ending(*ends: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do all of these at the end, in this order, also when one of them fails: no thread must stay behind."""
    async with AsyncExitStack() as stack:
        for end in reversed(ends):
            stack.push_async_callback(end)
        yield


@asynccontextmanager
async def _working(hub: _Hub) -> AsyncIterator[_Work]:
    """Maintenance and detection by whichever worker holds its lease; notifications by all of them."""
    maintenance = Maintenance(
        hub.state.lake,
        retention_days=hub.settings.retention_days,
        retention=hub.settings.retention,
        lease=hub.registry.lease(MAINTENANCE),
    )
    notifier = Notifier(lambda: Database(hub.state.registry_url))
    work = _Work(maintenance, open_detection(hub.state), notifier)
    await work.maintenance.start()
    await work.detection.start()
    await work.notifier.start()
    async with _ending(work.detection.close, work.notifier.close, work.maintenance.close):
        yield work


@asynccontextmanager
async def _serving(hub: _Hub, work: _Work | None) -> AsyncIterator[Gateway]:
    """The gateway with its intake, and the HTTPS port."""
    state, settings, pki, registry, role = hub
    intake = Intake(state.lake)
    operations = Operations()
    recorder = Recorder(operations, intake.submit)
    following = Following(state.lake, intake.tail)
    gateway = Gateway(
        registry,
        intake.submit,
        host_names=settings.host_names,
        name=_name(settings),
        limits=settings.limits,
        operations=operations,
    )
    await intake.start()
    await recorder.start()
    await following.start()
    context = device_context(pki.certificate, pki.key)
    await gateway.start(settings.bind, settings.mqtt_port, context, networks(settings.proxies))
    application = service.build(lambda: intake.fault, role)
    access = Access(registry.policies, settings.host_names, settings.limits, operations)
    application.include_router(iothub.router(registry, access))
    application.include_router(downlink.router(registry, gateway, access))
    application.include_router(provisioning.router(registry, settings.host_names[0], settings.limits))
    application.add_api_websocket_route(websocket.PATH, gateway.serve_websocket)
    application.include_router(metrics.router(gateway, intake, *(work or ()), access=access))
    pages = console.open_backend(state, settings, registry)
    queries = Queries(Lake(state.lake, findings(pages.database)))
    api = v1.build(registry, pages.database, queries, intake.tail, settings.host_names[0])
    application.mount(v1.PREFIX, api)
    console.mount(application, pages)  # the last: whatever is below its path is its own
    https = _https(hub, application)
    await https.start()
    # Stop order: no new messages, then acknowledge what the lake takes, then who only reads it.
    ends = gateway.close, recorder.close, following.close, intake.close, https.close
    with closing(pages), closing(queries):
        async with _ending(*ends):
            yield gateway


def _https(hub: _Hub, application: FastAPI) -> Https:
    settings, pki = hub.settings, hub.pki
    return Https(
        application,
        settings.bind,
        settings.https_port,
        certificate=pki.certificate,
        key=pki.key,
        limits=settings.limits.http,
        proxies=networks(settings.proxies),
    )


@asynccontextmanager
async def _watched(hub: _Hub, work: _Work) -> AsyncIterator[None]:
    """The HTTPS port of a worker: how it is, and nothing else."""
    application = service.build(lambda: work.fault, hub.role)
    application.include_router(metrics.router(None, None, *work))
    https = _https(hub, application)
    await https.start()
    yield
    await https.close()
