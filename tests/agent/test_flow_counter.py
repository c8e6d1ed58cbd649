"""Flows counted on the real kernel, on both roads and by the capture: every packet and byte."""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from netrig import ETHERNET, FAR, FAR6, FAR_MAC, NEAR, NEAR6, NEAR_MAC, Peer, echo, ip
from spawning import needs_bpf

from support import PATIENCE_S
from vedette.agent.losses import CAPTURE_FULL, KERNEL_MAP_FULL, NAMES_UNTOLD
from vedette.agent.sources import Unavailable, bpf, flow_bpf
from vedette.agent.sources.flow import ICMP, ICMP6, TCP, UDP, Finished, Flow, Identity, Kind, Told
from vedette.agent.sources.flow_bpf import TAP, TCX, FlowCounter, cgroup_root
from vedette.agent.sources.packet import PacketCapture

pytestmark = [*needs_bpf, pytest.mark.usefixtures("network_namespace")]

Source = FlowCounter | PacketCapture
ROADS: dict[str, Callable[[Callable[[Told], None]], Source]] = {
    "tcx": lambda told: FlowCounter(told),
    "packet socket": lambda told: FlowCounter(told, tcx=False),
    "capture": lambda told: PacketCapture(told, 64 << 20),
}
EVERY_ROAD = pytest.mark.parametrize("road", ROADS)
KERNEL_ROADS = pytest.mark.parametrize("road", ["tcx", "packet socket"])

COUNTS = ("packets_in", "packets_out", "bytes_in", "bytes_out")

SINK = """
import socket
server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
print(server.getsockname()[1], flush=True)
connection, _ = server.accept()
taken = 0
while data := connection.recv(1 << 16):
    taken += len(data)
connection.sendall(b"%d" % taken)
"""

ECHO_UDP = """
import socket, sys
near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
near.bind(("10.77.0.2", 0))
print(near.getsockname()[1], flush=True)
while True:
    data, source = near.recvfrom(65536)
    near.sendto(data, source)
"""


class Watched:
    """A source that watches the near device, what it told, and the device's counters since."""

    def __init__(self, road: str, peer: Peer) -> None:
        self.told: list[Told] = []
        self.peer = peer
        while True:  # until nothing passed while it began: IPv6 talks to itself now and then
            self._before = peer.counters()
            self.source = ROADS[road](self.told.append)
            self.way = self.source.watch(peer.link)
            if peer.counters() == self._before:
                break
            self.source.close()

    async def finish(self) -> tuple[Finished, dict[str, int]]:
        """What was counted, once the device has come to rest, and what the device counted itself.

        Asked again if anything passed meanwhile, so that both speak of the same packets.
        """
        parts: list[Finished] = []
        last, now = None, self.peer.counters()
        while last != now:
            await asyncio.sleep(0.05)
            last = now
            parts.append(await self.source.finish())
            now = self.peer.counters()
        flows, losses, *numbers = zip(*parts, strict=True)
        finished = Finished(joined(chain(*flows)), list(chain(*losses)), *map(sum, numbers))
        return finished, {name: value - self._before[name] for name, value in now.items()}

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()


def joined(flows: Iterable[Flow]) -> list[Flow]:
    """The flows of several reports as if it had been one."""
    found: dict[Identity, Flow] = {}
    for flow in flows:
        known = found.get(flow.identity)
        names = [name for name in COUNTS if known]
        found[flow.identity] = replace(
            known or flow, **{name: getattr(known, name) + getattr(flow, name) for name in names}
        )
    return list(found.values())


def summed(flows: list[Flow]) -> dict[str, int]:
    """Packets and bytes of all flows, bytes with Ethernet headers."""
    total = {name: sum(getattr(flow, name) for flow in flows) for name in ("packets_in", "packets_out")}
    for way in ("in", "out"):
        payload = sum(getattr(flow, f"bytes_{way}") for flow in flows)
        total[f"bytes_{way}"] = payload + ETHERNET * total[f"packets_{way}"]
    return total


def of(finished: Finished, protocol: int, remote: str = "") -> Flow:
    """The one flow of a protocol."""
    (flow,) = [
        flow
        for flow in finished.flows
        if flow.identity.protocol == protocol and flow.identity.remote_address.startswith(remote)
    ]
    return flow


