"""Connections from the kernel's sock_diag family: whose each socket is, and of TCP how much it carried.

Facts: sock_diag(7), <linux/inet_diag.h>, <linux/tcp.h>. Listening sockets are in `sources.sock_diag`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address
from struct import Struct

import msgspec

from vedette.agent.losses import Loss
from vedette.agent.sources import Unavailable
from vedette.agent.sources.flow import TCP, UDP, Finished, Flow, Identity, Owner
from vedette.agent.sources.rtnetlink import Link, attributes, messages
from vedette.agent.sources.sock_diag import (
    ERROR,
    HEADER,
    MESSAGE,
    NETLINK_SOCK_DIAG,
    NLM_F_REQUEST_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    PATIENCE_S,
    RECEIVE_BYTES,
    SOCK_DIAG_BY_FAMILY,
    TCP_LISTEN,
)

CONNECTIONS_MAX = 65_536
"""Sockets taken from one dump: what a busy gateway has at most. The rest is not looked at."""

_REQUEST = Struct("=BBBxI48x")
_ALL_BUT_LISTENERS = 0xFFF & ~(1 << TCP_LISTEN)
_INFO = 2  # INET_DIAG_INFO; its bit in the request is one lower
_TCP_INFO = Struct("=120xQQII")  # bytes acknowledged, bytes received, segments out, segments in
_IPV4_MAPPED = "::ffff:"


class Connection(msgspec.Struct, frozen=True):
    """A connected socket. inode: what /proc/<pid>/fd calls it; 0 when no process holds it any more.

    TCP, since it was opened: payload bytes received and acknowledged by the peer, segments in and out.
    """

    identity: Identity
    cookie: bytes
    uid: int
    inode: int
    bytes_in: int = 0
    bytes_out: int = 0
    segments_in: int = 0
    segments_out: int = 0


def connections(protocols: tuple[int, ...] = (TCP, UDP)) -> Iterator[Connection]:
    """Every connected socket of this network namespace. Raises Unavailable."""
    try:
        channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
    except OSError as error:
        raise Unavailable(
            f"sock_diag netlink: {error.strerror}", remedy="run a kernel built with CONFIG_INET_DIAG"
        ) from None
    with channel:
        channel.settimeout(PATIENCE_S)
        for protocol in protocols:
            for family in (socket.AF_INET, socket.AF_INET6):
                yield from _dump(channel, family, protocol)


def _dump(channel: socket.socket, family: int, protocol: int) -> Iterator[Connection]:
    request = _REQUEST.pack(family, protocol, 1 << _INFO - 1, _ALL_BUT_LISTENERS)
    header = HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0)
    found = 0
    try:
        channel.send(header + request)
        while True:
            for kind, body in messages(channel.recv(RECEIVE_BYTES)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise OSError(-ERROR.unpack_from(body)[0], "dump refused")
                if found < CONNECTIONS_MAX and (connection := _connection(protocol, body)):
                    found += 1
                    yield connection
    except OSError as error:
        raise Unavailable(
            f"sock_diag netlink: {error.strerror or error}",
            remedy="run a kernel built with CONFIG_INET_TCP_DIAG and CONFIG_INET_UDP_DIAG",
        ) from None


def _connection(protocol: int, body: memoryview) -> Connection | None:
    """From a struct inet_diag_msg and its attributes; None if it is connected to nobody."""
    if len(body) < MESSAGE.size:
        return None
    family, _state, _timer, _retrans, port, peer_port, local, remote, _device, cookie, *rest = (
        MESSAGE.unpack_from(body)
    )
    _expires, _receive_queue, _send_queue, uid, inode = rest
    if not peer_port:
        return None
    identity = Identity(
        socket.ntohs(port), socket.ntohs(peer_port), protocol, _text(family, local), _text(family, remote)
    )
    info = attributes(body[MESSAGE.size :]).get(_INFO, memoryview(b""))
    acked, received, out, into = _TCP_INFO.unpack_from(info) if len(info) >= _TCP_INFO.size else (0, 0, 0, 0)
    return Connection(identity, cookie, uid, inode, received, acked, into, out)


def _text(family: int, raw: bytes) -> str:
    return str(ip_address(raw[:4] if family == socket.AF_INET else raw)).removeprefix(_IPV4_MAPPED)


class TcpDiag:
    """Activity of TCP connections by looking at them again and again: the last resort.

    A connection that comes and goes between two looks is not seen; bytes are payload alone.
    """

    label = "sock_diag (TCP only, payload bytes)"
    note = ""

    def __init__(self) -> None:
        self._before: dict[bytes, Connection] = {c.cookie: c for c in connections((TCP,))}

    def watch(self, link: Link) -> str:
        """Every device is seen already."""
        return ""

    def unwatch(self, index: int) -> None:
        """Nor is one given up."""

    async def finish(self) -> Finished:
        """What the connections carried since the last look. Raises Unavailable."""
        at = time.time()
        now = {connection.cookie: connection for connection in connections((TCP,))}
        flows = [
            flow
            for cookie, connection in now.items()
            if (flow := _difference(connection, self._before.get(cookie), at))
        ]
        self._before = now
        losses: list[Loss] = []
        return Finished(flows, losses, sum(flow.packets_in + flow.packets_out for flow in flows))

    def close(self) -> None:
        """Nothing is held."""


def _difference(now: Connection, before: Connection | None, at: float) -> Flow | None:
    packets_in = now.segments_in - (before.segments_in if before else 0)
    packets_out = now.segments_out - (before.segments_out if before else 0)
    if packets_in + packets_out <= 0 or now.identity.remote_address in ("127.0.0.1", "::1"):
        return None
    return Flow(
        identity=now.identity,
        at=at,
        bytes_in=now.bytes_in - (before.bytes_in if before else 0),
        bytes_out=now.bytes_out - (before.bytes_out if before else 0),
        packets_in=packets_in,
        packets_out=packets_out,
        owner=Owner(None, now.uid) if now.inode else None,
    )
