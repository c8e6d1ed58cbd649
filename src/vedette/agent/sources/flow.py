"""What every source of network activity says: `Flow` and `Told`, facts of packets, unnamed.

Also here: which process made a socket (`Owner`), and how addresses of any source become text.
"""

from __future__ import annotations

import socket
from enum import IntEnum
from typing import Literal, NamedTuple

import msgspec

from vedette.agent.losses import Loss

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
"""IP protocol numbers (IANA) of those that the sources look into."""

FIRST_BYTES = 16
"""Bytes of a first payload that are looked at, where it is not a ClientHello or a DNS answer."""

COPY_MAX = 2048
"""Bytes of a DNS answer or a ClientHello that are looked at: some of the latter are near 1,800."""

Delivery = Literal["", "broadcast", "multicast"]
"""Whether a packet was sent to many."""

_MAPPED = bytes(10) + b"\xff\xff"


class Identity(NamedTuple):
    """What makes two packets the same flow, seen from this device. Ports are 0 where there are none."""

    local_port: int
    remote_port: int
    protocol: int
    local_address: str
    remote_address: str


class Owner(NamedTuple):
    """The process that made a socket, None where only the user is known. uid: its real user then, as the
    initial namespace numbers it.

    started: when the process started, in nanoseconds since boot, so that a later process with the same id
    is not taken for it; 0 where the process was seen to hold the socket just now.
    """

    pid: int | None
    uid: int
    started: int = 0


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """Packets of one flow since it was last asked for.

    at: Unix seconds of the first. Bytes are those of IP packets, headers included. Packets are counted as
    on the wire. delivery: how a packet of it was sent, if to many.
    arguments: the beginning of the owner's, each ended by a NUL, as they were when it made the socket.
    accepted: True if the peer opened the connection, False if this device did, None if neither was seen.
    """

    identity: Identity
    at: float
    bytes_in: int = 0
    bytes_out: int = 0
    packets_in: int = 0
    packets_out: int = 0
    owner: Owner | None = None
    arguments: bytes = b""
    delivery: Delivery = ""
    accepted: bool | None = None


class Finished(NamedTuple):
    """What a source saw since it was last asked: flows, oldest first, and what was lost.

    packets: IP packets that were seen; those of the flows and the losses add up to it. not_ip: other frames.
    others: packets for other hosts, which a device in promiscuous mode receives.
    """

    flows: list[Flow]
    losses: list[Loss]
    packets: int = 0
    not_ip: int = 0
    others: int = 0


class Kind(IntEnum):
    """What was copied out of a packet: a first payload, or the answer of a DNS server that was asked."""

    FIRST = 0
    ANSWER = 1


class Told(msgspec.Struct, frozen=True):
    """Some payload of a flow: first bytes, a ClientHello, or a DNS answer; `at`: Unix seconds."""

    identity: Identity
    at: float
    kind: Kind
    data: bytes


def address_text(raw: bytes) -> str:
    """16 bytes as an IPv6 address, or as an IPv4 address if they are one, mapped."""
    if raw.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)
