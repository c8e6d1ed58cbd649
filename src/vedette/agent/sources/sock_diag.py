"""Sockets that wait for peers, from the kernel's sock_diag netlink family.

Facts: sock_diag(7), <linux/inet_diag.h>. One dump for each protocol and address family; needs no
capability. The sockets of the agent's network namespace are seen, as in ss(8).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from struct import Struct
from typing import Literal

import msgspec

from vedette.agent.sources import Unavailable
from vedette.agent.sources.rtnetlink import messages

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST_DUMP = 0x1 | 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3

TCP_CLOSE, TCP_LISTEN = 7, 10
"""<net/tcp_states.h>. A UDP socket that is connected to nobody is in the state CLOSE."""

HEADER = Struct("=IHHII")
REQUEST = Struct("=BBBxI48x")
MESSAGE = Struct("=4B2H16s16sI8s5I")
ERROR = Struct("=i")

RECEIVE_BYTES = 65_536
"""One datagram of a dump has at most 32 KB."""

PATIENCE_S = 5.0
"""A dump of thousands of sockets takes milliseconds; a kernel that does not answer is not waited for."""

Protocol = Literal["TCP", "UDP"]
STATES: dict[Protocol, int] = {"TCP": 1 << TCP_LISTEN, "UDP": 1 << TCP_CLOSE}
NUMBERS: dict[Protocol, int] = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP}


class Listener(msgspec.Struct, frozen=True):
    """A listening socket. inode: what /proc/<pid>/fd calls it. user_id: who made it."""

    protocol: Protocol
    address: str
    port: int
    user_id: int
    inode: int


def listeners() -> Iterator[Listener]:
    """Every listening TCP and unconnected, bound UDP socket. Raises Unavailable."""
    try:
        channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
    except OSError as error:
        raise Unavailable(f"sock_diag netlink: {error.strerror}; the kernel needs CONFIG_INET_DIAG") from None
    with channel:
        channel.settimeout(PATIENCE_S)
        for protocol in STATES:
            for family in (socket.AF_INET, socket.AF_INET6):
                yield from _dump(channel, family, protocol)


def _dump(channel: socket.socket, family: int, protocol: Protocol) -> Iterator[Listener]:
    request = REQUEST.pack(family, NUMBERS[protocol], 0, STATES[protocol])
    header = HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0)
    try:
        channel.send(header + request)
        while True:
            for kind, body in messages(channel.recv(RECEIVE_BYTES)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise OSError(-ERROR.unpack_from(body)[0], "dump refused")
                if (found := _listener(protocol, body)) and found.port:
                    yield found
    except OSError as error:
        reason = f"sock_diag netlink, {protocol}: {error.strerror or error}"
        raise Unavailable(f"{reason}; the kernel needs CONFIG_INET_{protocol}_DIAG") from None


def _listener(protocol: Protocol, body: memoryview) -> Listener | None:
    """From a struct inet_diag_msg; ports and addresses are in network order, the rest is in the host's."""
    if len(body) < MESSAGE.size:
        return None
    family, _state, _timer, _retrans, port, _peer_port, source, _peer, _interface, _cookie, *rest = (
        MESSAGE.unpack_from(body)
    )
    _expires, _receive_queue, _send_queue, user_id, inode = rest
    address = ip_address(source[:4] if family == socket.AF_INET else source)
    return Listener(protocol, str(address), socket.ntohs(port), user_id, inode)
