"""A log file that grows, followed across rotation, truncation and restarts of the agent.

What the bytes mean does not live here: the caller says how many of them are whole items.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from vedette.agent.losses import Losses

log = logging.getLogger(__name__)

SLICE = 65_536
"""Bytes read at once: bounds memory, and how long a thread is held. No line that we know is longer."""

HEAD = 64
"""First bytes by which a file is known again. The inode does not suffice: ext4 gives a deleted file's
number to the next one."""

ROTATION_GRACE_S = 5.0
"""How long a file that was renamed is still read: its writer goes on until it is told (logrotate first
renames, then signals)."""

SIBLINGS = 64
"""Names beside the file that are tried when it was rotated while the agent was away."""

LINE_TOO_LONG = "line too long"


class Position(msgspec.Struct, frozen=True):
    """How far a file has been read, and which file that was.

    head: digest of its first `HEAD` bytes, or of as many as had been read.
    """

    inode: int
    offset: int
    head: str


NOWHERE = Position(0, 0, "")
"""In no file yet. No file has inode 0."""


def whole_lines(chunk: bytes) -> int:
    """How many bytes of `chunk` are complete lines."""
    return chunk.rfind(b"\n") + 1


def _digest(fd: int, length: int) -> str:
    return hashlib.blake2b(os.pread(fd, length, 0), digest_size=8).hexdigest()


class Tail:
    """What is appended to one file from now on, or since `position` was taken.

    whole: how many of the bytes given to it are complete items; the rest is read again later.
    first: where to begin in a file of so many bytes that was there before (its end, on an item's boundary).
    A file that appears only later is read from its beginning.
    """

    def __init__(
        self,
        path: Path,
        position: Position | None = None,
        *,
        whole: Callable[[bytes], int] = whole_lines,
        first: Callable[[int], int] = lambda size: size,
        losses: Losses | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.problem = ""
        """Why the file cannot be read now; empty if it can, or is just not there."""
        self._whole = whole
        self._losses = losses or Losses()
        self._clock = clock
        self._fd: int | None = None
        self._offset = 0
        self._skipping = False
        self._head = b""
        self._seen = -1
        self._resume(position) if position else self._begin(first)

    @property
    def following(self) -> bool:
        """Whether there is a file to read."""
        return self._fd is not None

    def position(self) -> Position:
        """Where reading would go on: in a file that is not there yet, at its beginning."""
        if self._fd is None:
            return NOWHERE
        return Position(os.fstat(self._fd).st_ino, self._offset, _digest(self._fd, min(HEAD, self._offset)))

    def changed(self) -> bool:
        """Whether `read` may have something: two cheap calls, fit for polling."""
        if self._fd is None:
            return self.path.exists()
        return os.fstat(self._fd).st_size != self._seen or self._is_rotated()

    def read(self) -> bytes:
        """The next whole items, at most `SLICE` bytes; empty when there are no more for now."""
        if self._fd is None and not self._open(self.path):
            return b""
        while True:
            chunk = self._next()
            if chunk or not self._move_on():
                return chunk

    def close(self) -> None:
        """Release the file. The position can still be asked for before, not after."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _begin(self, first: Callable[[int], int]) -> None:
        if self._open(self.path) and self._fd is not None:
            self._offset = first(os.fstat(self._fd).st_size)

    def _resume(self, position: Position) -> None:
        """Find the file of `position` again, under its own name or the one it was rotated to."""
        for path in (self.path, *self._siblings()):
            if not self._open(path) or self._fd is None:
                continue
            known = os.fstat(self._fd)
            head = _digest(self._fd, min(HEAD, position.offset))
            if (known.st_ino, head) == (position.inode, position.head) and known.st_size >= position.offset:
                self._offset = position.offset
                return
            self.close()
        if position != NOWHERE:
            log.info("%s was rotated away or cut while the agent was not running", self.path)
        self._open(self.path)

    def _siblings(self) -> list[Path]:
        try:
            names = [name for name in os.listdir(self.path.parent) if name.startswith(self.path.name)]
        except OSError:
            return []
        return [self.path.parent / name for name in sorted(names)[:SIBLINGS] if name != self.path.name]

    def _open(self, path: Path) -> bool:
        """Open a file at its beginning; False, with the problem noted, if that is not possible."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            self.problem = ""
            return False
        except OSError as error:
            self.problem = error.strerror or str(error)
            return False
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            self.problem = "not a regular file"
            return False
        self.problem = ""
        self._fd, self._offset, self._skipping, self._seen, self._head = fd, 0, False, -1, b""
        return True

    def _next(self) -> bytes:
        """The next whole items of the file that is open."""
        assert self._fd is not None
        while True:
            self._seen = os.fstat(self._fd).st_size
            if self._was_cut():
                self._offset, self._skipping, self._head = 0, False, b""
            chunk = os.pread(self._fd, SLICE, self._offset)
            if len(self._head) < HEAD:
                self._head = os.pread(self._fd, min(HEAD, self._offset + len(chunk)), 0)
            if self._skipping and chunk:
                self._skip(chunk)
                continue
            length = self._whole(chunk)
            if length or len(chunk) < SLICE:
                self._offset += length
                return chunk[:length]
            self._losses.count(LINE_TOO_LONG, hits=1)
            self._skipping = True

    def _skip(self, chunk: bytes) -> None:
        """Pass over the rest of a line that was too long: nothing inside it may be taken for a line."""
        end = chunk.find(b"\n") + 1
        self._offset += end or len(chunk)
        self._skipping = not end

    def _was_cut(self) -> bool:
        """Whether the file was truncated, even if it has grown past our place again since."""
        assert self._fd is not None
        return self._seen < self._offset or os.pread(self._fd, len(self._head), 0) != self._head

    def _is_rotated(self) -> bool:
        assert self._fd is not None
        try:
            now = os.stat(self.path)
        except OSError:
            return False
        ours = os.fstat(self._fd)
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)

    def _move_on(self) -> bool:
        """At the end of a file that is no longer the one under its name, open that one.

        Not before the grace is over, counted from the inode's change time: renaming sets it, writing too.
        """
        assert self._fd is not None
        age = self._clock() - os.fstat(self._fd).st_ctime
        if not self._is_rotated() or 0 <= age < ROTATION_GRACE_S:
            return False
        self.close()
        return self._open(self.path)


class Followed:
    """What all sources that read one growing file have in common."""

    tail: Tail

    @property
    def problem(self) -> str:
        """Why the file cannot be read now; empty if it can, or is just not there."""
        return self.tail.problem

    def changed(self) -> bool:
        """Whether there may be something new: cheap, fit for polling."""
        return self.tail.changed()

    def position(self) -> Position:
        """Where reading would go on."""
        return self.tail.position()

    def close(self) -> None:
        """Release the file."""
        self.tail.close()
