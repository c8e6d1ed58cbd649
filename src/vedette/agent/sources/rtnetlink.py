"""Network interfaces and addresses as the kernel tells them over NETLINK_ROUTE (rtnetlink(7)).

A small parser of the messages that the agent needs, and a socket that dumps and that is told of changes.
Which interface matters to whom does not live here.

Layouts: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h. Numbers are in the
machine's byte order.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from vedette.agent.sources import Overrun

MAX_DATAGRAM = 65_536
"""Bytes taken of one datagram. The kernel fills dumps in pieces of at most 32 KB; changes are smaller."""

MAX_DATAGRAMS = 4_096
"""Datagrams of one dump: 100,000 interfaces and more. A dump that does not end is a kernel fault."""

RECEIVE_BUFFER = 262_144
"""Bytes of changes the kernel keeps for us: some 200 link messages. Beyond it ENOBUFS, and a new dump."""

REPLY_TIMEOUT = 5.0
"""Seconds until a dump must have come; the kernel answers in the same system call."""

ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, device type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # length, type

_NLM_F_REQUEST_DUMP = 0x1 | 0x300
_NLMSG_ERROR, _NLMSG_DONE, _NLMSG_OVERRUN = 2, 3, 4
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTMGRP_LINK = 0x1
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_CARRIER = 1, 3, 5, 10, 18, 33
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_VLAN_ID = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


class Link(msgspec.Struct, frozen=True):
    """A network interface.

    device_type: ARPHRD_* number. kind: what made it (`veth`, `bridge`, `vlan` …), empty for hardware.
    flags: IFF_* bits. carrier: the kernel's IFLA_CARRIER. parent, master: interface indexes, 0 for none.
    """

    index: int
    name: str
    device_type: int
    kind: str
    flags: int
    carrier: bool
    mac: str
    parent: int
    master: int
    vlan: int | None

    @property
    def up(self) -> bool:
        """True if it has been switched on (IFF_UP)."""
        return bool(self.flags & 0x1)

    @property
    def connected(self) -> bool:
        """True if it is switched on and has a carrier (IFF_LOWER_UP)."""
        return bool(self.flags & 0x1_0000)


class Address(msgspec.Struct, frozen=True):
    """An address of an interface."""

    index: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    prefix: int


class LinkChange(NamedTuple):
    """An interface as it is now, or as it was when it went."""

    link: Link
    gone: bool


def messages(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """(type, payload) of each whole message in a datagram; ends at the first that is malformed."""
    view, start = memoryview(data), 0
    while start + _HEADER.size <= len(view):
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(view, start)
        if not _HEADER.size <= length <= len(view) - start:
            return
        yield kind, view[start + _HEADER.size : start + length]
        start += -(-length // 4) * 4


def attributes(data: memoryview) -> dict[int, memoryview]:
    """Attribute type → value; ends at the first that is malformed. Of two of a type the first counts."""
    found: dict[int, memoryview] = {}
    start = 0
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if not _ATTRIBUTE.size <= length <= len(data) - start:
            break
        found.setdefault(kind & _TYPE_MASK, data[start + _ATTRIBUTE.size : start + length])
        start += -(-length // 4) * 4
    return found


def parse_link(payload: memoryview) -> Link | None:
    """The interface in an RTM_NEWLINK or RTM_DELLINK message; None if it holds none."""
    if len(payload) < _LINK.size:
        return None
    family, device_type, index, flags, _change = _LINK.unpack_from(payload)
    if family != socket.AF_UNSPEC:  # bridge ports and the like repeat links in a shorter form
        return None
    values = attributes(payload[_LINK.size :])
    info = attributes(values.get(_IFLA_LINKINFO, memoryview(b"")))
    kind = _text(info.get(_IFLA_INFO_KIND))
    data = attributes(info.get(_IFLA_INFO_DATA, memoryview(b"")))
    return Link(
        index=index,
        name=_text(values.get(_IFLA_IFNAME)),
        device_type=device_type,
        kind=kind,
        flags=flags,
        carrier=bool(_number(values.get(_IFLA_CARRIER))),
        mac=values.get(_IFLA_ADDRESS, memoryview(b"")).hex(":"),
        parent=_number(values.get(_IFLA_LINK)),
        master=_number(values.get(_IFLA_MASTER)),
        vlan=_number(data.get(_IFLA_VLAN_ID)) if kind == "vlan" else None,
    )


def parse_address(payload: memoryview) -> Address | None:
    """The address in an RTM_NEWADDR message; None if it holds none of IP."""
    if len(payload) < _ADDRESS.size:
        return None
    family, prefix, _flags, _scope, index = _ADDRESS.unpack_from(payload)
    values = attributes(payload[_ADDRESS.size :])
    raw = bytes(values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS) or b"")  # IFA_ADDRESS may be the peer's
    with contextlib.suppress(ValueError):
        if family == socket.AF_INET:
            return Address(index, ipaddress.IPv4Address(raw), prefix)
        if family == socket.AF_INET6:
            return Address(index, ipaddress.IPv6Address(raw), prefix)
    return None


def links() -> dict[int, Link]:
    """All interfaces by index. Raises OSError."""
    dumped = (parse_link(payload) for kind, payload in _dump(_RTM_GETLINK) if kind == _RTM_NEWLINK)
    return {link.index: link for link in dumped if link}


def addresses() -> list[Address]:
    """All IPv4 and IPv6 addresses. Raises OSError."""
    dumped = (parse_address(payload) for kind, payload in _dump(_RTM_GETADDR) if kind == _RTM_NEWADDR)
    return [address for address in dumped if address]


class LinkWatch:
    """A socket that is told of every change of an interface."""

    def __init__(self) -> None:
        self._socket = _route_socket(_RTMGRP_LINK)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Readable when there are changes."""
        return self._socket.fileno()

    def close(self) -> None:
        """No more changes."""
        self._socket.close()

    def changes(self) -> Iterator[LinkChange]:
        """What the kernel has queued. Raises Overrun if changes were lost: continue with `links()`."""
        while True:
            try:
                data, (port, _groups) = self._socket.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Overrun from error
                raise
            if port == 0:  # from the kernel
                yield from _link_changes(data)