def segments() -> tuple[int, int, int]:
    """TCP segments that this namespace has received, sent, and sent again, by its own count."""
    lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    counted = dict(zip(names, values, strict=True))
    return int(counted["InSegs"]), int(counted["OutSegs"]), int(counted["RetransSegs"])


async def send_bulk(peer: Peer, size: int, host: str = FAR) -> None:
    """Send so many bytes over TCP; the peer confirms them."""
    sink = await peer.serve(SINK)
    reader, writer = await asyncio.open_connection(host, int(sink.first_line))
    writer.write(bytes(size))
    writer.write_eof()
    assert await reader.read() == b"%d" % size
    writer.close()
    await sink.wait()


class TestExactness:
    @EVERY_ROAD
    async def test_all_traffic_agrees_with_the_device(self, road: str):
        """Without offloads the device counts what is on the wire, and so do we: TCP, ICMP, fragments."""
        with Peer(offloads=False, arp=False) as peer, Watched(road, peer) as watched:
            await send_bulk(peer, 300_000)
            await send_bulk(peer, 300_000, FAR6)
            echo(FAR, 56, 3)
            echo(FAR6, 56, 3)
            echo(FAR, 4000, 3)
            echo(FAR6, 4000, 3)
            finished, counters = await watched.finish()
        assert finished.losses == []
        assert summed(finished.flows) == counters
        assert finished.packets == counters["packets_in"] + counters["packets_out"]

    @EVERY_ROAD
    async def test_offloaded_tcp_is_counted_as_it_is_on_the_wire(self, road: str):
        """What the device takes for one large packet is as many as TCP itself has counted."""
        with Peer() as peer, Watched(road, peer) as watched:
            before = segments()
            await send_bulk(peer, 3_000_000)
            finished, counters = await watched.finish()
            received, sent, again = (now - then for now, then in zip(segments(), before, strict=True))
        flow = of(finished, TCP)
        assert (flow.packets_in, flow.packets_out) == (received, sent + again)
        assert flow.packets_out > counters["packets_out"]
        headers = 20 + 32  # IP and TCP with timestamps; the SYN has 8 bytes more
        payload = flow.bytes_out - headers * flow.packets_out - 8
        assert payload == 3_000_000 if not again else payload > 3_000_000
        assert finished.losses == []

    @EVERY_ROAD
    async def test_small_datagrams_are_counted_one_by_one(self, road: str):
        """20,000 datagrams there and back: packets and bytes to the last."""
        with Peer() as peer, Watched(road, peer) as watched:
            server = await peer.serve(ECHO_UDP)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
                near.settimeout(PATIENCE_S)
                near.connect((FAR, int(server.first_line)))
                for number in range(10_000):
                    near.send(number.to_bytes(32, "big"))
                    assert near.recv(64) == number.to_bytes(32, "big")
                    if number % 100 == 0:
                        await asyncio.sleep(0)  # the capture reads on this loop
            server.kill()
            await server.wait()
            finished, _ = await watched.finish()
        flow = of(finished, UDP, FAR)
        assert (flow.packets_in, flow.packets_out) == (10_000, 10_000)
        assert (flow.bytes_in, flow.bytes_out) == (600_000, 600_000)
        assert finished.losses == []

    @EVERY_ROAD
    async def test_fragments_belong_to_the_flow_of_their_datagram(self, road: str):
        """A datagram of 4,000 bytes is three packets of one flow, with its ports."""
        with Peer() as peer, Watched(road, peer) as watched:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
                near.sendto(bytes(4000), (FAR, 9))
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as near:
                near.sendto(bytes(4000), (FAR6, 9))
            finished, _ = await watched.finish()
        four, six = of(finished, UDP, FAR), of(finished, UDP, FAR6)
        assert (four.identity.remote_port, four.packets_out, four.bytes_out) == (9, 3, 4008 + 3 * 20)
        assert (six.identity.remote_port, six.packets_out, six.bytes_out) == (9, 3, 4008 + 3 * (40 + 8))

    @EVERY_ROAD
    @pytest.mark.parametrize("tags", [b"\x81\x00\x00\x05", b"\x88\xa8\x00\x07\x81\x00\x00\x05"])
    async def test_vlan_tags_do_not_hide_a_packet(self, road: str, tags: bytes):
        """Tagged once or twice, received or sent, a packet is counted without its tags."""
        with Peer() as peer, Watched(road, peer) as watched:
            arriving = frame(FAR_MAC, NEAR_MAC, tags, FAR, NEAR)
            await peer.python(SEND_FRAME, "far0", arriving.hex())
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
                raw.bind((peer.device, 0))
                raw.send(frame(NEAR_MAC, FAR_MAC, tags, NEAR, FAR))
            finished, _ = await watched.finish()
        arrived, sent = (
            flow
            for port in (1111, 2222)
            for flow in finished.flows
            if flow.identity.protocol == UDP and flow.identity.local_port == port
        )
        assert (sent.packets_out, sent.bytes_out) == (1, 33)
        assert (arrived.packets_in, arrived.bytes_in) == (1, 33)

    @KERNEL_ROADS
    async def test_swapping_under_load_loses_and_doubles_nothing(self, road: str):
        """Generations ended in quick succession while datagrams pass add up to the exact number."""
        with Peer() as peer, Watched(road, peer) as watched:
            flood = asyncio.create_task(peer.python(FLOOD, NEAR, 40_000))
            finished = []
            while not flood.done():
                finished.append(await watched.source.finish())
            last, counters = await watched.finish()
            finished.append(last)
        received = sum(
            flow.packets_in for each in finished for flow in each.flows if flow.identity.protocol == UDP
        )
        assert received == 40_000
        assert len(finished) > 10
        assert sum(each.packets + each.not_ip for each in finished) == sum(
            counters[f"packets_{way}"] for way in ("in", "out")
        )

    @EVERY_ROAD
    async def test_padding_is_no_traffic(self, road: str):
        """A packet that was padded to the length of an Ethernet frame has the bytes that IP says."""
        with Peer() as peer, Watched(road, peer) as watched:
            padded = frame(FAR_MAC, NEAR_MAC, b"", FAR, NEAR) + bytes(20)
            await peer.python(SEND_FRAME, "far0", padded.hex())
            finished, _ = await watched.finish()
        assert of(finished, UDP, FAR).bytes_in == 33

    @KERNEL_ROADS
    async def test_packets_for_others_are_not_ours(self, road: str):
        """What a device in promiscuous mode overhears is counted apart."""
        with Peer() as peer, Watched(road, peer) as watched:
            ip("link", "set", peer.device, "promisc", "on")
            overheard = frame(FAR_MAC, "02:00:00:00:99:99", b"", FAR, "10.77.0.9")
            await peer.python(SEND_FRAME, "far0", overheard.hex())
            finished, _ = await watched.finish()
        assert finished.others == 1
        assert [flow for flow in finished.flows if flow.identity.protocol == UDP] == []

    @EVERY_ROAD
    async def test_deliveries_to_many_are_labelled(self, road: str):
        """Broadcasts and multicasts say so, sent and received; what is sent to one does not."""
        with Peer() as peer, Watched(road, peer) as watched:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                near.sendto(b"x", ("10.77.0.255", 7))
                near.sendto(b"x", ("239.1.2.3", 7))
                near.sendto(b"x", (FAR, 7))
            await peer.python(BROADCAST, "10.77.0.255")
            finished, _ = await watched.finish()
        labels = {
            (flow.identity.local_address, flow.identity.remote_address): flow.delivery
            for flow in finished.flows
            if flow.identity.protocol == UDP
        }
        assert labels == {
            (NEAR, "10.77.0.255"): "broadcast",
            (NEAR, "239.1.2.3"): "multicast",
            (NEAR, FAR): "",
            ("10.77.0.255", FAR): "broadcast",
        }

    @EVERY_ROAD
    async def test_directions_and_addresses_are_seen_from_this_device(self, road: str):
        """Local is this side whoever began; ICMP of both versions has no ports."""
        with Peer() as peer, Watched(road, peer) as watched:
            echo(FAR, 8, 2)
            echo(FAR6, 8, 2)
            finished, _ = await watched.finish()
        four, six = of(finished, ICMP), of(finished, ICMP6, FAR6)
        assert (four.identity.local_address, four.identity.remote_address) == (NEAR, FAR)
        assert (six.identity.local_address, six.identity.remote_address) == (NEAR6, FAR6)
        assert (four.identity.local_port, four.identity.remote_port) == (0, 0)
        assert (four.packets_in, four.packets_out) == (2, 2)


