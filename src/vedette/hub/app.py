"""The hub, composed: gateway → intake → lake, with the registry beside them and HTTPS in front."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop

from vedette.hub.api import service
from vedette.hub.gateway import Gateway
from vedette.hub.intake import Intake
from vedette.hub.lake import Maintenance
from vedette.hub.registry import Registry
from vedette.hub.settings import HubSettings, HubState, check_port
from vedette.hub.tls import ensure_pki, server_context

log = logging.getLogger(__name__)

HTTPS_CLOSE_S = 3
"""How long open requests may take to finish when the hub stops."""


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
    gateway = Gateway(registry, intake.submit, host_names=settings.host_names)
    maintenance = Maintenance(state.lake, retention_days=settings.retention_days)

    await intake.start()
    await maintenance.start()
    await gateway.start(settings.bind, settings.mqtt_port, server_context(pki.certificate, pki.key))
    https = _Https(settings, pki.certificate, pki.key, intake)
    serving = asyncio.create_task(https.serve())
    log.info("hub listens on %s: MQTT %d, HTTPS %d", settings.bind, settings.mqtt_port, settings.https_port)
    await stop.wait()
    # Stop order: no new messages, then acknowledge what the lake takes, then the lake itself.
    log.info("hub stops")
    await gateway.close()
    await intake.close()
    await maintenance.close()
    https.should_exit = True
    await serving
    registry.close()


class _Https(uvicorn.Server):
    """uvicorn inside our loop, without its signal handlers."""

    def __init__(self, settings: HubSettings, certificate: str, key: str, intake: Intake) -> None:
        super().__init__(
            uvicorn.Config(
                service.build(lambda: intake.fault),
                host=settings.bind,
                port=settings.https_port,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                ssl_version=ssl.PROTOCOL_TLS_SERVER,
                timeout_graceful_shutdown=HTTPS_CLOSE_S,
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The hub has its own handlers."""
        yield
