"""The network collector on the real kernel: flows with owner and name, devices that come and go, settings."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from netrig import FAR, FAR6, NEAR, Peer, activity, echo, ip
from spawning import needs_bpf, needs_root

from support import PATIENCE_S
from vedette.agent.collectors.dns import DnsCollector
from vedette.agent.collectors.network import CAPTURE, EBPF, LADDER, SOCK_DIAG, NetworkCollector
from vedette.agent.losses import CACHE_FULL
from vedette.agent.sources import Unavailable, bpf
from vedette.agent.sources.flow_bpf import FlowCounter
from vedette.wire.events import DNS
from vedette.wire.twin import Settings

pytestmark = [*needs_bpf, pytest.mark.usefixtures("network_namespace")]

ROADS = {
    "tcx": {EBPF: lambda settings, told: FlowCounter(told)},
    "packet socket": {EBPF: lambda settings, told: FlowCounter(told, tcx=False)},
    "capture": {CAPTURE: LADDER[CAPTURE]},
}
EVERY_ROAD = pytest.mark.parametrize("road", ROADS)


def settings(cache: int = 4096, overflow: str = "drop-oldest", devices: str = "auto") -> Settings:
    return msgspec.convert(
        {
            "NetworkActivity_CacheSize": cache,
            "NetworkActivity_OverflowPolicy": overflow,
            "NetworkActivity_Devices": devices,
        },
        Settings,
    )


@pytest.fixture
def peer():
    with Peer() as peer:
        yield peer


@pytest.fixture
async def collector(peer: Peer) -> AsyncIterator[NetworkCollector]:
    collector = NetworkCollector()
    await collector.start(settings())
    yield collector
    await collector.stop()


def send(count: int = 1, port: int = 9, host: str = FAR) -> None:
    """Send datagrams to the peer, from a port that does not change."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
        near.bind((NEAR, 20_000 + port))
        for _ in range(count):
            near.sendto(b"x", (host, port))


SERVER = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
print(server.getsockname()[1], flush=True)
connection, _ = server.accept()
if sys.argv[2] == "close":
    server.close()
connection.sendall(b"welcome")
connection.recv(100)
"""

CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as far:
    far.recv(100)
    print("connected", flush=True)
    sys.stdin.readline()
"""


