"""Notice when a file system is mounted or unmounted (proc(5), /proc/self/mountinfo).

inotify does not tell of a mount: its watches stay with the directory below. The kernel marks the mount
table as exceptional (EPOLLPRI) on every change. The table is also always readable, which would keep an
event loop awake, so it is asked for the mark alone, through an epoll of its own. Asking takes the mark
away, also asking whether to register: that epoll stays on the event loop, and an eventfd keeps the news.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
from pathlib import Path

from vedette.agent.sources.files import content

MOUNT_TABLE = Path("/proc/self/mountinfo")

MAX_TABLE = 4 << 20
"""Bytes of the mount table that are read: the kernel's own bound of 100,000 mounts is some 10 MB, and a
machine with a thousand containers has 2."""

_ESCAPED = re.compile(r"\\([0-7]{3})")


Mounts = frozenset[tuple[str, str]]
"""What is mounted, as (identity, mount point)."""


class MountWatch:
    """Changes of the mount table from now on, on the running event loop. Raises OSError without /proc."""

    def __init__(self) -> None:
        self._table = os.open(MOUNT_TABLE, os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._table, select.EPOLLPRI | select.EPOLLERR)
        self._news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), os.eventfd_write, self._news, 1)

    def fileno(self) -> int:
        """Readable from when something has been mounted or unmounted until `mounts` is called."""
        return self._news

    def mounts(self) -> Mounts:
        """What is mounted now."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._news)
        rows = os.fsdecode(content(MOUNT_TABLE, MAX_TABLE)).splitlines()
        split = (row.split(" ", 5) for row in rows)
        return frozenset((" ".join(fields[:4]), _plain(fields[4])) for fields in split if len(fields) > 5)

    def close(self) -> None:
        """Stop noticing."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        os.close(self._table)
        os.close(self._news)


def _plain(point: str) -> str:
    """A mount point without the escapes for blanks (`\\040`) and the like."""
    return _ESCAPED.sub(lambda escape: chr(int(escape[1], 8)), point)
