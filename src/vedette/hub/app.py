"""The hub, composed: gateway → intake → lake, with the registry beside them and HTTPS in front."""

from __future__ import annotations

import asyncio
import logging
import signal

import uvloop

from vedette.hub import console
from vedette.hub.api import downlink, iothub, metrics, provisioning, service, v1
from vedette.hub.api.access import Access
from vedette.hub.api.v1_events import Queries
from vedette.hub.detect.schema import Database
from vedette.hub.detection import open_detection
from vedette.hub.findings import findings
from vedette.hub.gateway import Gateway, websocket
from vedette.hub.gateway.secure import device_context
from vedette.hub.https import Https
from vedette.hub.intake import Intake
from vedette.hub.lake import Lake, Maintenance
from vedette.hub.notify.notifier import Notifier
from vedette.hub.operations import Operations
from vedette.hub.recorder import Recorder
from vedette.hub.registry import Registry
from vedette.hub.settings import HubSettings, HubState, check_port
from vedette.hub.tls import ensure_pki

log = logging.getLogger(__name__)


def run(state: HubState, settings: HubSettings) -> None:
    """Run a hub until SIGINT or SIGTERM. Raises HubError if it cannot listen."""
    check_port(settings.bind, settings.mqtt_port, "--mqtt-port")
    check_port(settings.bind, settings.https_port, "--https-port")
    # uvloop's TLS needs a tenth of the memory of asyncio's for each connection.
    uvloop.run(_run(state, settings))


async def _run(state: HubState, settings: HubSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    pki = ensure_pki(state.pki, settings.host_names)
    registry = Registry(state.registry_url)
    intake = Intake(state.lake)
    operations = Operations()
    recorder = Recorder(operations, intake.submit)
    gateway = Gateway(
        registry,
        intake.submit,
        host_names=settings.host_names,
        limits=settings.limits,
        operations=operations,
    )
    maintenance = Maintenance(state.lake, retention_days=settings.retention_days)
    detection = open_detection(state)
    notifier = Notifier(lambda: Database(state.registry_url))

    await intake.start()
    await maintenance.start()
    await detection.start()
    await notifier.start()
    await recorder.start()
    await gateway.start(settings.bind, settings.mqtt_port, device_context(pki.certificate, pki.key))
    application = service.build(lambda: intake.fault)
    access = Access(registry.policies, settings.host_names, settings.limits, operations)
    application.include_router(iothub.router(registry, access))
    application.include_router(downlink.router(registry, gateway, access))
    application.include_router(provisioning.router(registry, settings.host_names[0]))
    application.add_api_websocket_route(websocket.PATH, gateway.serve_websocket)
    application.include_router(metrics.router(gateway, intake))
    pages = console.open_backend(state, settings, registry)
    queries = Queries(Lake(state.lake, findings(pages.database)))
    application.mount(v1.PREFIX, v1.build(registry, queries, intake.tail, settings.host_names[0]))
    console.mount(application, pages)  # the last: whatever is below its path is its own
    https = Https(application, settings.bind, settings.https_port, certificate=pki.certificate, key=pki.key)
    await https.start()
    log.info("hub listens on %s: MQTT %d, HTTPS %d", settings.bind, settings.mqtt_port, settings.https_port)
    await stop.wait()
    # Stop order: no new messages, then acknowledge what the lake takes, then the lake itself.
    log.info("hub stops")
    await gateway.close()
    await recorder.close()
    await intake.close()
    await detection.close()
    await notifier.close()
    await maintenance.close()
    await https.close()
    queries.close()
    pages.close()
    registry.close()