FLOOD = """
import socket, sys
far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
far.connect((sys.argv[1], 7))
sent = 0
while sent < int(sys.argv[2]):
    try:
        sent += far.send(b"x")
    except ConnectionRefusedError:
        pass
"""

SEND_FRAME = """
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
raw.bind((sys.argv[1], 0))
raw.send(bytes.fromhex(sys.argv[2]))
"""

BROADCAST = """
import socket, sys
far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
far.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
far.sendto(b"x", (sys.argv[1], 7))
"""


def frame(source_mac: str, target_mac: str, tags: bytes, source: str, target: str) -> bytes:
    """An Ethernet frame with a UDP datagram of 5 bytes, 33 with its headers."""
    ports = (2222, 1111)
    udp = struct.pack(">HHHH", *ports, 13, 0) + b"hello"
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    header = struct.pack(">BBHHHBBH", 0x45, 0, 33, 0, 0, 64, UDP, 0) + addresses
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack(">H", ~total & 0xFFFF) + header[12:]
    macs = (bytes.fromhex(mac.replace(":", "")) for mac in (target_mac, source_mac))
    return b"".join(macs) + tags + b"\x08\x00" + header + udp


class TestLimits:
    @KERNEL_ROADS
    async def test_a_full_map_is_a_counted_loss(self, road: str):
        """Flows beyond the map's room are lost packet by packet; those within it are counted on."""
        with Peer() as peer:
            counter = FlowCounter(lambda told: None, tcx=road == "tcx", flows=8)
            counter.watch(peer.link)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
                for _ in range(5):
                    for port in range(100, 120):
                        near.sendto(b"x", (FAR, port))
            await asyncio.sleep(0.1)
            finished = await counter.finish()
            counter.close()
        kept = sum(flow.packets_in + flow.packets_out for flow in finished.flows)
        lost = {loss.reason: loss.hits for loss in finished.losses}
        assert len(finished.flows) == 8
        assert lost.keys() == {KERNEL_MAP_FULL}
        assert kept + lost[KERNEL_MAP_FULL] == finished.packets
        assert any(flow.packets_out == 5 for flow in finished.flows)

    async def test_a_full_ring_loses_names_and_no_packets(self, monkeypatch: pytest.MonkeyPatch):
        """With nobody reading, first bytes that find no room are counted as lost, and the flows stand."""
        monkeypatch.setattr(flow_bpf, "WAKE_AT", 1 << 30)
        told: list[Told] = []
        with Peer() as peer:
            counter = FlowCounter(told.append)
            counter.watch(peer.link)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
                for port in range(1000, 4000):
                    near.sendto(bytes(16), (FAR, port))
            finished = await counter.finish()
            counter.close()
        lost = {loss.reason: loss.hits for loss in finished.losses}
        assert lost.keys() == {NAMES_UNTOLD}
        assert len([each for each in told if each.identity.protocol == UDP]) + lost[NAMES_UNTOLD] == 3000
        assert sum(flow.packets_out for flow in finished.flows if flow.identity.protocol == UDP) == 3000

    async def test_a_full_capture_buffer_is_a_counted_loss(self):
        """What was dropped before it could be read is in the losses, packet by packet."""
        with Peer(arp=False) as peer:
            capture = PacketCapture(lambda told: None, 65_536)
            capture.watch(peer.link)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
                for _ in range(5000):
                    near.sendto(b"x", (FAR, 9))
            finished = await capture.finish()
            capture.close()
        counted = sum(flow.packets_out for flow in finished.flows if flow.identity.protocol == UDP)
        lost = {loss.reason: loss.hits for loss in finished.losses}
        refusals = sum(flow.packets_in for flow in finished.flows)
        assert lost.keys() == {CAPTURE_FULL}
        assert 5000 <= counted + lost[CAPTURE_FULL] + refusals <= 5000 + 50


