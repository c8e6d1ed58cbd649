"""Connections from the kernel's sock_diag family: whose each socket is, and of TCP how much it carried.

Facts: sock_diag(7), <linux/inet_diag.h>, <linux/tcp.h>. Listening sockets are in `sources.sock_diag`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from struct import Struct

import msgspec

from vedette.agent.losses import Loss
from vedette.agent.sources.flow import TCP, UDP, Finished, Flow, Identity, Owner
from vedette.agent.sources.netlink import attributes
from vedette.agent.sources.rtnetlink import Link
from vedette.agent.sources.sock_diag import TCP_LISTEN, Sock, socks

CONNECTIONS_MAX = 65_536
"""Sockets of a protocol taken from one dump: what a busy gateway has at most. The rest is not looked at."""

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
    for protocol in protocols:
        connected = (s for s in socks(protocol, _ALL_BUT_LISTENERS, 1 << _INFO - 1) if s.peer_port)
        for sock in islice(connected, CONNECTIONS_MAX):
            yield _connection(protocol, sock)


def _connection(protocol: int, sock: Sock) -> Connection:
    local, remote = (text.removeprefix(_IPV4_MAPPED) for text in (sock.address, sock.peer_address))
    identity = Identity(sock.port, sock.peer_port, protocol, local, remote)
    info = attributes(sock.extensions).get(_INFO, memoryview(b""))
    acked, received, out, into = _TCP_INFO.unpack_from(info) if len(info) >= _TCP_INFO.size else (0, 0, 0, 0)
    return Connection(identity, sock.cookie, sock.user_id, sock.inode, received, acked, into, out)


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
