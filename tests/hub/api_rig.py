"""The hub's own API over a real registry and lake, without a port."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from lake_support import SECURITY, body

from vedette.hub.api import v1
from vedette.hub.api.v1_events import Queries
from vedette.hub.detect.schema import Database
from vedette.hub.intake import Inbound, Intake
from vedette.hub.lake import Lake
from vedette.hub.registry import Registry
from vedette.hub.registry.tokens import Role
from vedette.wire.iothub import Identity


class Rig:
    """What `running` yields: `get` and the like, as a caller of some role."""

    def __init__(self, path: Path, intake: Intake) -> None:
        self.intake = intake
        url = f"sqlite:///{path / 'registry.db'}"
        self.registry, self.database = Registry(url), Database(url)
        self.queries = Queries(Lake(path / "lake"))
        self.tokens = {role: self.registry.tokens.add(role.name.lower(), role)[1] for role in Role}
        self.app = FastAPI()
        api = v1.build(self.registry, self.database, self.queries, intake.tail, "hub.example")
        self.app.mount(v1.PREFIX, api)

    async def ask(
        self, method: str, path: str, role: Role | None = Role.ADMIN, **request: object
    ) -> httpx.Response:
        """One request."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://hub{v1.PREFIX}") as client:
            return await client.request(method, path, headers=headers, **request)  # type: ignore[arg-type]

    async def event(self, command: str, device: str = "pump") -> None:
        """One process event that has just been received."""
        inbound = Inbound(
            Identity(device, "m"), SECURITY | {"$.mid": uuid.uuid4().hex}, body(command), time.time()
        )
        await self.intake.submit(inbound)


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Rig]:
    """The API over an empty hub with one token a role, named like it."""
    intake = Intake(path / "lake")
    await intake.start()
    rig = Rig(path, intake)
    try:
        yield rig
    finally:
        await intake.close()
        rig.queries.close()
        rig.registry.close()
        rig.database.close()