class TestWhatIsCopied:
    @EVERY_ROAD
    async def test_only_first_bytes_leave_the_kernel(self, road: str):
        """Of a connection whose payload names nothing, 16 bytes each way are seen, and never the rest."""
        with Peer() as peer, Watched(road, peer) as watched:
            sink = await peer.serve(SINK)
            reader, writer = await asyncio.open_connection(FAR, int(sink.first_line))
            for _ in range(50):
                writer.write(b"0123456789abcdef" + b"SECRET" * 50)
                await writer.drain()
            writer.write_eof()
            await reader.read()
            writer.close()
            finished, _ = await watched.finish()
        seen = [each.data for each in watched.told if each.identity.protocol == TCP]
        assert seen == [b"0123456789abcdef", b"15800"]
        assert of(finished, TCP).accepted is False

    @EVERY_ROAD
    async def test_connections_that_were_open_before_are_not_looked_into(self, road: str):
        """Without its beginning nothing of a stream is a first byte."""
        with Peer() as peer:
            sink = await peer.serve(SINK)
            reader, writer = await asyncio.open_connection(FAR, int(sink.first_line))
            with Watched(road, peer) as watched:
                writer.write(b"in the middle of things")
                writer.write_eof()
                await reader.read()
                finished, _ = await watched.finish()
            writer.close()
        assert [each for each in watched.told if each.identity.protocol == TCP] == []
        assert of(finished, TCP).accepted is None

    @EVERY_ROAD
    async def test_unasked_answers_are_not_taken(self, road: str):
        """A datagram from port 53 to which there was no question is nobody's answer."""
        with Peer() as peer, Watched(road, peer) as watched:
            await peer.python(FROM_DNS, NEAR)
            finished, _ = await watched.finish()
        assert watched.told == []
        assert of(finished, UDP).packets_in == 1


