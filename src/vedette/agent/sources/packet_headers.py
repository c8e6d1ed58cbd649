"""The headers of captured IP packets: whose they are, and where the payload begins. Pure and defensive.

Facts: RFC 791, 8200, 9293, IEEE 802.1Q.
"""

from __future__ import annotations

import socket
from struct import Struct

import msgspec

from vedette.agent.sources.flow import ICMP, ICMP6, TCP, UDP

ETHERNET = 14
"""Bytes of an Ethernet header."""

VLAN_TAG = 4
P_IP, P_IP6, P_VLAN, P_QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8
DNS = 53

EXTENSIONS_MAX = 6
"""IPv6 extension headers that are followed; more are nobody's honest packet."""

_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = frozenset({0, 43, _FRAGMENT, _AUTHENTICATION, 60})
_IP4 = Struct(">BxHHHxBxx4s4s")
_IP6 = Struct(">IHBx16s16s")
_PORTS = Struct(">HH")


class Packet(msgspec.Struct):
    """Headers of an IP packet. header: bytes of its headers, IP's and the next. length: bytes of it all.

    fragment: names the datagram that it is a piece of; empty if it is whole. first: has the ports.
    """

    source: str
    target: str
    protocol: int
    length: int
    header: int
    payload: bytes
    fragment: bytes = b""
    first: bool = True
    source_port: int = 0
    target_port: int = 0
    tcp_flags: int = 0


def dissect(frame: bytes, link: int, length: int) -> Packet | None:
    """The headers of a frame that has `length` bytes and may be cut; None if it is no whole header of IP.

    A packet of IP tells its own length; padding is not part of it. What stands for several packets has none.
    """
    if link:
        protocol = int.from_bytes(frame[12:14], "big")
    else:
        protocol = {4: P_IP, 6: P_IP6}.get(frame[0] >> 4, 0) if frame else 0
    at = link
    while protocol in (P_VLAN, P_QINQ) and at < link + 2 * VLAN_TAG:
        protocol = int.from_bytes(frame[at + 2 : at + 4], "big")
        at += VLAN_TAG
    view = frame[at:]
    if protocol == P_IP and len(view) >= _IP4.size and view[0] >> 4 == 4 and view[0] & 15 >= 5:
        packet = _ip4(view, length - at)
    elif protocol == P_IP6 and len(view) >= _IP6.size and view[0] >> 4 == 6:
        packet = _ip6(view, length - at)
    else:
        return None
    _transport(packet, view)
    return packet


def _ip4(view: bytes, length: int) -> Packet:
    version, total, _ident, offset, protocol, source, target = _IP4.unpack_from(view)
    return Packet(
        socket.inet_ntop(socket.AF_INET, source),
        socket.inet_ntop(socket.AF_INET, target),
        protocol,
        min(length, total) if total >= _IP4.size else length,
        (version & 15) * 4,
        b"",
        view[4:6] + view[9:10] + view[12:20] if offset & 0x3FFF else b"",
        not offset & 0x1FFF,
    )


def _ip6(view: bytes, length: int) -> Packet:
    _, payload, following, source, target = _IP6.unpack_from(view)
    packet = Packet(
        socket.inet_ntop(socket.AF_INET6, source),
        socket.inet_ntop(socket.AF_INET6, target),
        following,
        min(length, _IP6.size + payload) if payload else length,
        _IP6.size,
        b"",
    )
    for _ in range(EXTENSIONS_MAX):
        extension = view[packet.header : packet.header + 8]
        if packet.protocol not in _EXTENSIONS or len(extension) < 8 or not packet.first:
            break
        if packet.protocol == _FRAGMENT:
            packet.fragment = extension[4:8] + extension[:1] + view[8:40]
            packet.first = not int.from_bytes(extension[2:4], "big") & 0xFFF8
            packet.header += 8
        elif packet.protocol == _AUTHENTICATION:
            packet.header += (extension[1] + 2) * 4
        else:
            packet.header += (extension[1] + 1) * 8
        packet.protocol = extension[0]
    return packet


def _transport(packet: Packet, view: bytes) -> None:
    """Add ports and payload."""
    header = view[packet.header : packet.header + 14]
    if not packet.first:
        return
    if packet.protocol in (TCP, UDP) and len(header) >= _PORTS.size:
        packet.source_port, packet.target_port = _PORTS.unpack_from(header)
    if packet.protocol == TCP and len(header) == 14:
        packet.tcp_flags = header[13]
        packet.header += (header[12] >> 4) * 4
    elif packet.protocol in (UDP, ICMP, ICMP6):
        packet.header += 8
    packet.payload = view[packet.header : packet.length]
