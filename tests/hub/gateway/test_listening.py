"""Ports behind load balancers that introduce their clients, over sockets and with HAProxy in front."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from websockets.asyncio.client import connect

from fleet_rig import Program
from gateway_rig import HOST, MODULE, PATIENCE_S, Client, pki
from service_rig import ServiceRig, serving
from support import free_port
from vedette.hub.gateway import listening
from vedette.hub.gateway.listening import CROWDED, ENDED, LATE
from vedette.hub.gateway.server import CROWDED as STRANGERS
from vedette.hub.introduction import MALFORMED, MISSING
from vedette.hub.limits import HttpLimits, Limits
from vedette.wire.mqtt import encode
from vedette.wire.packets import Connack, ConnectCode

BALANCER = "127.0.0.2"
"""Another address of this machine: all but it reach the hub directly."""

LIMITS = Limits(strangers_per_address=1, http=HttpLimits(connections_per_address=1))
GET = b"GET /whoami/ HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.9\r\n\r\n"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServiceRig]:
    async with serving(tmp_path, LIMITS, BALANCER) as made, asyncio.timeout(PATIENCE_S):
        made.application.mount("/whoami", whoami)
        yield made


async def whoami(scope: Any, receive: object, send: Any) -> None:
    """Answers with the client's address."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    await send({"type": "http.response.body", "body": f"{scope['client'][0]:<9}".encode()})


def trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=pki().ca)


def introducing(address: str) -> bytes:
    source = ip_address(address).packed
    rest = source + bytes(len(source)) + pack("!HH", 40_000, 8_883)
    return b"\r\n\r\n\0\r\nQUIT\n" + pack("!BBH", 0x21, 0x11 if len(source) == 4 else 0x21, len(rest)) + rest


