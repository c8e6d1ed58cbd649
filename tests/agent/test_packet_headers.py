"""Headers of captured packets: hostile bytes, and the filter that cuts packets before they are captured."""

import socket
import struct
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from netrig import FAR, NEAR, Peer
from spawning import needs_root

from support import PATIENCE_S
from vedette.agent.sources import capture_filter
from vedette.agent.sources.flow import FIRST_BYTES, TCP, UDP, Told
from vedette.agent.sources.packet import FlowTable
from vedette.agent.sources.packet_headers import ETHERNET, dissect

IP4 = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 33, 7, 0, 64, UDP, 0, bytes(4), b"\x0a\0\0\1")
DATAGRAM = IP4 + struct.pack(">HHHH", 1000, 2000, 13, 0) + b"hello"
FRAME = bytes(12) + b"\x08\x00" + DATAGRAM
HOP_BY_HOP = bytes([UDP, 0, 1, 4, 0, 0, 0, 0])
DATAGRAM6 = struct.pack(">IHBB16s16s", 6 << 28, 21, 0, 64, bytes(16), bytes(16)) + HOP_BY_HOP
DATAGRAM6 += struct.pack(">HHHH", 1000, 2000, 13, 0) + b"hello"


@pytest.mark.parametrize(
    ("frame", "link"),
    [
        (FRAME, ETHERNET),
        (DATAGRAM, 0),
        (FRAME[:12] + b"\x81\x00\x00\x05" + FRAME[12:], ETHERNET),
        (FRAME[:12] + b"\x88\xa8\x00\x07\x81\x00\x00\x05" + FRAME[12:], ETHERNET),
        (FRAME + bytes(20), ETHERNET),
    ],
    ids=["Ethernet", "bare", "VLAN", "QinQ", "padded"],
)
def test_a_datagram_is_the_same_behind_every_link(frame: bytes, link: int):
    """Ports, payload and length do not depend on what stands around."""
    packet = dissect(frame, link, len(frame))
    assert packet
    assert (packet.source_port, packet.target_port, packet.payload) == (1000, 2000, b"hello")
    assert (packet.length, packet.header, packet.target) == (33, 28, "10.0.0.1")


def test_extension_headers_are_followed():
    """To the transport header, and they count as headers."""
    packet = dissect(DATAGRAM6, 0, len(DATAGRAM6))
    assert packet
    assert (packet.protocol, packet.target_port, packet.payload) == (UDP, 2000, b"hello")
    assert (packet.length, packet.header) == (61, 56)


@given(st.binary(max_size=120), st.sampled_from([0, ETHERNET]), st.integers(0, 70_000))
@example(b"", 0, 0)
@example(b"\x45" + bytes(19), 0, 20)
@example(FRAME[:12] + b"\x81\x00" * 30, ETHERNET, 74)
def test_hostile_frames_are_counted_or_refused(frame: bytes, link: int, length: int):
    """Whatever the bytes, a table counts a packet or there is none; what it copies is bounded."""
    told: list[Told] = []
    table = FlowTable(told.append)
    packet = dissect(frame, link, length)
    if packet is not None:
        table.count(packet, 0.0, out=False)
        (flow,) = table.take()
        assert flow.packets_in == 1
    assert all(len(each.data) <= FIRST_BYTES for each in told)


@pytest.mark.parametrize("link", [0, ETHERNET])
def test_jumps_of_the_filter_reach(link: int):
    """The kernel takes the program: it is within 4,096 instructions and every jump is in range."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        capture_filter.attach(any_socket, link)


@pytest.mark.usefixtures("network_namespace")
class TestTheFilter:
    pytestmark = needs_root

    def test_payload_is_cut_before_it_is_captured(self):
        """Of a datagram 16 bytes of payload arrive in user space, of a DNS answer all."""
        with Peer() as peer, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as capture:
            capture_filter.attach(capture, ETHERNET)
            capture.bind((peer.device, 3))
            capture.settimeout(PATIENCE_S)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
                near.sendto(b"0123456789abcdef-SECRET", (FAR, 9))
                assert taken(capture, UDP, FAR) == b"0123456789abcdef"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
                near.bind((NEAR, 53))
                near.sendto(b"our own answer is nobody else's", (FAR, 9))
                assert taken(capture, UDP, FAR) == b"our own answer i"
            subprocess.run([*peer.enter, sys.executable, "-S", "-c", FROM_DNS, NEAR], check=True)
            assert taken(capture, UDP, NEAR) == b"an answer" * 20

    def test_a_stream_is_cut_too(self):
        """16 bytes of each segment, but of a ClientHello as much as is looked at."""
        with Peer() as peer, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as capture:
            hello = b"\x16\x03\x01\x02\x00\x01" + bytes(500)
            capture_filter.attach(capture, ETHERNET)
            capture.bind((peer.device, 3))
            capture.settimeout(PATIENCE_S)
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
                raw.bind((peer.device, 0))
                for payload in (hello, b"no hello " * 50):
                    tcp = struct.pack(">HHIIBBHHH", 1, 2, 0, 0, 5 << 4, 0x18, 0, 0, 0)
                    total = 20 + len(tcp) + len(payload)
                    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, total, 0, 0, 64, TCP, 0, bytes(4), bytes(4))
                    raw.send(b"\x02" + bytes(11) + b"\x08\x00" + ip + tcp + payload)
                    kept = taken(capture, TCP, "0.0.0.0")
                    assert kept == (hello if payload == hello else payload[:FIRST_BYTES])


FROM_DNS = """
import socket, sys
far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
far.bind(("10.77.0.2", 53))
far.sendto(b"an answer" * 20, (sys.argv[1], 5353))
"""


def taken(capture: socket.socket, protocol: int, target: str) -> bytes:
    """The payload that was captured of the next packet of a protocol to an address."""
    while True:
        frame = capture.recv(65536)
        packet = dissect(frame, ETHERNET, 65536)
        if packet and (packet.protocol, packet.target) == (protocol, target):
            return frame[ETHERNET + packet.header :]
