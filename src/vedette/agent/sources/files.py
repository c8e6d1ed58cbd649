"""Reading the small and the long files of a device, bounded, wherever its root stands.

A file may be anything by the time it is read: only regular files are opened (a FIFO would block, a
character device would never end), and no line or value is longer than a bound.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

MAX_SMALL_FILE = 65_536
"""Bytes read of a small file. A sysfs attribute has at most 4,096; a package's metadata rarely 20,000."""

MAX_LINE = 4_096
"""Bytes of a line that are looked at; what follows until its end is skipped."""

MAX_TEXT = 256
"""Characters kept of a name, version or vendor. The longest Debian maintainer field has about 110."""


def opened(path: Path) -> io.BufferedReader:
    """A regular file, opened to be read. Raises OSError, also if it is not a regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{path}: not a regular file")
    return io.BufferedReader(io.FileIO(fd))


def content(path: Path, limit: int = MAX_SMALL_FILE) -> bytes:
    """The first `limit` bytes of a file; nothing if it is not there or cannot be read."""
    try:
        with opened(path) as file:
            return file.read(limit)
    except OSError:
        return b""


def text(raw: bytes, limit: int = MAX_TEXT) -> str:
    """Bytes as a value of an event: stripped, cut at `limit`, what is not UTF-8 as \\xNN."""
    return raw.strip(b" \t\r\n\0").decode(errors="backslashreplace")[:limit]


def attribute(path: Path) -> str:
    """The value in a one-value file of /sys, /proc or /etc; empty if there is none."""
    return text(content(path))


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file of any length, without their ends. Raises OSError if it cannot be opened."""
    with opened(path) as file:
        while line := file.readline(MAX_LINE):
            yield line.rstrip(b"\r\n")
            while len(line) == MAX_LINE and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)


def entries(directory: Path) -> list[Path]:
    """What a directory holds, by name; nothing if it is not there or cannot be read."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
