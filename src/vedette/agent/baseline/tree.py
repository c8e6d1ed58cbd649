"""File trees: the few operations that everything in the baseline rests on, on disk and in memory.

A tree knows no links to follow and no formats; `device.Device` adds those. Paths are absolute and
belong to the tree: `/etc/passwd` of a tree at `/mnt/image` is `/mnt/image/etc/passwd`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from vedette.agent.baseline.programs import Programs


class Stat(NamedTuple):
    """What a check may ask about a file. `device` tells file systems apart."""

    mode: int
    uid: int
    gid: int
    device: int = 0

    @property
    def permissions(self) -> int:
        """The twelve permission bits."""
        return stat.S_IMODE(self.mode)

    @property
    def is_directory(self) -> bool:
        """True for a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """True for a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        """True for a symbolic link."""
        return stat.S_ISLNK(self.mode)


class Tree(Protocol):
    """A tree of files. What is not there is None or empty; what may not be read raises OSError."""

    def lstat(self, path: str) -> Stat | None:
        """About the file itself, not what a link points to."""
        ...

    def target(self, path: str) -> str:
        """Where a link points, as written in it."""
        ...

    def read(self, path: str, limit: int) -> bytes | None:
        """The first `limit` bytes of a regular file."""
        ...

    def names(self, path: str) -> Iterator[str]:
        """Names in a directory, in any order."""
        ...

    def run(self, argv: Sequence[str], seconds: float) -> str | None:
        """What a program prints within so many seconds; None where there is no answer."""
        ...


class DiskTree:
    """The tree below a directory; `/` is the running system."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._prefix = "" if root == Path("/") else str(root)
        self._live = root == Path("/")
        self._programs = Programs()

    def lstat(self, path: str) -> Stat | None:
        """See `Tree`."""
        try:
            found = os.lstat(self._prefix + path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stat(found.st_mode, found.st_uid, found.st_gid, found.st_dev)

    def target(self, path: str) -> str:
        """See `Tree`."""
        return os.readlink(self._prefix + path)

    def read(self, path: str, limit: int) -> bytes | None:
        """See `Tree`. O_NONBLOCK: a FIFO put in a file's place must not stop the scan."""
        try:
            descriptor = os.open(self._prefix + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(limit)
        except ProcessLookupError:  # a file of /proc whose process has ended
            return None
        finally:
            os.close(descriptor)

    def names(self, path: str) -> Iterator[str]:
        """See `Tree`."""
        try:
            with os.scandir(self._prefix + path) as entries:
                yield from (entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return

    def run(self, argv: Sequence[str], seconds: float) -> str | None:
        """See `Tree`. Nothing is run for a tree that is not the running system."""
        return self._programs.output_of(argv, seconds) if self._live else None

    def close(self) -> None:
        """End a program that another thread waits for; none is run any more."""
        self._programs.close()


class File(NamedTuple):
    """A regular file of a memory tree."""

    content: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


class Directory(NamedTuple):
    """A directory of a memory tree; `device` other than 0 makes it a mount point."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    device: int = 0


class Link(NamedTuple):
    """A symbolic link of a memory tree."""

    target: str


Node = str | File | Directory | Link
Example = Mapping[str, Node]
"""A miniature device: path → content or node. `$ nft list ruleset` → what that program prints."""

_KIND = {File: stat.S_IFREG, Directory: stat.S_IFDIR}


class MemoryTree:
    """A tree out of an `Example`; parent directories are made. Serves examples and tests."""

    def __init__(self, example: Example) -> None:
        self._nodes: dict[str, File | Directory | Link] = {"/": Directory()}
        self._outputs = {key[2:]: str(value) for key, value in example.items() if key.startswith("$ ")}
        for path, node in example.items():
            if not path.startswith("$ "):
                for parent in PurePosixPath(path).parents:
                    self._nodes.setdefault(str(parent), Directory())
                self._nodes[path] = File(node) if isinstance(node, str) else node

    def lstat(self, path: str) -> Stat | None:
        """See `Tree`."""
        node = self._nodes.get(path)
        if node is None:
            return None
        if isinstance(node, Link):
            return Stat(stat.S_IFLNK | 0o777, 0, 0, self._device(path))
        return Stat(_KIND[type(node)] | node.mode, node.uid, node.gid, self._device(path))

    def target(self, path: str) -> str:
        """See `Tree`."""
        node = self._nodes[path]
        assert isinstance(node, Link), f"{path} is not a link"
        return node.target

    def read(self, path: str, limit: int) -> bytes | None:
        """See `Tree`."""
        node = self._nodes.get(path)
        return node.content.encode()[:limit] if isinstance(node, File) else None

    def names(self, path: str) -> Iterator[str]:
        """See `Tree`."""
        inside = path.rstrip("/") + "/"
        below = (name.removeprefix(inside) for name in self._nodes if name.startswith(inside))
        return (name for name in below if name and "/" not in name)

    def run(self, argv: Sequence[str], seconds: float) -> str | None:
        """See `Tree`: what the example says that the program prints."""
        return self._outputs.get(" ".join(argv))

    def _device(self, path: str) -> int:
        for place in (path, *(str(parent) for parent in PurePosixPath(path).parents)):
            node = self._nodes.get(place)
            if isinstance(node, Directory) and node.device:
                return node.device
        return 0
