"""The ways to a hub, for real: WebSocket, an HTTP proxy that wants credentials, a client certificate.

The WebSocket server and the proxy are other people's; behind them stands the real gateway.
"""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from support import PATIENCE_S, free_port
from vedette.agent.link import Ended, Link
from vedette.agent.route import Proxy, Route
from vedette.agent.settings import LocalError, load_local, write_private
from vedette.hub.gateway import Gateway
from vedette.hub.gateway.secure import device_context
from vedette.hub.intake import Inbound
from vedette.hub.registry import Registry
from vedette.hub.tls import Pki, ensure_pki, server_context
from vedette.wire.iothub import Identity, make_token, username

MODULE = Identity("press-7", "vedette")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("pki"), ["127.0.0.1"])


class Hub:
    """A gateway that collects what it is sent."""

    def __init__(self, pki: Pki, directory: Path) -> None:
        self.port = free_port()
        self.ca = Path(pki.ca)
        self.context = server_context(pki.certificate, pki.key)
        self.messages: asyncio.Queue[Inbound] = asyncio.Queue()
        self.registry = Registry(f"sqlite:///{directory}/registry.db")
        self.registry.add(Identity(MODULE.device_id))
        self.key = self.registry.add(MODULE).primary_key
        self.gateway = Gateway(self.registry, self.messages.put, host_names=["127.0.0.1"], name="here")

    async def sends(self, route: Route) -> Inbound:
        """Connect by a route, send one message, and return what arrived."""
        link = Link(MODULE.client_id, stirred=lambda: None, received=lambda topic, body: None)
        token = make_token("127.0.0.1", MODULE, self.key, now=time.time())
        try:
            await link.open(route, user=username("127.0.0.1", MODULE), password=token)
            link.publish(MODULE.events_topic + "a=b", b"body" * 20_000, qos=1)
            async with asyncio.timeout(PATIENCE_S):
                return await self.messages.get()
        finally:
            await link.close()


@pytest.fixture
async def hub(pki: Pki, tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(pki, tmp_path)
    await hub.gateway.start("127.0.0.1", hub.port, device_context(pki.certificate, pki.key))
    yield hub
    await hub.gateway.close()
    hub.registry.close()


@contextlib.asynccontextmanager
async def websocket_front(hub: Hub, **options: Any) -> AsyncIterator[int]:
    """Another's WebSocket server before the gateway: messages to it, pieces from it. Yields the port."""

    async def join(outside: ServerConnection) -> None:
        context = ssl.create_default_context(cafile=hub.ca)
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, ssl=context)

        async def back() -> None:
            while data := await reader.read(1_000):
                await outside.send(data)

        returning = asyncio.create_task(back())
        async for message in outside:
            assert isinstance(message, bytes)
            writer.write(message)
        returning.cancel()
        writer.close()

    port = free_port()
    async with serve(
        join, "127.0.0.1", port, ssl=hub.context, subprotocols=["mqtt"], compression=None, **options
    ):
        yield port


async def test_a_message_travels_in_websocket_frames(hub: Hub):
    """Connection, subscription and an acknowledged message of 80 kB."""
    async with websocket_front(hub) as port:
        route = Route(address="127.0.0.1", port=port, ca_file=hub.ca, websocket=True)
        assert len((await hub.sends(route)).body) == 80_000


async def test_a_refused_websocket_says_its_status(hub: Hub):
    """An ordinary web server on the port, or another path."""

    def refuse(connection: ServerConnection, _request: Any) -> Any:
        return connection.respond(404, "not here")

    async with websocket_front(hub, process_request=refuse) as port:
        with pytest.raises(Ended, match="refused with status 404"):
            await hub.sends(Route(address="127.0.0.1", port=port, ca_file=hub.ca, websocket=True))


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """A real proxy that wants a user and a password."""
    if not (program := shutil.which("tinyproxy")):
        pytest.skip("needs tinyproxy")
    port = free_port()
    configuration = tmp_path / "tinyproxy.conf"
    configuration.write_text(
        f"Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 9\nBasicAuth pump s3cret\n"
        f'LogFile "{tmp_path}/proxy.log"\n'
    )
    with subprocess.Popen([program, "-d", "-c", configuration], stdout=subprocess.DEVNULL) as running:
        while "Accepting connections" not in (
            log.read_text() if (log := tmp_path / "proxy.log").exists() else ""
        ):
            assert running.poll() is None
        yield Proxy("127.0.0.1", port, "pump", "s3cret")
        running.terminate()


@pytest.mark.parametrize("websocket", [False, True])
async def test_a_proxy_with_credentials_is_passed(hub: Hub, proxy: Proxy, websocket: bool, tmp_path: Path):
    """TLS is with the hub, not with the proxy; the proxy's log shows that it went through it."""
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(websocket_front(hub)) if websocket else hub.port
        route = Route(address="127.0.0.1", port=port, ca_file=hub.ca, proxy=proxy, websocket=websocket)
        assert len((await hub.sends(route)).body) == 80_000
    assert f"CONNECT 127.0.0.1:{port}" in (tmp_path / "proxy.log").read_text()


