"""A hub's HTTPS port on loopback beside a gateway, and a service that holds a policy's key."""

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from gateway_rig import HOST, ROOMY, Rig, pki, running
from support import PATIENCE_S
from vedette.hub.api import downlink, iothub, provisioning, service
from vedette.hub.api.access import Access
from vedette.hub.gateway import websocket
from vedette.hub.https import Https
from vedette.hub.limits import Limits
from vedette.wire.iothub import signature


class ServiceRig:
    """What `serving` yields. rig: the gateway's side."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.registry = rig.registry
        self.application = application = service.build(lambda: "")
        self.access = access = Access(rig.registry.policies, [HOST], rig.limits, rig.gateway.operations)
        application.include_router(iothub.router(rig.registry, access))
        application.include_router(downlink.router(rig.registry, rig.gateway, access))
        application.include_router(provisioning.router(rig.registry, HOST, rig.limits))
        application.add_api_websocket_route(websocket.PATH, rig.gateway.serve_websocket)
        self.https = Https(
            application,
            "127.0.0.1",
            0,
            certificate=pki().certificate,
            key=pki().key,
            limits=rig.limits.http,
            proxies=rig.proxies,
        )
        self.client: httpx.AsyncClient

    def connection_string(self, policy: str = "iothubowner") -> str:
        held = self.registry.policies.get(policy)
        assert held is not None
        return (
            f"HostName={HOST}:{self.https.port};SharedAccessKeyName={policy};"
            f"SharedAccessKey={held.primary_key}"
        )

    def token(
        self, policy: str = "iothubowner", *, resource: str = HOST, ttl: float = 60, key: str = ""
    ) -> str:
        held = self.registry.policies.get(policy)
        secret = key or (held.primary_key if held else "")
        expiry = str(int(time.time() + ttl))
        sr = quote(resource, safe="")
        sig = quote(signature(secret, sr, expiry), safe="")
        return f"SharedAccessSignature sr={sr}&sig={sig}&se={expiry}&skn={policy}"

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> httpx.Response:
        """One request as the SDKs make it."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Authorization"] = self.token() if token is None else token
        return await self.client.request(
            method, path, json=body, headers=named, params={"api-version": "2021-04-12"}
        )


@asynccontextmanager
async def serving(path: Path, limits: Limits = ROOMY, *proxies: str) -> AsyncIterator[ServiceRig]:
    """A gateway with the device `pump` and its module `vedette`, and the HTTPS port beside it."""
    async with running(path, limits, *proxies) as rig:
        made = ServiceRig(rig)
        await made.https.start()
        base = f"https://{HOST}:{made.https.port}"
        trust = ssl.create_default_context(cafile=pki().ca)
        try:
            async with httpx.AsyncClient(base_url=base, verify=trust, timeout=PATIENCE_S) as made.client:
                yield made
        finally:
            await made.https.close()
