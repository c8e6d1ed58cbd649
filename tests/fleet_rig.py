"""A fleet on loopback: PostgreSQL, an object store, gateways, a worker, a load balancer, simulated devices.

Each hub process has a state directory of its own, as on a host of its own: settings, the authority and the
registry's key are copied, everything else is shared by PostgreSQL and the object store.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import msgspec

import object_store
from postgres import USER, cluster, connect, programs
from support import VEDETTE, free_port
from vedette.hub.lake import Lake, Limits
from vedette.hub.limits import Limits as ClientLimits
from vedette.hub.registry import Registry
from vedette.hub.settings import HubSettings, HubState
from vedette.hub.tls import ensure_pki
from vedette.wire.events import Event, Process
from vedette.wire.iothub import Identity, encode_properties, make_token, signature, username
from vedette.wire.message import INTERFACE_ID, MTI, Window, pack
from vedette.wire.mqtt import CLIENT, Receiver, encode
from vedette.wire.packets import Connack, Connect, ConnectCode, Packet, Puback, Publish, Subscribe

HOST = "localhost"
BALANCER = "127.0.0.2"
"""An address of this machine that only the load balancer connects from."""

FIRST_ADDRESS = IPv4Address("127.1.0.1")
"""Of the devices: each has one of its own."""

DESIRED = "$iothub/twin/PATCH/properties/desired/#"
READY_S = 120.0
"""Until a process that does not get ready is given up; on a busy machine it takes ten seconds."""

HAPROXY = """
global
    maxconn 4000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout check 5s
    option redispatch
    default-server check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
    default-server send-proxy-v2 check-send-proxy source {balancer}
frontend devices
    bind 127.0.0.1:{mqtt}
    default_backend gateways
frontend people
    bind 127.0.0.1:{https}
    default_backend pages