async def test_a_proxy_that_refuses_us_is_named_without_its_credentials(hub: Hub, proxy: Proxy):
    """The reason names proxy, status and setting."""
    wrong = Proxy(proxy.host, proxy.port, "pump", "hunter2")
    with pytest.raises(Ended, match=r"proxy 127.0.0.1:\d+: status 40[17]") as caught:
        await hub.sends(Route(address="127.0.0.1", port=hub.port, ca_file=hub.ca, proxy=wrong))
    assert caught.value.kind == "unreachable"
    assert "hunter2" not in str(caught.value)


async def test_a_proxy_that_is_not_there_is_named(hub: Hub):
    """Not the hub is unreachable, but what stands before it."""
    route = Route(address="127.0.0.1", port=hub.port, ca_file=hub.ca, proxy=Proxy("127.0.0.1", free_port()))
    with pytest.raises(Ended, match=r"proxy 127.0.0.1:\d+: Connection refused"):
        await hub.sends(route)


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nmore", b"x" * 9_000])
async def test_what_is_no_proxy_is_told_so(hub: Hub, reply: bytes):
    """Another server at the address: no hang, no guess."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Ended, match="no answer that HTTP knows"):
        await hub.sends(
            Route(address="127.0.0.1", port=hub.port, ca_file=hub.ca, proxy=Proxy("127.0.0.1", port))
        )
    server.close()


async def test_a_name_that_does_not_exist_is_a_failed_lookup():
    """Not a number of the resolver's own."""
    link = Link("d", stirred=lambda: None, received=lambda topic, body: None)
    with pytest.raises(Ended, match="name lookup"):
        await link.open(Route(address="no-such-host.invalid"), user="u", password="p")


def self_signed(directory: Path, name: str) -> None:
    """A key and a certificate for it, in the micro agent's two files."""
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-keyout", directory / "certificate_private.pem", "-out", directory / "certificate_public.pem"),
            *("-days", "2", "-subj", f"/CN={name}"),
        ],
        check=True,
        capture_output=True,
    )


async def test_a_certificate_proves_who_connects(pki: Pki, tmp_path: Path):
    """The peer gets the certificate in the handshake, and a CONNECT without a password."""
    self_signed(tmp_path, "press-7")
    context = server_context(pki.certificate, pki.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(tmp_path / "certificate_public.pem")
    met: asyncio.Queue[tuple[Any, bytes]] = asyncio.Queue()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.put_nowait((writer.get_extra_info("peercert"), await reader.read(1_000)))
        writer.write(b"\x20\x02\x00\x00")
        await reader.read(1_000)
        writer.close()

    server = await asyncio.start_server(peer, "127.0.0.1", 0, ssl=context)
    write_private(
        tmp_path / "connection_string.txt", b"HostName=127.0.0.1;DeviceId=press-7;ModuleId=vedette;x509=true"
    )
    port = server.sockets[0].getsockname()[1]
    local = load_local(tmp_path, tmp_path / "state", ca_file=Path(pki.ca), port=port)
    link = Link(MODULE.client_id, stirred=lambda: None, received=lambda topic, body: None)
    await link.open(local.route, user=username("127.0.0.1", MODULE), password=None)
    certificate, connect = await met.get()
    assert ((("commonName", "press-7"),)) in certificate["subject"]
    assert b"\x00\x04MQTT\x04\x80" in connect
    await link.close()
    server.close()


# What the local files say


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_private(tmp_path / "connection_string.txt", b"HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0")
    return tmp_path


def test_the_micro_agents_conf_json_is_understood(config: Path):
    """Proxy with credentials and WebSocket; keys of other parts of that agent are left alone."""
    (config / "conf.json").write_text(
        '{"IothubModule_ProxyConfig": "10.0.0.1,3128,me,pass,word", "CollectorsCore_X": 1,'
        ' "IothubModule_TransportProtocol": "MQTT_WebSocket_Protocol"}'
    )
    route = load_local(config, config / "state").route
    assert route == Route(
        address="h", port=443, websocket=True, proxy=Proxy("10.0.0.1", 3128, "me", "pass,word")
    )
    assert "pass" not in repr(route)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "Expected `object`"),
        ('{"IothubModule_ProxyConfig": 7}', "Expected `str`"),
        ('{"IothubModule_ProxyConfig": "10.0.0.1"}', "not address,port"),
        ('{"IothubModule_ProxyConfig": "10.0.0.1,x"}', "not address,port"),
        ('{"IothubModule_ProxyConfig": "10.0.0.1,70000"}', "not address,port"),
        ('{"IothubModule_ProxyConfig": "10.0.0.1,1,hunter2"}', "a user without a password"),
        ('{"IothubModule_ProxyConfig": "10.0.0.1,1,me\\r\\nX: y,hunter2"}', "not printable"),
        ('{"IothubModule_TransportProtocol": "AMQP_Protocol"}', "none of MQTT_Protocol"),
    ],
)
def test_a_wrong_conf_json_is_named_with_its_fault_and_without_its_secret(
    config: Path, text: str, reason: str
):
    """An agent that cannot be reached any more must say why before it is too late."""
    (config / "conf.json").write_text(text)
    with pytest.raises(LocalError, match=reason) as caught:
        load_local(config, config / "state")
    assert "conf.json" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_missing_certificate_is_named(config: Path):
    """`x509=true` alone is no identity."""
    write_private(config / "connection_string.txt", b"HostName=h;DeviceId=d;x509=true")
    with pytest.raises(LocalError, match=r"certificate_public\.pem"):
        load_local(config, config / "state")