class TestOwners:
    async def test_an_outgoing_connection_has_its_process(self, collector: NetworkCollector, peer: Peer):
        """Process, user and command line of who opened the socket."""
        server = await peer.serve(SERVER, 0, "stay")
        port = int(server.first_line)
        command = ("/usr/bin/python3", "-S", "-c", CLIENT, FAR, str(port))
        client = await asyncio.create_subprocess_exec(
            *("setpriv", "--reuid=65534", "--clear-groups", *command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert client.stdout
        assert await client.stdout.readline() == b"connected\n"
        ((flow, _hits),) = activity((await collector.collect()).events, remote_port=port)
        await client.communicate(b"\n")
        await server.wait()
        assert (flow.process_id, flow.user_id) == (client.pid, 65534)
        assert flow.commandline.endswith(f"{FAR} {port}")

    @pytest.mark.parametrize("listener", ["stay", "close"])
    async def test_an_accepted_connection_has_its_listener(
        self, collector: NetworkCollector, peer: Peer, listener: str
    ):
        """The process that listened, even if it listens no more when the report is made."""
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-c", SERVER, "0", listener), stdout=subprocess.PIPE
        )
        assert server.stdout
        port = int(await server.stdout.readline())
        await peer.python(CLIENT, NEAR, port)
        await server.wait()
        ((flow, _hits),) = activity((await collector.collect()).events, local_port=port)
        assert (flow.process_id, flow.user_id) == (server.pid, 0)
        assert flow.commandline.startswith(f"{sys.executable} -S -c")  # though it has ended
        assert "import socket, sys" in flow.commandline

    async def test_an_owner_stays_with_a_connection_from_cycle_to_cycle(
        self, collector: NetworkCollector, peer: Peer
    ):
        """An accepted connection that goes on is still the listener's in the next report."""
        with socket.create_server((NEAR, 0)) as server:
            port = server.getsockname()[1]
            client = await peer.serve(CHATTER, NEAR, port)
            connection, _ = server.accept()
        for word in (b"one", b"two"):
            client.stdin.write(word + b"\n")
            await client.stdin.drain()
            with connection.dup() as copy:
                assert copy.recv(10) == word
                copy.sendall(b"ok")
            assert (await client.stdout.readline()) == b"ok\n"
            ((flow, _),) = activity((await collector.collect()).events, local_port=port)
            assert (flow.process_id, flow.user_id) == (os.getpid(), 0)
        connection.close()
        await client.communicate(b"")

    async def test_datagrams_have_the_process_that_sends_them(self, collector: NetworkCollector):
        """A UDP socket's maker, too."""
        send(3)
        ((flow, hits),) = activity((await collector.collect()).events, remote_port=9, protocol="UDP")
        assert (flow.process_id, hits) == (os.getpid(), 3)

    async def test_what_nobody_knows_is_null(self, collector: NetworkCollector, peer: Peer):
        """A packet to a closed port has no owner, and none is made up."""
        await peer.python(KNOCK, NEAR, 4321)
        ((flow, _),) = activity((await collector.collect()).events, local_port=4321)
        assert (flow.process_id, flow.user_id, flow.commandline) == (None, None, "")

    @pytest.mark.parametrize("road", ["packet socket", "capture"])
    async def test_open_sockets_are_found_without_the_kernel_telling(self, peer: Peer, road: str):
        """sock_diag and /proc tell whose a connection is, outgoing or accepted, while it is open."""
        collector = NetworkCollector(ladder=ROADS[road])
        await collector.start(settings())
        with socket.create_server((NEAR, 0)) as server:
            client = await peer.serve(CHATTER, NEAR, server.getsockname()[1])
            accepted, _ = server.accept()
            far = await peer.serve(SERVER, 0, "stay")
            outgoing = socket.create_connection((FAR, int(far.first_line)))
            with accepted, outgoing:
                assert outgoing.recv(10) == b"welcome"
                here = accepted.getsockname()[1]
                events = (await collector.collect()).events
        for wanted in ({"local_port": here}, {"remote_port": int(far.first_line)}):
            ((flow, _),) = activity(events, protocol="TCP", **wanted)
            assert (flow.process_id, flow.user_id) == (os.getpid(), 0)
            assert flow.commandline
        await client.communicate(b"")
        await far.wait()
        await collector.stop()

    async def test_a_socket_older_than_the_agent_is_found(self, peer: Peer):
        """It was made before anybody watched; it is open, and so it can be asked for."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old:
            old.connect((FAR, 9))
            collector = NetworkCollector()
            await collector.start(settings())
            old.send(b"x")
            ((flow, _),) = activity((await collector.collect()).events, remote_port=9)
            await collector.stop()
        assert flow.process_id == os.getpid()


CHATTER = """
import socket, sys
near = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(flush=True)
for line in sys.stdin:
    near.sendall(line.strip().encode())
    print(near.recv(100).decode(), flush=True)
"""

KNOCK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])))
except ConnectionRefusedError:
    pass
"""


DNS_SERVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("10.77.0.2", 53))
print(flush=True)
while True:
    question, client = server.recvfrom(512)
    name_end = question.index(b"\\0", 12)
    record = bytes.fromhex("c00c000100010000003c00040a4d0002")
    header = question[:2] + bytes.fromhex("81800001000100000000")
    server.sendto(header + question[12 : name_end + 5] + record, client)
"""


def ask(name: str) -> None:
    """Ask the peer's DNS server for an address, as a resolver does."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
        near.settimeout(PATIENCE_S)
        near.connect((FAR, 53))
        near.send(question)
        assert near.recv(512)[:2] == b"\x12\x34"