backend gateways
    balance leastconn
    option httpchk GET /readyz
{gateways}
backend pages
    # A browser stays with one gateway: its pages live there.
    balance source
    option httpchk GET /readyz
{pages}
"""


class Part(NamedTuple):
    """Something that can fail. kill, back: return when it has; vital: without it nothing is acknowledged."""

    name: str
    kill: Callable[[], object]
    back: Callable[[], object]
    vital: bool = False


class Program:
    """A process that can be ended and started again. log: where its words go."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and wait for its end; its status."""
        self._process.send_signal(number)
        return self._process.wait()

    def tail(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text()[-2_000:]


class Hub(Program):
    """One hub process, on ports of its own. `start`, then `wait` until it is ready."""

    def __init__(self, role: str, state: HubState) -> None:
        self.role = role
        self.state = state
        self.mqtt, self.https = free_port(), free_port()
        ports = ["--mqtt-port", str(self.mqtt), "--https-port", str(self.https)]
        command = [*VEDETTE, "hub", "run", "--state", str(state.root), "--role", role, *ports]
        super().__init__(command, state.root / "hub.log")

    def again(self) -> None:
        """Start it, and wait until it is ready."""
        self.start()
        self.wait()

    def wait(self) -> None:
        """Until it says that it can do its work."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.ask("/readyz")
                return
            except (OSError, urllib.error.URLError):
                assert self.runs, f"{self.role} has ended: {self.tail()}"
                assert time.monotonic() < deadline, f"{self.role} does not get ready: {self.tail()}"
                time.sleep(0.2)

    def ask(self, path: str, *, method: str = "GET", body: bytes | None = None, token: str = "") -> bytes:
        """A request to this very process."""
        address = f"https://{HOST}:{self.https}{path}"
        headers = {"Authorization": token, "Content-Type": "application/json"} if token else {}
        request = urllib.request.Request(address, body, headers, method=method)
        with urllib.request.urlopen(request, context=trust(self.state), timeout=30) as answer:
            return bytes(answer.read())

    def connected(self) -> int:
        """How many identities it says are connected to it."""
        lines = self.ask("/metrics").decode().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("vedette_hub_connected ")))


class Fleet:
    """A fleet in a directory. `with` starts and ends it; `say` is told what happens."""

    def __init__(
        self, root: Path, devices: int, *, local: bool = False, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._root = root
        self._count = devices
        self._local = local
        self._say = say
        self._running = ExitStack()
        self.parts: list[Part] = []
        self.mqtt, self.https = free_port(), free_port()
        self.gateways: list[Hub] = []
        self.worker: Hub
        self.devices: list[Device] = []

    def __enter__(self) -> Fleet:
        with self._running:
            self._start()
            self._running = self._running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def hubs(self) -> list[Hub]:
        return [*self.gateways, self.worker]

    @property
    def state(self) -> HubState:
        """One of the state directories: they say the same."""
        return self.worker.state

    def _start(self) -> None:
        settings = HubSettings(
            host_names=(HOST,),
            bind="127.0.0.1",
            registry=self._postgresql(),
            limits=ClientLimits(connect_burst=1_000),
            proxies=(BALANCER,),
            **self._object_store(),
        )
        base = HubState(self._root / "base")
        base.save(settings)
        pki = ensure_pki(base.pki, settings.host_names)
        self._register(base)
        for name in ("gateway-1", "gateway-2", "worker"):
            shutil.copytree(base.root, self._root / name)
            hub = Hub(name.partition("-")[0], HubState(self._root / name))
            if hub.role == "worker":
                self.worker = hub
            else:
                self.gateways.append(hub)
            hub.start()
            self._running.callback(_end, hub)
            self.parts.append(Part(name, partial(hub.end, signal.SIGKILL), hub.again))
        for hub in self.hubs:
            hub.wait()
            ports = f"MQTT {hub.mqtt}, HTTPS {hub.https}" if hub.role == "gateway" else f"HTTPS {hub.https}"
            self._say(f"{hub.state.root.name:<14} pid {hub.pid}, {ports}, log {hub.state.root / 'hub.log'}")
        self._balance(pki.ca)

    def _postgresql(self) -> str:
        found = programs()
        assert found is not None, "no PostgreSQL server here"
        server = self._running.enter_context(cluster(found))
        connection = connect(server.port)
        connection.run("CREATE DATABASE fleet")
        connection.close()
        self._say(f"postgresql     127.0.0.1:{server.port}")
        self.parts.append(Part("postgresql", partial(server.stop, signal.SIGKILL), server.start))
        return f"postgresql://{USER}@127.0.0.1:{server.port}/fleet"

    def _object_store(self) -> dict[str, object]:
        """The settings that say where the lake is."""
        if self._local:
            self._say(f"lake           {self._root / 'lake'}")
            return {"lake": str(self._root / "lake")}
        store = self._running.enter_context(object_store.s3())
        # The emulator keeps all in memory: it can be away, but not killed.
        away, back = partial(store.signal, signal.SIGSTOP), partial(store.signal, signal.SIGCONT)
        self.parts.append(Part("object store", away, back, vital=True))
        self._say(f"object store   {store.options['aws_endpoint_url']}, lake {store.url}")
        return {"lake": store.url, "lake_options": store.options}

    def _register(self, base: HubState) -> None:
        registry = Registry(base.registry_url)
        for number in range(self._count):
            identity = Identity(f"device-{number}")
            key, address = registry.add(identity).primary_key, str(FIRST_ADDRESS + number)
            self.devices.append(Device(identity, key, self.mqtt, trust(base), address))
        policy = registry.policies.get("iothubowner")
        assert policy is not None
        self._policy_key = policy.primary_key
        registry.close()

    def _balance(self, ca: str) -> None:
        def servers(port: Callable[[Hub], int], more: str) -> str:
            check = f"check port {{}} check-ssl verify required ca-file {ca} verifyhost {HOST} {more}"
            return "\n".join(
                f"    server {hub.state.root.name} 127.0.0.1:{port(hub)} {check.format(hub.https)}"
                for hub in self.gateways
            )

        config = self._root / "haproxy.cfg"
        config.write_text(
            HAPROXY.format(
                balancer=BALANCER,
                mqtt=self.mqtt,
                https=self.https,
                gateways=servers(lambda hub: hub.mqtt, ""),
                pages=servers(lambda hub: hub.https, ""),
            )
        )
        program = shutil.which("haproxy") or "/usr/sbin/haproxy"
        balancer = Program([program, "-db", "-f", str(config)], self._root / "haproxy.log")
        balancer.start()
        self._running.callback(balancer.end)
        kill = partial(balancer.end, signal.SIGKILL)
        self.parts.append(Part("load balancer", kill, balancer.start, vital=True))
        self._say(
            f"load balancer  pid {balancer.pid}, MQTT {self.mqtt}, https://{HOST}:{self.https}/console/"
        )

    def token(self) -> str:
        """A service's, that may do everything."""
        resource, expiry = quote(HOST, safe=""), str(int(time.time()) + 3_600)
        signed = quote(signature(self._policy_key, resource, expiry), safe="")
        return f"SharedAccessSignature sr={resource}&sig={signed}&se={expiry}&skn=iothubowner"

    def set_desired(self, hub: Hub, device: Device, value: object) -> None:
        """Set a desired property of a device through one gateway's service port."""
        body = msgspec.json.encode({"properties": {"desired": {"probe": value}}})
        path = f"/twins/{device.identity.device_id}?api-version=2021-04-12"
        hub.ask(path, method="PATCH", body=body, token=self.token())

    def holder(self, device: Device) -> Hub | None:
        """The gateway that the registry says a device is connected to."""
        registry = Registry(self.state.registry_url)
        name = registry.connections.holder(device.identity)
        registry.close()
        return next((hub for hub in self.gateways if name.endswith(f":{hub.https}")), None)

    def stored(self) -> Counter[tuple[str, int]]:
        """(message id, event index) → how often it is in the lake."""
        events = "FROM raw_events WHERE RawEventName = 'Process'"
        text = f"SELECT MessageId, EventIndex, count(*) {events} GROUP BY ALL"
        rows = Lake(self.state.lake).query(text, "sql", limits=Limits(rows=10_000_000)).rows
        return Counter({(str(mid), int(index)): int(count) for mid, index, count in rows})

    def addresses(self) -> set[tuple[str, str]]:
        """Device ids, and the addresses from which the lake says that they connected."""
        connects = "HubOperation | where Operation == 'Connect' and Outcome == 'Accepted'"
        rows = Lake(self.state.lake).query(f"{connects} | distinct DeviceId, RemoteAddress", "kql").rows
        return {(str(device), str(address)) for device, address in rows}


def _end(hub: Hub) -> None:
    if hub.runs:
        hub.end()


def trust(state: HubState) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=state.pki / "ca.pem")


