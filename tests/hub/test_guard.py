"""HTTP clients that take their time, or too much, on real sockets; others are served meanwhile."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway_rig import HOST, PATIENCE_S, pki
from service_rig import ServiceRig, serving
from vedette.hub.limits import HttpLimits, Limits

STRICT = HttpLimits(
    handshake_seconds=0.5,
    head_seconds=0.5,
    body_seconds=0.5,
    read_seconds=0.5,
    head_bytes=4_096,
    body_bytes=100_000,
    connections_per_address=3,
)
POST = b"POST /devices/query HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServiceRig]:
    async with serving(tmp_path, Limits(http=STRICT)) as made, asyncio.timeout(PATIENCE_S):
        yield made
        assert (await made.client.get("/healthz")).status_code == 200


async def connect(hub: ServiceRig, *, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=pki().ca) if tls else None
    name = {"ssl": context, "server_hostname": HOST} if tls else {}
    return await asyncio.open_connection("127.0.0.1", hub.https.port, **name)  # type: ignore[arg-type]


async def answer(hub: ServiceRig, *sent: bytes) -> bytes:
    """What comes back until the server closes; nothing more is sent meanwhile."""
    reader, writer = await connect(hub)
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
        return (await reader.read()).partition(b"\r\n")[0]
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", b"GET / HTTP/1.1\r\n", POST + b"x: y"],
    ids=["nothing", "an empty line", "half a head", "half a header"],
)
async def test_a_slow_request_is_ended(hub: ServiceRig, sent: bytes):
    """Wherever it stops."""
    assert await answer(hub, sent) == b"HTTP/1.1 408 Request Timeout"


async def test_a_slow_body_is_ended(hub: ServiceRig):
    """With an answer, unless the application has answered already."""
    half = b"host: x\r\ncontent-length: 10\r\n\r\n{"
    waiting = b"PUT /api/v1/nothing HTTP/1.1\r\n" + half

    async def reads(scope: object, receive: Any, send: object) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    hub.application.mount("/api/v1", reads)
    assert await answer(hub, waiting) == b"HTTP/1.1 408 Request Timeout"
    reader, writer = await connect(hub)
    writer.write(b"POST /devices/query HTTP/1.1\r\n" + half)
    whole = await reader.read()
    assert whole.startswith(b"HTTP/1.1 401")
    assert whole.count(b"HTTP/1.1") == 1
    writer.transport.abort()


async def test_a_second_request_has_the_same_time(hub: ServiceRig):
    """An answered request makes a connection no more patient."""
    reader, writer = await connect(hub)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET /healthz")
    assert b"408 Request Timeout" in await reader.read()
    writer.transport.abort()


async def test_a_handshake_that_does_not_come_is_ended(hub: ServiceRig):
    """Whoever connects and never begins TLS."""
    reader, writer = await connect(hub, tls=False)
    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.transport.abort()


@pytest.mark.parametrize(
    "head",
    [b"x: " + b"y" * 5_000, b"".join(b"x%d: y\r\n" % number for number in range(900)) + b"\r\n"],
    ids=["one header without an end", "many headers"],
)
async def test_a_head_that_is_too_long_is_refused(hub: ServiceRig, head: bytes):
    """Before it is kept."""
    sent = b"GET / HTTP/1.1\r\n" + head
    assert await answer(hub, sent) == b"HTTP/1.1 431 Request Header Fields Too Large"


async def test_a_body_that_is_too_long_is_refused(hub: ServiceRig):
    """Whatever the route would say; announced or not."""
    chunk = b"%x\r\n%b\r\n" % (60_000, b"x" * 60_000)
    sent = b"POST /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    first = await answer(hub, sent, chunk, chunk, chunk)
    assert first in (b"HTTP/1.1 405 Method Not Allowed", b"HTTP/1.1 413 Request Entity Too Large")
    assert hub.https.guard.refused["request entity too large"] == 1


async def test_connections_of_an_address_are_bounded(hub: ServiceRig):
    """One too many is cut; when one goes, there is room again."""
    held = [await connect(hub) for _ in range(3)]
    for _, writer in held:
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    for reader, _ in held:
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    assert await answer(hub, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n") == b""
    assert hub.https.guard.refused["connections of one address"] == 1
    assert hub.https.guard.connections == 3
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    while hub.https.guard.connections:
        await asyncio.sleep(0.01)


async def test_an_answer_that_is_not_read_is_given_up(hub: ServiceRig):
    """Its connection is cut, and nothing waits for it."""

    async def much(scope: object, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            part = {"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True}
            await send(part)
            if hub.https.guard.refused["client does not read"]:
                return

    hub.application.mount("/much", much)
    _, writer = await connect(hub)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /much/ HTTP/1.1\r\nhost: x\r\n\r\n")
    while not hub.https.guard.refused["client does not read"]:
        await asyncio.sleep(0.01)
    writer.transport.abort()