def _link_changes(data: bytes) -> Iterator[LinkChange]:
    for kind, payload in messages(data):
        if kind == _NLMSG_OVERRUN:
            raise Overrun
        if kind in (_RTM_NEWLINK, _RTM_DELLINK) and (link := parse_link(payload)):
            yield LinkChange(link, gone=kind == _RTM_DELLINK)


def _route_socket(groups: int) -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        netlink.bind((0, groups))
    except OSError:
        netlink.close()
        raise
    return netlink


def _dump(request: int) -> Iterator[tuple[int, memoryview]]:
    with _route_socket(0) as netlink:
        netlink.settimeout(REPLY_TIMEOUT)
        netlink.send(_HEADER.pack(_HEADER.size + 16, request, _NLM_F_REQUEST_DUMP, 1, 0) + bytes(16))
        for _ in range(MAX_DATAGRAMS):
            data, (port, _groups) = netlink.recvfrom(MAX_DATAGRAM)
            for kind, payload in messages(data) if port == 0 else ():
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else errno.EPROTO
                    raise OSError(code, f"rtnetlink: {os.strerror(code)}")
                yield kind, payload
    raise OSError(errno.EPROTO, "rtnetlink: a dump did not end")


def _text(value: memoryview | None) -> str:
    return bytes(value or b"").split(b"\0")[0].decode(errors="backslashreplace")


def _number(value: memoryview | None) -> int:
    """An unsigned number of whatever width; 0 if there is none."""
    return int.from_bytes(value[:8], sys.byteorder) if value is not None else 0