async def tcp(port: int, said: bytes = b"", source: str = BALANCER) -> tuple[Any, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    writer.write(said)
    return reader, writer


@asynccontextmanager
async def client(port: int, said: bytes = b"", source: str = BALANCER) -> AsyncIterator[Client]:
    """A TLS connection that begins with something else."""
    reader, writer = await tcp(port, said, source)
    try:
        await writer.start_tls(trust(), server_hostname=HOST)
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def asked(port: int, said: bytes = b"", source: str = BALANCER) -> bytes:
    """Who the HTTPS port takes us for; empty if it closes."""
    async with client(port, said, source) as made:
        made.writer.write(GET)
        try:
            await made._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return b""
        return (await made._reader.readexactly(9)).strip()


async def refused(port: int, said: bytes) -> None:
    """Until the hub has closed what began like this."""
    reader, writer = await tcp(port, said)
    try:
        assert await reader.read() == b""
    except ConnectionResetError:
        pass
    finally:
        writer.transport.abort()


def addresses(hub: ServiceRig) -> set[str]:
    return {done.remote_address for (_, done), _ in hub.rig.gateway.operations.take().items()}


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
async def test_a_device_is_known_by_its_own_address(hub: ServiceRig, address: str):
    """On the MQTT port, when the balancer introduces it."""
    async with client(hub.rig.gateway.port, introducing(address)) as device:
        device.send(hub.rig.hello())
        await device.expect(Connack(ConnectCode.ACCEPTED))
    assert addresses(hub) == {address}


async def test_a_person_is_known_by_their_own_address(hub: ServiceRig):
    """On the HTTPS port; what a header of the request says counts for nothing."""
    assert await asked(hub.https.port, introducing("192.0.2.7")) == b"192.0.2.7"
    assert await asked(hub.https.port, introducing("192.0.2.8")) == b"192.0.2.8"
    assert await asked(hub.https.port, source="127.0.0.1") == b"127.0.0.1"


async def test_a_device_by_websocket_is_known_by_its_own_address(hub: ServiceRig):
    """It comes to the HTTPS port."""
    async with client(hub.https.port, introducing("192.0.2.7")) as device:
        key = b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        head = b"GET /$iothub/websocket HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        device.writer.write(head + key + b"sec-websocket-protocol: mqtt\r\n\r\n")
        assert (await device._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        hello = encode(hub.rig.hello())
        mask = bytes(4)
        device.writer.write(b"\x82\xfe" + pack("!H", len(hello)) + mask + hello)
        assert (await device._reader.readexactly(4))[:2] == b"\x82\x04"
    assert addresses(hub) == {"192.0.2.7"}


async def test_tls_may_come_with_the_header(hub: ServiceRig):
    """In one piece, or the header in several: nothing of TLS is lost."""
    for port in (hub.rig.gateway.port, hub.https.port):
        said, heard = ssl.MemoryBIO(), ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            trust().wrap_bio(heard, said, server_hostname=HOST).do_handshake()
        whole = introducing("192.0.2.7") + said.read()
        for cuts in ((), (5,), (12, 16, 20)):
            reader, writer = await tcp(port)
            for start, end in zip((0, *cuts), (*cuts, len(whole)), strict=True):
                writer.write(whole[start:end])
                await writer.drain()
            assert (await reader.readexactly(1)) == b"\x16"
            writer.transport.abort()
            await no_strangers(hub)


async def no_strangers(hub: ServiceRig) -> None:
    while hub.rig.gateway._door._strangers or hub.https.guard.connections:
        await asyncio.sleep(0.01)


async def test_only_a_balancer_is_believed(hub: ServiceRig):
    """Others need no header, and with one they speak no TLS."""
    for port in (hub.rig.gateway.port, hub.https.port):
        async with client(port, source="127.0.0.1"):
            pass
        with pytest.raises(OSError):  # noqa: PT011 - reset or cut off: the system's choice
            async with client(port, introducing("192.0.2.7"), source="127.0.0.1"):
                pass
    assert not hub.https.guard.refused
    assert not hub.rig.gateway.counters.refused


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"\x16\x03\x01" + bytes(20), MISSING), (b"PROXY TCP9 a b c d\r\n", MALFORMED)],
    ids=["none", "malformed"],
)
async def test_a_balancer_that_does_not_introduce_is_refused(hub: ServiceRig, said: bytes, reason: str):
    """It is closed before TLS, and counted on either port; the next is served."""
    await refused(hub.rig.gateway.port, said)
    assert hub.rig.gateway.counters.refused == {reason: 1}
    await refused(hub.https.port, said)
    assert hub.https.guard.refused == {reason: 1}
    assert await asked(hub.https.port, introducing("192.0.2.7")) == b"192.0.2.7"


async def test_a_header_has_to_come_in_time(hub: ServiceRig, monkeypatch: pytest.MonkeyPatch):
    """Whether a part of it came or nothing."""
    monkeypatch.setattr(listening, "INTRODUCTION_S", 0.05)
    await refused(hub.rig.gateway.port, b"")
    await refused(hub.rig.gateway.port, b"PROXY TCP4 192.0.2.7")
    assert hub.rig.gateway.counters.refused == {LATE: 2}


async def test_a_balancer_may_look_whether_the_port_is_open(hub: ServiceRig):
    """One that connects, says nothing and goes is no fault; one that goes amid the header is."""
    for said in (b"", b"PROXY TC"):
        _, writer = await tcp(hub.rig.gateway.port, said)
        writer.close()
        await writer.wait_closed()
    while not hub.rig.gateway.counters.refused:
        await asyncio.sleep(0.01)
    assert hub.rig.gateway.counters.refused == {ENDED: 1}


async def test_connections_without_header_are_bounded(hub: ServiceRig, monkeypatch: pytest.MonkeyPatch):
    """One too many is closed; clients that came directly are served."""
    monkeypatch.setattr(listening, "MAX_WAITING", 1)
    _, writer = await tcp(hub.rig.gateway.port, b"PROXY ")
    while not hub.rig.gateway._server._waiting:  # type: ignore[union-attr]
        await asyncio.sleep(0.01)
    await refused(hub.rig.gateway.port, b"")
    assert hub.rig.gateway.counters.refused == {CROWDED: 1}
    await hub.rig.connected()
    writer.transport.abort()


