"""The official device SDK behind a balancer that sends it from one gateway to another, on one registry."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sdk_client import PATIENCE_S, sdk_client

from gateway_rig import DEVICE, HOST, Rig
from vedette.wire.iothub import ConnectionString


class Balancer:
    """Passes bytes on to whatever port `target` is, one connection after the other."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def move(self, target: int) -> None:
        """Cut what there is; who comes again goes there."""
        self.target = target
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        self._server.close()
        self.move(0)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers += [writer, here]
        await asyncio.gather(_pass(reader, here), _pass(there, writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
    except ConnectionError:
        pass  # the other side is cut, too
    writer.transport.abort()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Rig, Rig]]:
    rigs = Rig(tmp_path, name="west"), Rig(tmp_path, name="east")
    rigs[0].registry.add(DEVICE)
    for rig in rigs:
        await rig.start()
    yield rigs
    for rig in rigs:
        await rig.close()


@pytest.fixture
async def balancer(pair: tuple[Rig, Rig]) -> AsyncIterator[Balancer]:
    made = Balancer(pair[0].gateway.port)
    await made.start()
    yield made
    await made.close()


async def test_a_device_is_moved_and_everything_finds_it(
    pair: tuple[Rig, Rig], balancer: Balancer, sdk_python: Path
):
    """It does not subscribe again, and hears desired changes, methods and messages of the first gateway."""
    west, east = pair
    connection = ConnectionString(HOST, DEVICE, west.device(DEVICE).primary_key).format()
    async with sdk_client(sdk_python, connection, balancer.port) as sdk:
        for subscribe in ("listen", "serve methods", "hear messages"):
            assert "error" not in await sdk.do(subscribe)
        assert west.registry.connections.holder(DEVICE) == "west"

        balancer.move(east.gateway.port)
        assert "error" not in await sdk.do("send", "hello", {}, "id/1")
        # Once, or twice: the SDK and the MQTT client in it both repeat what the move cut off.
        assert {(said.properties["$.mid"], said.body) for said in east.sink.received} == {("id/1", b"hello")}
        assert west.registry.connections.holder(DEVICE) == "east"

        west.registry.patch_desired(DEVICE, {"a": 1})
        assert (await sdk.event("desired"))["patch"] == {"a": 1, "$version": 2}
        answer = await west.gateway.call(DEVICE, "restart", b'{"now":true}', timeout=PATIENCE_S)
        assert (answer.status, bytes(answer.payload)) == (201, b'{"now": true}')
        west.registry.messages.put(DEVICE.device_id, {"$.mid": "m1"}, b"news")
        assert (await sdk.event("message"))["body"] == "news"
        assert "error" not in await sdk.do("shutdown")
