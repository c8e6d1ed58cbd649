"""Sockets from the kernel's sock_diag netlink family, and of them those that wait for peers.

Facts: sock_diag(7), <linux/inet_diag.h>. One dump for each protocol and address family; needs no
capability. The sockets of the agent's network namespace are seen, as in ss(8).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from struct import Struct
from typing import Literal, NamedTuple

import msgspec

from vedette.agent.sources import Unavailable
from vedette.agent.sources.netlink import dump, open_socket

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20

TCP_CLOSE, TCP_LISTEN = 7, 10
"""<net/tcp_states.h>. A UDP socket that is connected to nobody is in the state CLOSE."""

REQUEST = Struct("=BBBxI48x")  # family, protocol, extensions, states; of any address and port
MESSAGE = Struct("=4B2H16s16sI8s5I")

Protocol = Literal["TCP", "UDP"]
STATES: dict[Protocol, int] = {"TCP": 1 << TCP_LISTEN, "UDP": 1 << TCP_CLOSE}
NUMBERS: dict[Protocol, int] = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP}


class Sock(NamedTuple):
    """A socket as the kernel tells it (struct inet_diag_msg). extensions: the attributes behind it."""

    address: str
    port: int
    peer_address: str
    peer_port: int
    cookie: bytes
    user_id: int
    inode: int
    extensions: memoryview


class Listener(msgspec.Struct, frozen=True):
    """A listening socket. inode: what /proc/<pid>/fd calls it. user_id: who made it."""

    protocol: Protocol
    address: str
    port: int
    user_id: int
    inode: int


def listeners() -> Iterator[Listener]:
    """Every listening TCP and unconnected, bound UDP socket. Raises Unavailable."""
    for protocol, states in STATES.items():
        for sock in socks(NUMBERS[protocol], states):
            if sock.port:
                yield Listener(protocol, sock.address, sock.port, sock.user_id, sock.inode)


def socks(protocol: int, states: int, extensions: int = 0) -> Iterator[Sock]:
    """Every IPv4 and IPv6 socket of a protocol that is in one of these states (bits). Raises Unavailable."""
    try:
        with open_socket(NETLINK_SOCK_DIAG) as channel:
            for family in (socket.AF_INET, socket.AF_INET6):
                request = REQUEST.pack(family, protocol, extensions, states)
                for _kind, body in dump(channel, SOCK_DIAG_BY_FAMILY, request):
                    if len(body) >= MESSAGE.size:
                        yield _sock(family, body)
    except OSError as error:
        raise Unavailable(
            f"sock_diag netlink: {error.strerror or error}",
            remedy="run a kernel built with CONFIG_INET_DIAG, CONFIG_INET_TCP_DIAG and CONFIG_INET_UDP_DIAG",
        ) from None


def _sock(family: int, body: memoryview) -> Sock:
    """Ports and addresses are in network order, the rest is in the host's."""
    _family, _state, _timer, _retrans, port, peer_port, source, peer, _interface, cookie, *rest = (
        MESSAGE.unpack_from(body)
    )
    _expires, _receive_queue, _send_queue, user_id, inode = rest
    return Sock(
        _text(family, source),
        socket.ntohs(port),
        _text(family, peer),
        socket.ntohs(peer_port),
        cookie,
        user_id,
        inode,
        body[MESSAGE.size :],
    )


def _text(family: int, raw: bytes) -> str:
    return str(ip_address(raw[:4] if family == socket.AF_INET else raw))