class TestNames:
    @EVERY_ROAD
    async def test_answers_are_events_and_name_later_flows(self, peer: Peer, road: str):
        """Three questions for one name are one event; a flow to its address has the name."""
        dns = DnsCollector()
        collector = NetworkCollector(dns.answered, ladder=ROADS[road])
        await dns.start(settings())
        await collector.start(settings())
        server = await peer.serve(DNS_SERVER)
        for _ in range(3):
            ask("SenSor.Example.test")
        ask("other.example.test")
        send(1, port=99)
        events = (await collector.collect()).events
        named = (await dns.collect()).events
        server.kill()
        await server.wait()
        await collector.stop()
        await dns.stop()
        assert [(event.payload, event.hits) for event in named] == [
            (dns_event("sensor.example.test"), 3),
            (dns_event("other.example.test"), 1),
        ]
        ((flow, _),) = activity(events, remote_port=99)
        assert flow.extended_properties.host_name == "other.example.test"
        assert {flow.application_protocol for flow, _ in activity(events, remote_port=53)} == {"DNS"}

    @EVERY_ROAD
    async def test_the_server_name_of_a_client_hello(self, peer: Peer, road: str):
        """What the client asks for in TLS, and that TLS is spoken, whatever the port."""
        collector = NetworkCollector(ladder=ROADS[road])
        await collector.start(settings())
        sink = await peer.serve(SERVER, 0, "stay")
        with socket.create_connection((FAR, int(sink.first_line))) as near:
            assert near.recv(10) == b"welcome"
            near.sendall(client_hello("secret-service.example.com"))
        await sink.wait()
        ((flow, _),) = activity((await collector.collect()).events, remote_port=int(sink.first_line))
        await collector.stop()
        assert flow.extended_properties.tls_server_name == "secret-service.example.com"
        assert flow.application_protocol == "TLS"

    async def test_first_bytes_come_before_ports(self, collector: NetworkCollector, peer: Peer):
        """SSH on the port of HTTPS is SSH; noise on it is nothing; silence is what the port says."""
        for payload in (b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00\x01noise!", b""):
            with socket.socket() as near:
                sink = await peer.serve(SERVER, 443, "stay")
                near.connect((FAR, 443))
                near.recv(10) if not payload else near.sendall(payload)
                port = near.getsockname()[1]
            await sink.wait()
            ((flow, _),) = activity((await collector.collect()).events, local_port=port)
            expected = "SSH" if payload.startswith(b"SSH") else ""
            assert flow.application_protocol == expected


def dns_event(name: str) -> DNS:
    return DNS(
        query_name=name, query_type="A", response_code="NOERROR", responding_server=FAR, answers=(FAR,)
    )


def client_hello(name: str) -> bytes:
    """The first flight of a real TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


class TestTheCache:
    async def test_hits_are_packets_and_bytes_are_summed_over_sweeps(self, collector: NetworkCollector):
        """However often the kernel is emptied before the report, a flow is one event."""
        for _ in range(3):
            send(5)
            async with collector._turn:
                await collector._sweep()
        ((flow, hits),) = activity((await collector.collect()).events, remote_port=9, protocol="UDP")
        assert (hits, flow.bytes_out) == (15, 15 * 29)

    async def test_the_oldest_flow_leaves_a_full_cache(self, collector: NetworkCollector):
        """With drop-oldest the last flows stay, and what left is counted packet by packet."""
        await collector.apply(settings(cache=4))
        for port in range(1, 11):
            send(port, port)
        collected = await collector.collect()
        kept = [flow.remote_port for flow, _ in activity(collected.events, protocol="UDP")]
        (loss,) = collected.losses
        assert set(kept) <= set(range(6, 11))
        assert loss.reason == CACHE_FULL
        total = sum(event.hits for event in collected.events) + loss.hits
        assert total >= sum(range(1, 11))
        assert len(collected.events) == 4

    async def test_drop_new_keeps_the_first_flows(self, collector: NetworkCollector):
        """With drop-new the cache of the RTOS agents: what came first stays."""
        await collector.apply(settings(cache=2, overflow="drop-new"))
        for port in range(1, 6):
            send(1, port)
        collected = await collector.collect()
        assert len(collected.events) == 2
        assert [loss.reason for loss in collected.losses] == [CACHE_FULL]
        assert not activity(collected.events, remote_port=5)

    async def test_the_next_cycle_begins_empty(self, collector: NetworkCollector):
        """Nothing is reported twice."""
        send(2)
        assert activity((await collector.collect()).events, remote_port=9)
        assert activity((await collector.collect()).events, remote_port=9, protocol="UDP") == []

    async def test_loopback_is_not_watched(self, collector: NetworkCollector):
        """What never leaves the device is no network activity."""
        send(3, host=NEAR)
        echo("127.0.0.1", 8, 1)
        events = (await collector.collect()).events
        assert activity(events, remote_address=NEAR) == []
        assert activity(events, remote_address="127.0.0.1") == []


async def until(collector: NetworkCollector, text: str, *, there: bool = True) -> None:
    """Wait until the source tells something, or no longer does."""
    async with asyncio.timeout(PATIENCE_S):
        while (text in collector.source) != there:
            await asyncio.sleep(0.01)


class TestDevices:
    async def test_a_device_that_appears_is_watched(self, collector: NetworkCollector):
        """As soon as it is up, without being asked for."""
        assert "near0" in collector.source
        ip("link", "add", "late0", "type", "veth", "peer", "name", "late1")
        ip("link", "set", "late0", "up")
        ip("address", "add", "10.78.0.1/24", "brd", "+", "dev", "late0")
        await until(collector, "late0")
        assert "late1" not in collector.source
        ip("link", "set", "late1", "up")
        await until(collector, "late1")
        ip("link", "del", "late0")
        await until(collector, "late", there=False)
        assert "near0" in collector.source

    async def test_a_device_that_vanished_is_reported(self, collector: NetworkCollector, peer: Peer):
        """What passed through it is in the next report."""
        echo(FAR, 8, 4)
        ip("link", "del", peer.device)
        await until(collector, "near0", there=False)
        assert collector.source == f"{EBPF}: no device"
        ((flow, hits),) = activity((await collector.collect()).events, protocol="ICMP")
        assert (flow.remote_address, hits) == (FAR, 8)

    async def test_a_named_device_that_does_not_exist_is_reported(self, peer: Peer):
        """It is said and waited for, and the others are watched."""
        collector = NetworkCollector()
        await collector.start(settings(devices="near0,nowhere0"))
        assert "nowhere0 does not exist" in collector.source
        assert "near0" in collector.source.split("(")[0]
        ip("link", "add", "nowhere0", "type", "veth", "peer", "name", "other0")
        await until(collector, "does not exist", there=False)
        assert "nowhere0" in collector.source
        await collector.stop()

    async def test_only_named_devices_are_watched(self, collector: NetworkCollector):
        """A change of the setting takes effect at once, and loses nothing of what was seen."""
        send(2, 7)
        await collector.apply(settings(devices="elsewhere0"))
        send(2, 8)
        await collector.apply(settings(devices="near0"))
        send(2, 9)
        events = (await collector.collect()).events
        seen = [port for port in (7, 8, 9) if activity(events, remote_port=port, protocol="UDP")]
        assert seen == [7, 9]


class TestTheLadder:
    async def test_without_libbpf_packets_are_captured(self, peer: Peer, monkeypatch: pytest.MonkeyPatch):
        """The source says what would bring eBPF back, and the events are the same."""
        bpf._libbpf.cache_clear()
        monkeypatch.setattr(bpf, "LIBRARY", "libbpf-that-is-not-there.so.1")
        collector = NetworkCollector()
        await collector.start(settings())
        bpf._libbpf.cache_clear()
        send(3)
        assert collector.source.startswith(f"{CAPTURE}: near0 ({EBPF}: libbpf-that-is-not-there.so.1")
        ((flow, hits),) = activity((await collector.collect()).events, remote_port=9, protocol="UDP")
        await collector.stop()
        assert (hits, flow.bytes_out) == (3, 3 * 29)

    async def test_sock_diag_tells_tcp_alone(self, peer: Peer):
        """The last resort sees connections that are open: payload bytes, segments, user."""
        collector = NetworkCollector(ladder={SOCK_DIAG: LADDER[SOCK_DIAG]})
        await collector.start(settings())
        server = await peer.serve(SERVER, 0, "stay")
        with socket.create_connection((FAR, int(server.first_line))) as near:
            assert near.recv(10) == b"welcome"
            events = (await collector.collect()).events
        await server.wait()
        await collector.stop()
        ((flow, hits),) = activity(events, remote_port=int(server.first_line))
        assert (flow.protocol, flow.bytes_in, flow.user_id) == ("TCP", len("welcome"), 0)
        assert hits >= 3

    async def test_no_source_at_all_names_every_reason(self, monkeypatch: pytest.MonkeyPatch):
        """Each rung's reason, with its remedy."""

        def refuse(*_: object) -> None:
            raise Unavailable("not today", remedy="try tomorrow")

        collector = NetworkCollector(ladder=dict.fromkeys(("one", "two"), refuse))
        with pytest.raises(Unavailable, match=r"one: not today \(try tomorrow\); two: not today"):
            await collector.start(settings())
        assert collector.source == "none"

    async def test_a_restart_counts_on(self, collector: NetworkCollector):
        """Stopped and started again, it reports what came before once, and what came after."""
        send(2, 7)
        stopped = await collector.stop()
        await collector.start(settings())
        send(3, 8)
        events = (await collector.collect()).events
        assert [hits for _, hits in activity(stopped.events, remote_port=7)] == [2]
        assert activity(events, remote_port=7, protocol="UDP") == []
        assert [hits for _, hits in activity(events, remote_port=8, protocol="UDP")] == [3]


HELD = """
import asyncio
from vedette.agent.collectors.network import NetworkCollector
from vedette.agent.sources.flow_bpf import FlowCounter
from vedette.wire.twin import Settings
import sys

async def main():
    ladder = {"eBPF": lambda settings, told: FlowCounter(told, tcx=sys.argv[1] == "tcx")}
    collector = NetworkCollector(ladder=ladder)
    await collector.start(Settings())
    print(collector.source, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class TestBeingKilled:
    pytestmark = needs_root

    @pytest.mark.parametrize("road", ["tcx", "packet socket"])
    async def test_nothing_stays_behind(self, peer: Peer, road: str):
        """After SIGKILL no program, map or link is left, no qdisc, no packet socket; traffic flows."""
        qdiscs = subprocess.run(["tc", "qdisc"], capture_output=True, text=True, check=True).stdout
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HELD, road, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout
        assert f"{road} near0" in (await process.stdout.readline()).decode()
        held = _held_by(process.pid)
        kinds = {kind for kind, _ in held}
        process.send_signal(signal.SIGKILL)
        await process.wait()
        async with asyncio.timeout(PATIENCE_S):
            while any(_exists(kind, number) for kind, number in held):  # freed after a grace period
                await asyncio.sleep(0.02)
        assert kinds == {"prog", "map", "link"}
        assert subprocess.run(["tc", "qdisc"], capture_output=True, text=True, check=True).stdout == qdiscs
        assert len(Path("/proc/thread-self/net/packet").read_text().splitlines()) == 1
        echo(FAR6, 8, 1)


def _held_by(pid: int) -> set[tuple[str, int]]:
    """Kind and id of every BPF object that a process has open."""
    found = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("prog_id", "map_id", "link_id"):
                found.add((name.removesuffix("_id"), int(value)))
    return found


def _exists(kind: str, number: int) -> bool:
    """Whether the kernel still knows a BPF object."""
    fd = getattr(bpf._libbpf(), f"bpf_{kind}_get_fd_by_id")(number)
    if fd >= 0:
        os.close(fd)
    return fd >= 0
