"""An uplink on one side, the real gateway over TLS on loopback on the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE_S, free_port
from vedette.agent.outbox import Outbox
from vedette.agent.route import Route
from vedette.agent.session import Pace
from vedette.agent.uplink import Uplink
from vedette.hub.gateway import Gateway
from vedette.hub.gateway.secure import device_context
from vedette.hub.intake import Inbound
from vedette.hub.registry import Registry
from vedette.hub.tls import Pki
from vedette.wire.iothub import ConnectionString, Identity
from vedette.wire.message import Packed

QUICK = Pace(first=0.02, ceiling=0.1, refused_first=0.02, refused_ceiling=0.1)
"""Failures are followed by another attempt within moments."""

MODULE = Identity("press-7", "vedette")


class Sink:
    """Takes messages as the lake does: each is durable once `open` is set."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Inbound] = asyncio.Queue()
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0
        self.most_waiting = 0

    async def __call__(self, inbound: Inbound) -> None:
        self.messages.put_nowait(inbound)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1

    async def take(self, count: int) -> list[Inbound]:
        async with asyncio.timeout(PATIENCE_S):
            return [await self.messages.get() for _ in range(count)]


class Hub:
    """A gateway with its registry, which a test may switch off and on again."""

    def __init__(self, pki: Pki, directory: Path) -> None:
        self.pki = pki
        self.port = free_port()
        self.sink = Sink()
        self.registry = Registry(f"sqlite:///{directory}/registry.db")
        self.registry.add(Identity(MODULE.device_id))
        self.key = self.registry.add(MODULE).primary_key
        self.gateway: Gateway | None = None

    async def start(self) -> None:
        self.gateway = Gateway(self.registry, self.sink, host_names=["127.0.0.1"], name="here")
        await self.gateway.start("127.0.0.1", self.port, device_context(self.pki.certificate, self.pki.key))

    async def stop(self) -> None:
        if self.gateway:
            gateway, self.gateway = self.gateway, None
            await gateway.close()

    def cut(self) -> None:
        """End the device's connection without a word, as a broken line does."""
        self.gateway._sessions[MODULE].link.abort("line broken")

    def connection(self, key: str | None = None) -> ConnectionString:
        return ConnectionString("127.0.0.1", MODULE, key or self.key)


class Desires:
    """What the uplink hands on."""

    def __init__(self) -> None:
        self.documents: asyncio.Queue[tuple[dict[str, Any], int]] = asyncio.Queue()

    async def __call__(self, document: dict[str, Any], version: int) -> None:
        self.documents.put_nowait((document, version))

    async def take(self) -> tuple[dict[str, Any], int]:
        async with asyncio.timeout(PATIENCE_S):
            return await self.documents.get()


@contextlib.asynccontextmanager
async def running(uplink: Uplink, drain_s: float = 0.0) -> AsyncIterator[Uplink]:
    """The uplink at work; closed at the end."""
    task = asyncio.create_task(uplink.run())
    try:
        yield uplink
    finally:
        await uplink.close(drain_s)
        await task


def uplink_to(hub: Hub, outbox: Outbox, desires: Desires, **options: Any) -> Uplink:
    way = {key: options.pop(key) for key in Route.__struct_fields__ if key in options}
    way = {"address": "127.0.0.1", "ca_file": Path(hub.pki.ca), "port": hub.port} | way
    connection = options.pop("connection", None) or hub.connection()
    options = {"pace": QUICK} | options
    return Uplink(connection, outbox, on_desired=desires, route=Route(**way), **options)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells of: the state of the registry or of the outbox."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def put(outbox: Outbox, *names: object, size: int = 300) -> None:
    for name in names:
        outbox.put(Packed(f"{name:0>32}", b"x" * size, 2, 5, 1))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The levels of what the agent has logged, in order."""
    return [record.levelname for record in caplog.records if record.name.startswith("vedette.agent")]


def names(messages: list[Inbound]) -> list[str]:
    return [message.properties["$.mid"].lstrip("0") for message in messages]