FROM_DNS = """
import socket, sys
far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
far.bind(("10.77.0.2", 53))
far.sendto(bytes(200), (sys.argv[1], 5353))
"""


class TestDevices:
    async def test_the_way_is_told(self):
        """tcx where the kernel has it, else a packet socket."""
        with Peer() as peer:
            for tcx, way in ((True, TCX), (False, TAP)):
                counter = FlowCounter(lambda told: None, tcx=tcx)
                assert counter.watch(peer.link) == way
                counter.close()

    @EVERY_ROAD
    async def test_a_device_that_vanished_keeps_what_it_counted(self, road: str):
        """Packets of a device that is gone are reported, and letting go of it is no error."""
        with Peer() as peer:
            watched = Watched(road, peer)
            index = peer.link.index
            echo(FAR, 8, 3)
            ip("link", "del", peer.device)
            watched.source.unwatch(index)
            finished = await watched.source.finish()
            watched.source.close()
        assert of(finished, ICMP).packets_out == 3

    async def test_a_kernel_without_cgroup_programs_counts_as_well(self, monkeypatch: pytest.MonkeyPatch):
        """Only who made a socket is not seen, and the reason is told."""
        load = bpf.load

        def refusing(name: str, *, skipped: Collection[str] = (), **rest: Any) -> bpf.Loaded:
            if "on_socket" not in skipped:
                raise Unavailable("no such program type")
            return load(name, skipped=skipped, **rest)

        monkeypatch.setattr(bpf, "load", refusing)
        with Peer() as peer, Watched("tcx", peer) as watched:
            echo(FAR, 8, 2)
            finished, _ = await watched.finish()
        assert watched.source.note == "makers of sockets are not seen: no such program type"
        assert (of(finished, ICMP).packets_out, of(finished, ICMP).owner) == (2, None)

    async def test_without_a_cgroup_hierarchy_makers_are_not_seen(self, tmp_path: Path):
        """Counting goes on, and the reason is told."""
        (tmp_path / "mounts").write_text("proc /proc proc rw 0 0\n")
        counter = FlowCounter(lambda told: None, mounts=tmp_path / "mounts")
        assert "no cgroup2 hierarchy" in counter.note
        counter.close()


@pytest.mark.parametrize(
    ("mounts", "root"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "/sys/fs/cgroup"),
        ("tmpfs /a tmpfs rw 0 0\ncgroup2 /with\\040space cgroup2 rw 0 0\n", "/with space"),
        ("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\nx\n", None),
    ],
)
def test_the_cgroup_hierarchy_is_found_where_it_is_mounted(tmp_path: Path, mounts: str, root: str | None):
    """Distributions differ in where it is."""
    (tmp_path / "mounts").write_text(mounts)
    assert cgroup_root(tmp_path / "mounts") == root


def test_kinds_of_record_are_those_of_the_c_text():
    """The enums of both halves have one order."""
    text = (bpf.OBJECTS / "flow.bpf.c").read_text()
    assert "enum kind { FIRST, ANSWER };" in text
    assert Counter(Kind) == Counter({Kind.FIRST: 1, Kind.ANSWER: 1})
    assert [Kind.FIRST.value, Kind.ANSWER.value] == [0, 1]