async def test_limits_hold_for_each_client_behind_a_balancer(hub: ServiceRig):
    """Strangers on the MQTT port, connections on the HTTPS port: another client is another address."""
    port = hub.rig.gateway.port
    async with client(port, introducing("192.0.2.7")), client(port, introducing("192.0.2.8")):
        with pytest.raises(OSError):  # noqa: PT011 - reset or cut off: the system's choice
            async with client(port, introducing("192.0.2.7")):
                pass
    assert hub.rig.gateway.counters.refused == {STRANGERS: 1}
    assert addresses(hub) == {"192.0.2.7"}
    async with client(hub.https.port, introducing("192.0.2.7")) as first:
        first.writer.write(GET)
        await first._reader.readuntil(b"\r\n\r\n")
        assert await asked(hub.https.port, introducing("192.0.2.8")) == b"192.0.2.8"
        assert await asked(hub.https.port, introducing("192.0.2.7")) == b""
    assert hub.https.guard.refused == {"connections of one address": 1}


async def test_a_port_closes_with_connections_that_wait(tmp_path: Path):
    """They are closed too, and nothing listens any more."""
    async with serving(tmp_path, LIMITS, BALANCER) as hub:
        port = hub.rig.gateway.port
        reader, writer = await tcp(port, b"PROXY ")
        while not hub.rig.gateway._server._waiting:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
    assert await reader.read() == b""
    writer.transport.abort()
    with pytest.raises(ConnectionRefusedError):
        await tcp(port)


# With HAProxy


HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    default-server {version} source {balancer}
listen devices
    bind 127.0.0.1:{mqtt}
    server hub 127.0.0.1:{gateway}
listen people
    bind 127.0.0.1:{https}
    server hub 127.0.0.1:{pages}
"""


@contextmanager
def balancing(hub: ServiceRig, path: Path, version: str) -> Iterator[tuple[int, int]]:
    """HAProxy in front of both ports; its own."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("no haproxy here")
    ports = {"mqtt": free_port(), "https": free_port()}
    behind = {"gateway": hub.rig.gateway.port, "pages": hub.https.port}
    config = path / "haproxy.cfg"
    config.write_text(HAPROXY.format(version=version, balancer=BALANCER, **ports, **behind))
    balancer = Program([program, "-db", "-f", str(config)], path / "haproxy.log")
    balancer.start()
    try:
        yield ports["mqtt"], ports["https"]
    finally:
        balancer.end()


async def listens(port: int) -> None:
    while True:
        try:
            _, writer = await tcp(port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
        else:
            writer.transport.abort()
            return


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
async def test_clients_of_haproxy_are_known_by_their_own_addresses(
    hub: ServiceRig, tmp_path: Path, version: str
):
    """By MQTT, by HTTPS, and by WebSocket."""
    with balancing(hub, tmp_path, version) as (mqtt, https):
        await listens(mqtt)
        await no_strangers(hub)
        async with client(mqtt, source="127.0.0.7") as device:
            device.send(hub.rig.hello())
            await device.expect(Connack(ConnectCode.ACCEPTED))
        assert addresses(hub) == {"127.0.0.7"}
        assert await asked(https, source="127.0.0.8") == b"127.0.0.8"
        address = f"wss://{HOST}:{https}/$iothub/websocket"
        one = connect(address, ssl=trust(), subprotocols=["mqtt"], proxy=None, local_addr=("127.0.0.9", 0))
        async with one as socket:
            await socket.send(encode(hub.rig.hello(MODULE)))
            assert await socket.recv() == encode(Connack(ConnectCode.ACCEPTED))
        assert addresses(hub) == {"127.0.0.9"}
