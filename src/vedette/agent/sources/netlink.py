"""Netlink messages, and dumps of what the kernel holds (netlink(7), <linux/netlink.h>).

Numbers are in the machine's byte order.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

MAX_DATAGRAM = 65_536
"""Bytes taken of one datagram. The kernel fills dumps in pieces of at most 32 KB; changes are smaller."""

MAX_DATAGRAMS = 4_096
"""Datagrams of one dump: 100,000 interfaces and more. A dump that does not end is a kernel fault."""

REPLY_TIMEOUT = 5.0
"""Seconds until a dump must have come; the kernel answers in the same system call."""

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # length, type
NLM_F_REQUEST_DUMP = 0x1 | 0x300
NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 2, 3, 4
TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


def messages(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """(type, payload) of each whole message in a datagram; ends at the first that is malformed."""
    view, start = memoryview(data), 0
    while start + HEADER.size <= len(view):
        length, kind, _flags, _sequence, _port = HEADER.unpack_from(view, start)
        if not HEADER.size <= length <= len(view) - start:
            return
        yield kind, view[start + HEADER.size : start + length]
        start += -(-length // 4) * 4


def attributes(data: memoryview) -> dict[int, memoryview]:
    """Attribute type → value; ends at the first that is malformed. Of two of a type the first counts."""
    found: dict[int, memoryview] = {}
    start = 0
    while start + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if not ATTRIBUTE.size <= length <= len(data) - start:
            break
        found.setdefault(kind & TYPE_MASK, data[start + ATTRIBUTE.size : start + length])
        start += -(-length // 4) * 4
    return found


def open_socket(protocol: int, groups: int = 0) -> socket.socket:
    """A socket of one netlink family that hears these multicast groups. Raises OSError."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        netlink.bind((0, groups))
    except OSError:
        netlink.close()
        raise
    return netlink


def dump(netlink: socket.socket, kind: int, request: bytes) -> Iterator[tuple[int, memoryview]]:
    """(type, payload) of every message that answers a dump request. Raises OSError, also in the middle."""
    netlink.settimeout(REPLY_TIMEOUT)
    netlink.send(HEADER.pack(HEADER.size + len(request), kind, NLM_F_REQUEST_DUMP, 1, 0) + request)
    for _ in range(MAX_DATAGRAMS):
        data, (port, _groups) = netlink.recvfrom(MAX_DATAGRAM)
        for answer, payload in messages(data) if port == 0 else ():  # 0: from the kernel
            if answer == NLMSG_DONE:
                return
            if answer == NLMSG_ERROR:
                code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else errno.EPROTO
                raise OSError(code, f"netlink: {os.strerror(code)}")
            yield answer, payload
    raise OSError(errno.EPROTO, "netlink: a dump did not end")
