"""Kernel uevents (NETLINK_KOBJECT_UEVENT): devices that come and go, as the kernel itself tells.

Anybody with enough rights can send to this socket's group, udev among them. Only what the kernel sends
counts: its netlink port is 0, which no process can have; its group is 1; its credentials are process 0,
user 0.

Format: `add@/devices/…`, then `KEY=value` texts, all ended by NUL (lib/kobject_uevent.c).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

from vedette.agent.sources import Overrun

NETLINK_KOBJECT_UEVENT = 15
"""linux/netlink.h; the socket module does not know it."""

MAX_UEVENT = 8_192
"""Bytes of one message. The kernel's buffer for the keys has 2,048; a device path has at most 4,096."""

MAX_KEYS = 64
"""Keys of one message: the kernel's UEVENT_NUM_ENVP."""

RECEIVE_BUFFER = 262_144
"""Bytes the kernel keeps for us: some 200 messages. Beyond it ENOBUFS, and the devices are listed anew."""

_KERNEL_GROUP = 1
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: process, user, group


class Uevent(msgspec.Struct, frozen=True):
    """One message: what happened (`add`, `remove`, `change` …) to which device, and its keys."""

    action: str
    path: str
    keys: Mapping[str, str]

    @property
    def requested(self) -> bool:
        """True if a process asked for it by writing to /sys/…/uevent: nothing has happened."""
        return "SYNTH_UUID" in self.keys


def parse_uevent(data: bytes) -> Uevent | None:
    """The message in a datagram; None if it is malformed. Bytes that are not UTF-8 become \\xNN."""
    head, *parts = (part.decode(errors="backslashreplace") for part in data.split(b"\0", MAX_KEYS))
    action, at, path = head.partition("@")
    if not (action.isalpha() and at and path.startswith("/")):
        return None
    keys = dict(part.split("=", 1) for part in parts[: MAX_KEYS - 1] if "=" in part)
    if keys.get("ACTION") != action or keys.get("DEVPATH") != path:
        return None
    return Uevent(action, path, MappingProxyType(keys))


class UeventSocket:
    """A socket that receives the kernel's uevents of this network namespace. Raises OSError when made."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT
        )
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._socket.bind((0, _KERNEL_GROUP))
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable when there are messages."""
        return self._socket.fileno()

    def close(self) -> None:
        """No more messages."""
        self._socket.close()

    def uevents(self) -> Iterator[Uevent]:
        """What the kernel has queued. Raises Overrun if messages were lost."""
        while True:
            try:
                received = self._socket.recvmsg(MAX_UEVENT, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Overrun from error
                raise
            data, ancillary, flags, (port, groups) = received
            whole = not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
            from_kernel = (port, groups) == (0, _KERNEL_GROUP) and _sender(ancillary) == (0, 0)
            if whole and from_kernel and (uevent := parse_uevent(data)):
                yield uevent


def _sender(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int] | None:
    """(process, user) that the kernel vouches for."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) == _CREDENTIALS.size:
            process, user, _group = _CREDENTIALS.unpack(data)
            return process, user
    return None
