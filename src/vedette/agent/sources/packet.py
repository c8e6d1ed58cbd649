"""Flows counted in Python from captured packets: where the kernel cannot run eBPF programs.

A packet socket for each device; the kernel cuts packets to their headers (`capture_filter`) and tells how
long they were and how many segments they stand for. What does not fit into the socket's buffer is counted.

Facts: packet(7), <linux/if_packet.h>, <linux/virtio_net.h>.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable
from struct import Struct

from vedette.agent.losses import CAPTURE_FULL, FLOW_TABLE_FULL, MALFORMED, Losses
from vedette.agent.sources import Unavailable
from vedette.agent.sources.capture_filter import attach
from vedette.agent.sources.flow import (
    COPY_MAX,
    FIRST_BYTES,
    TCP,
    UDP,
    Delivery,
    Finished,
    Flow,
    Identity,
    Kind,
    Told,
)
from vedette.agent.sources.net_devices import link_header
from vedette.agent.sources.packet_headers import DNS, Packet, dissect
from vedette.agent.sources.rtnetlink import Link
from vedette.agent.sources.tlshello import is_client_hello

FLOWS_MAX = 16_384
"""Flows kept until they are asked for: about 8 MB when full."""

FRAGMENTS_MAX = 1_024
"""Fragmented datagrams on their way at one moment."""

BURST = 256
"""Packets read in one go, about 2 ms, so that other work gets its turn."""

CATCH_UP = 64
"""Bursts in which a report waits for captured packets, however many are still arriving."""

FRAME_MAX = 4_096
"""Bytes read of a packet: more than the filter keeps."""

SOL_PACKET, PACKET_STATISTICS, PACKET_AUXDATA, PACKET_VNET_HDR = 263, 6, 8, 15
_SO_RCVBUFFORCE = 33
_ETH_P_ALL = 0x0003
_OTHER_HOST, _OUTGOING = 3, 4
_SYN, _ACK = 0x02, 0x10

_VNET = Struct("=BBHHHH")  # flags, kind, header length, segment size, checksum start and offset
_AUXDATA = Struct("=IIIHHHH")  # status, length, captured length …
_STATISTICS = Struct("=II")


class _Counts:
    """One flow, being counted."""

    __slots__ = ("at", "bytes", "delivery", "opened", "packets", "told")

    def __init__(self, at: float) -> None:
        self.at = at
        self.bytes = [0, 0]
        self.packets = [0, 0]
        self.opened = [False, False]
        self.told = [False, False]
        self.delivery: Delivery = ""


class FlowTable:
    """Counts packets by flow. told: called with each payload that names something. No input or output."""

    def __init__(self, told: Callable[[Told], None]) -> None:
        self._told = told
        self._flows: dict[Identity, _Counts] = {}
        self._fragments: dict[bytes, tuple[int, int]] = {}
        self.losses = Losses()
        self.packets = 0

    def count(
        self, packet: Packet, now: float, *, out: bool, segment: int = 0, delivery: Delivery = ""
    ) -> None:
        """Count a packet. segment: bytes of payload in each of those that it stands for; 0: it is one."""
        segments = max(1, -(-(packet.length - packet.header) // segment)) if segment else 1
        self.packets += segments
        if packet.fragment:
            self._find_ports(packet)
        identity = _identity(packet, out)
        counts = self._flows.get(identity)
        if counts is None:
            if len(self._flows) >= FLOWS_MAX:
                self.losses.count(FLOW_TABLE_FULL, hits=segments)
                return
            counts = self._flows[identity] = _Counts(now)
        counts.packets[out] += segments
        counts.bytes[out] += packet.length + (segments - 1) * packet.header
        counts.delivery = "broadcast" if delivery == "broadcast" else counts.delivery or delivery
        if packet.tcp_flags & (_SYN | _ACK) == _SYN:
            counts.opened[out] = True
        self._tell(identity, counts, packet, now, out)

    def take(self) -> list[Flow]:
        """The flows since the last call, oldest first."""
        flows = [_flow(identity, counts) for identity, counts in self._flows.items()]
        self._flows = {}
        self.packets = 0
        return flows

    def _find_ports(self, packet: Packet) -> None:
        if packet.first:
            if len(self._fragments) >= FRAGMENTS_MAX:
                del self._fragments[next(iter(self._fragments))]
            self._fragments[packet.fragment] = packet.source_port, packet.target_port
        else:
            packet.source_port, packet.target_port = self._fragments.get(packet.fragment, (0, 0))

    def _tell(self, identity: Identity, counts: _Counts, packet: Packet, now: float, out: bool) -> None:
        from_dns = identity.remote_port == DNS and not out
        if not packet.payload:
            return
        if from_dns and identity.protocol == UDP:
            if counts.packets[True]:  # somebody asked
                self._told(Told(identity, now, Kind.ANSWER, packet.payload[:COPY_MAX]))
            return
        opened = any(counts.opened) if identity.protocol == TCP else identity.protocol == UDP
        if counts.told[out] or not opened:
            return
        counts.told[out] = True
        if from_dns:
            self._told(Told(identity, now, Kind.ANSWER, packet.payload[:COPY_MAX]))
        else:
            hello = identity.protocol == TCP and is_client_hello(packet.payload)
            most = COPY_MAX if hello else FIRST_BYTES
            self._told(Told(identity, now, Kind.FIRST, packet.payload[:most]))


def _identity(packet: Packet, out: bool) -> Identity:
    if out:
        ends = packet.source_port, packet.target_port, packet.protocol, packet.source, packet.target
    else:
        ends = packet.target_port, packet.source_port, packet.protocol, packet.target, packet.source
    return Identity(*ends)


def _flow(identity: Identity, counts: _Counts) -> Flow:
    opened_in, opened_out = counts.opened
    return Flow(
        identity=identity,
        at=counts.at,
        bytes_in=counts.bytes[0],
        bytes_out=counts.bytes[1],
        packets_in=counts.packets[0],
        packets_out=counts.packets[1],
        delivery=counts.delivery,
        accepted=opened_in if opened_in != opened_out else None,
    )


class PacketCapture:
    """Captures the packets of devices, between `watch` and `unwatch`. Needs a running event loop.

    buffer: bytes of packets that may wait to be read, for each device. told: called with each payload that
    names something.
    """

    label = "packet capture"
    note = ""

    def __init__(self, told: Callable[[Told], None], buffer: int) -> None:
        self._table = FlowTable(told)
        self._buffer = buffer
        self._captures: dict[int, tuple[socket.socket, int]] = {}
        self._others = 0

    def watch(self, link: Link) -> str:
        """Capture a device's packets from now on. Raises OSError, Unavailable."""
        header = link_header(link)
        with contextlib.ExitStack() as undo:
            try:
                capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            except PermissionError:
                raise Unavailable("CAP_NET_RAW missing", remedy="grant it to the agent") from None
            undo.callback(capture.close)
            attach(capture, header)
            capture.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            capture.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            _set_buffer(capture, self._buffer)
            capture.setblocking(False)
            capture.bind((link.name, _ETH_P_ALL))
            undo.pop_all()
        self._captures[link.index] = capture, header
        asyncio.get_running_loop().add_reader(capture, self._receive, capture, header)
        return ""

    def unwatch(self, index: int) -> None:
        """Read what was captured on a device, and capture no more."""
        if index in self._captures:
            capture, header = self._captures.pop(index)
            self._catch_up(capture, header)
            asyncio.get_running_loop().remove_reader(capture)
            self._count_drops(capture)
            capture.close()

    def resize(self, buffer: int) -> None:
        """Let so many bytes wait from now on."""
        self._buffer = buffer
        for capture, _ in self._captures.values():
            _set_buffer(capture, buffer)

    async def finish(self) -> Finished:
        """What was captured since the last call."""
        for capture, header in list(self._captures.values()):
            for _ in range(CATCH_UP):
                if not self._receive(capture, header):
                    break
                await asyncio.sleep(0)
            self._count_drops(capture)
        packets, others, self._others = self._table.packets, self._others, 0
        return Finished(self._table.take(), self._table.losses.take(), packets, 0, others)

    def close(self) -> None:
        """Capture nothing any more."""
        for index in list(self._captures):
            self.unwatch(index)

    def _catch_up(self, capture: socket.socket, header: int) -> None:
        for _ in range(CATCH_UP):
            if not self._receive(capture, header):
                return

    def _receive(self, capture: socket.socket, header: int) -> bool:
        """Count what waits, at most BURST packets; True if more may wait."""
        for _ in range(BURST):
            try:
                data, ancillary, _, address = capture.recvmsg(FRAME_MAX, socket.CMSG_SPACE(_AUXDATA.size))
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno == errno.EINVAL:  # an offload that a virtio_net_hdr cannot tell
                    self._table.losses.count(MALFORMED, hits=1)
                elif error.errno != errno.ENETDOWN:  # told once; what came before still waits
                    return False
                continue
            self._count(data, ancillary, address[2], header)
        return True

    def _count(self, data: bytes, ancillary: list[tuple[int, int, bytes]], kind: int, header: int) -> None:
        if kind == _OTHER_HOST:
            self._others += 1
            return
        frame = data[_VNET.size :]
        _, _, _, segment, _, _ = _VNET.unpack_from(data)
        length = next((_AUXDATA.unpack(raw)[1] for _, _, raw in ancillary), len(frame))
        packet = dissect(frame, header, length) if frame else None
        if packet is None:
            self._table.losses.count(MALFORMED, hits=1)
            return
        to_many = bool(header) and bool(frame[0] & 1)
        delivery: Delivery = "" if not to_many else "broadcast" if frame[:6] == b"\xff" * 6 else "multicast"
        self._table.count(packet, time.time(), out=kind == _OUTGOING, segment=segment, delivery=delivery)

    def _count_drops(self, capture: socket.socket) -> None:
        _, dropped = _STATISTICS.unpack(capture.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size))
        self._table.losses.count(CAPTURE_FULL, hits=dropped)


def _set_buffer(capture: socket.socket, size: int) -> None:
    """The kernel doubles what it is told, for its bookkeeping; CAP_NET_ADMIN may exceed net.core.rmem_max."""
    try:
        capture.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        capture.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