class Device:
    """A simulated device: keeps a window of messages under way, and sends again what was not acknowledged.

    address: where it connects from. acknowledged: ids of its messages that a hub has acknowledged. connects:
    times it was let in. told: when (monotonic) each value of the desired property `probe` came.
    """

    EVENTS = 2
    WINDOW = 5

    def __init__(
        self, identity: Identity, key: str, port: int, context: ssl.SSLContext, address: str = "127.0.0.1"
    ) -> None:
        self.identity = identity
        self.address = address
        self.acknowledged: set[str] = set()
        self.connects = 0
        self.told: dict[object, float] = {}
        self.news = asyncio.Condition()
        self._key = key
        self._port = port
        self._context = context
        self._under_way: dict[int, tuple[str, bytes]] = {}
        self._packet_id = 0
        self._stopping = False

    async def run(self) -> None:
        """Live until `stop`, and until everything is acknowledged."""
        while not (self._stopping and not self._under_way):
            try:
                await self._live()
            except (OSError, EOFError):
                await asyncio.sleep(0.2)  # the balancer takes a moment to notice

    def stop(self) -> None:
        """Send nothing new."""
        self._stopping = True

    async def _live(self) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self._port,
            ssl=self._context,
            server_hostname=HOST,
            local_addr=(self.address, 0),
        )
        try:
            await self._converse(reader, writer)
        finally:
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver = Receiver(CLIENT)
        token = make_token(HOST, self.identity, self._key, now=time.time())
        name = username(HOST, self.identity)
        hello = Connect(self.identity.client_id, name, token.encode(), keep_alive=60, clean_session=False)
        writer.write(encode(hello))
        while not (self._stopping and not self._under_way):
            while (packet := receiver.next_packet()) is None:
                if not (data := await reader.read(65_536)):
                    raise EOFError
                receiver.feed(data)
            for answer in await self._answers(packet):
                writer.write(encode(answer))

    async def _answers(self, packet: Packet) -> list[Packet]:
        match packet:
            case Connack(ConnectCode.ACCEPTED):
                self.connects += 1
                again = [self._publish(number, dup=True) for number in self._under_way]
                return [Subscribe(0xFFFF, ((DESIRED, 0),)), *again, *self._more()]
            case Connack():
                raise EOFError
            case Puback(packet_id):
                self.acknowledged.add(self._under_way.pop(packet_id)[0])
            case Publish(topic, payload) if "/desired/" in topic:
                self.told[msgspec.json.decode(payload).get("probe")] = time.monotonic()
                async with self.news:
                    self.news.notify_all()
        return list(self._more())

    def _more(self) -> list[Packet]:
        """New messages, as many as may be under way."""
        more: list[Packet] = []
        while not self._stopping and len(self._under_way) < self.WINDOW:
            self._packet_id = self._packet_id % 0xFFFE + 1
            self._under_way[self._packet_id] = uuid.uuid4().hex, _body(self.EVENTS)
            more.append(self._publish(self._packet_id))
        return more

    def _publish(self, packet_id: int, *, dup: bool = False) -> Publish:
        mid, body = self._under_way[packet_id]
        bag = encode_properties({"$.mid": mid, "$.ifid": INTERFACE_ID, "mti": MTI}.items())
        return Publish(f"{self.identity.events_topic}{bag}", body, 1, packet_id, dup)

    async def wait_told(self, value: object, since: float) -> float:
        """Until a value of the desired property has come; seconds since a moment."""
        async with self.news:
            await self.news.wait_for(lambda: value in self.told)
        return self.told[value] - since


def _body(count: int) -> bytes:
    now = time.time()
    facts = {"event_type": "EXEC", "process_id": 7, "parent_process_id": 1, "user_id": 0}
    events = [Event(Process(commandline=f"work {n}", **facts), now) for n in range(count)]
    [packed] = pack([(events, Window(now - 60, now))])
    return packed.body
