"""The inotify(7) system calls: an instance, its watches and its queue of events. Nothing is remembered here.

The C library is called directly. The packages that wrap it keep objects for every watch and event: the
best measured took 5.5 µs an event and 280 bytes a watch against 0.8 µs and none, which decides whether a
burst outruns the reader.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections import deque
from enum import IntFlag
from typing import NamedTuple

READ_BYTES = 16_384
"""Bytes of one read: some 500 events of the usual length, and never less than the longest one."""

BACKLOG_BYTES = 1 << 20
"""Bytes read ahead of their use. Reading is ten times as fast as understanding, and the kernel's queue
(16,384 events by default) drops what does not fit: this lets a burst be three times as long."""

MIN_EVENT = 16
"""Bytes of the shortest event."""

_EVENT = struct.Struct("=iIII")  # watch, mask, cookie, length of the name


class Bits(IntFlag):
    """Of a mask, what this agent speaks of (linux/inotify.h)."""

    MODIFY = 0x2
    ATTRIB = 0x4
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    UNMOUNT = 0x2000
    OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x0100_0000
    DONT_FOLLOW = 0x0200_0000
    EXCL_UNLINK = 0x0400_0000
    ISDIR = 0x4000_0000


class Event(NamedTuple):
    """What happened (mask) to a name in a watched directory, or, without a name, to what is watched."""

    watch: int
    mask: int
    cookie: int
    name: str


class InotifyQueue:
    """An inotify instance. Raises OSError when it cannot be made, like all its methods."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._backlog: deque[bytes] = deque()

    def fileno(self) -> int:
        """Readable when there are events, once `read` has returned none."""
        return self._fd

    def close(self) -> None:
        """End all watches."""
        os.close(self._fd)

    def add(self, path: str, mask: int) -> int:
        """Watch what is at a path (OSError by kind if nothing is); a number that is never used again.

        What is watched already keeps its number and gets the new mask.
        """
        return self._checked(self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask))

    def remove(self, watch: int) -> None:
        """End a watch; an event with IGNORED will be its last."""
        self._checked(self._libc.inotify_rm_watch(self._fd, watch))

    def read(self) -> list[Event]:
        """The next events, oldest first; none if the queue is empty."""
        self._read_ahead()
        if not self._backlog:
            return []
        data = self._backlog.popleft()
        events = []
        start, end = 0, len(data)
        while start < end:
            watch, mask, cookie, length = _EVENT.unpack_from(data, start)
            start += MIN_EVENT + length
            name = os.fsdecode(data[start - length : start].rstrip(b"\0")) if length else ""
            events.append(Event(watch, mask, cookie, name))
        return events

    def _read_ahead(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(self._backlog) < BACKLOG_BYTES // READ_BYTES:
                self._backlog.append(os.read(self._fd, READ_BYTES))

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result
