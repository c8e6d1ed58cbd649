"""A gateway on loopback, a sink that a test controls, and a client that speaks packets."""

import asyncio
import atexit
import shutil
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from certificates import Pair
from support import PATIENCE_S
from vedette.hub.gateway import Gateway
from vedette.hub.gateway.secure import device_context
from vedette.hub.intake import Inbound
from vedette.hub.introduction import Network, networks
from vedette.hub.limits import Limits
from vedette.hub.registry import Device, Registry
from vedette.hub.tls import Pki, ensure_pki
from vedette.wire.iothub import Identity, make_token, username
from vedette.wire.mqtt import CLIENT, Receiver, encode
from vedette.wire.packets import Connack, Connect, ConnectCode, Packet

HOST = "localhost"
DEVICE = Identity("pump")
MODULE = Identity("pump", "vedette")
ROOMY = Limits(connect_burst=10_000)
"""Property tests connect again and again."""


@cache
def pki() -> Pki:
    """One authority for all tests of a run: RSA keys take their time."""
    directory = Path(tempfile.mkdtemp(prefix="vedette-pki-"))
    atexit.register(shutil.rmtree, directory)
    return ensure_pki(directory, [HOST, "127.0.0.1"])


class Sink:
    """Takes messages. `open` lets them become durable; `error` refuses them."""

    def __init__(self) -> None:
        self.received: list[Inbound] = []
        self.arrival = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def __call__(self, inbound: Inbound) -> None:
        self.received.append(inbound)
        self.arrival.set()
        await self.open.wait()
        if self.error:
            raise self.error

    async def wait(self, count: int) -> None:
        """Until so many messages have come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.received) < count:
                self.arrival.clear()
                await self.arrival.wait()


class Client:
    """The device's end of a connection, packet by packet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._receiver = Receiver(CLIENT)

    def send(self, *packets: Packet) -> None:
        self.writer.write(b"".join(map(encode, packets)))

    async def receive(self) -> Packet | None:
        """The next packet; None when the server has closed."""
        async with asyncio.timeout(PATIENCE_S):
            while (packet := self._receiver.next_packet()) is None:
                try:
                    data = await self._reader.read(65_536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._receiver.feed(data)
            return packet

    async def expect(self, *packets: Packet) -> None:
        """The next packets are these."""
        for packet in packets:
            assert await self.receive() == packet

    async def closed(self) -> bool:
        """True if the server sends nothing more and closes."""
        return await self.receive() is None


class Rig:
    """What `running` yields."""

    def __init__(self, path: Path, limits: Limits = ROOMY, *, url: str = "", name: str = "here") -> None:
        self.limits = limits
        self.url = url or f"sqlite:///{path / 'registry.db'}"
        self.registry = Registry(self.url, path / "registry.key")
        self.sink = Sink()
        self.proxies: Sequence[Network] = ()
        self._name = name
        self.gateway = self._gateway()
        self._clients: list[Client] = []

    def device(self, identity: Identity = MODULE) -> Device:
        found = self.registry.get(identity)
        assert found is not None
        return found

    def hello(self, identity: Identity = MODULE, *, clean: bool = False, **changed: Any) -> Connect:
        """A CONNECT as the SDKs send it; `changed` replaces fields."""
        token = make_token(HOST, identity, self.device(identity).primary_key, now=time.time())
        fields = {
            "client_id": identity.client_id,
            "username": username(HOST, identity),
            "password": token.encode(),
            "keep_alive": 60,
            "clean_session": clean,
        }
        return Connect(**(fields | changed))

    async def client(
        self,
        *shown: Pair,
        path: Path = Path(),
        tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        ciphers: str = "",
    ) -> Client:
        """A TLS connection on which nothing has been said.

        shown: certificates, the client's own first; `path` is where they may be written for that.
        ciphers: suites of TLS 1.2, as OpenSSL names them.
        """
        context = ssl.create_default_context(cafile=pki().ca)
        context.minimum_version = context.maximum_version = tls
        if ciphers:
            context.set_ciphers(ciphers)
        if shown:
            file = path / "client.pem"
            file.write_bytes(b"".join(one.pem for one in shown) + shown[0].key_pem)
            context.load_cert_chain(file)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.gateway.port, ssl=context, server_hostname=HOST
        )
        self._clients.append(client := Client(reader, writer))
        return client

    async def connected(
        self, identity: Identity = MODULE, *, present: bool = False, **changed: Any
    ) -> Client:
        """A client that has been let in."""
        client = await self.client()
        client.send(self.hello(identity, **changed))
        await client.expect(Connack(ConnectCode.ACCEPTED, session_present=present))
        return client

    async def restart(self) -> None:
        """Another gateway on the same registry."""
        await self.gateway.close()
        self.gateway = self._gateway()
        await self.start()

    def _gateway(self) -> Gateway:
        return Gateway(self.registry, self.sink, host_names=[HOST], limits=self.limits, name=self._name)

    async def start(self) -> None:
        context = device_context(pki().certificate, pki().key)
        await self.gateway.start("127.0.0.1", 0, context, self.proxies)

    async def close(self) -> None:
        self.sink.open.set()
        await self.gateway.close()
        for client in self._clients:
            client.writer.transport.abort()
        await asyncio.sleep(0)
        self.registry.close()


@asynccontextmanager
async def running(path: Path, limits: Limits = ROOMY, *proxies: str) -> AsyncIterator[Rig]:
    """A gateway with the device `pump` and its module `vedette`, state under `path`; balancers in front."""
    rig = Rig(path, limits)
    rig.proxies = networks(proxies)
    for identity in (DEVICE, MODULE):
        rig.registry.add(identity)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.close()
