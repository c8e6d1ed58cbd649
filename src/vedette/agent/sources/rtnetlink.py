"""Network interfaces and addresses as the kernel tells them over NETLINK_ROUTE (rtnetlink(7)).

A small parser of the messages that the agent needs, and a socket that is told of changes. Which interface
matters to whom does not live here.

Layouts: linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h. Numbers are in the
machine's byte order.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from vedette.agent.sources import Overrun
from vedette.agent.sources.netlink import MAX_DATAGRAM, NLMSG_OVERRUN, attributes, dump, messages, open_socket

RECEIVE_BUFFER = 262_144
"""Bytes of changes the kernel keeps for us: some 200 link messages. Beyond it ENOBUFS, and a new dump."""

ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772

_LINK = struct.Struct("=BxHiII")  # family, device type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTMGRP_LINK = 0x1

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
        self._socket = open_socket(socket.NETLINK_ROUTE, _RTMGRP_LINK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
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
        if kind == NLMSG_OVERRUN:
            raise Overrun
        if kind in (_RTM_NEWLINK, _RTM_DELLINK) and (link := parse_link(payload)):
            yield LinkChange(link, gone=kind == _RTM_DELLINK)


def _dump(request: int) -> Iterator[tuple[int, memoryview]]:
    with open_socket(socket.NETLINK_ROUTE) as netlink:
        yield from dump(netlink, request, bytes(16))


def _text(value: memoryview | None) -> str:
    return bytes(value or b"").split(b"\0")[0].decode(errors="backslashreplace")


def _number(value: memoryview | None) -> int:
    """An unsigned number of whatever width; 0 if there is none."""
    return int.from_bytes(value[:8], sys.byteorder) if value is not None else 0
