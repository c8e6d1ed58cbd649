"""The device under inspection: files below one root, read with links resolved inside it, and facts.

`Device` reads; what a format means lives in the modules of facts (`mounts`, `kernel`, `services`, …),
which are functions marked `@fact`: computed once a scan, however many checks ask.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

from vedette.agent.baseline.tree import Stat, Tree
from vedette.agent.sources.program import TIME_LIMIT_S

MAX_FILE_BYTES = 1 << 20
"""Read of a configuration file: several times what the largest of them (services, grub.cfg) have."""

MAX_NAMES = 10_000
"""Names read of a directory of configuration: far more than any such directory has, yet bounded."""

MAX_LINKS = 40
"""Links followed for one path, as the kernel does."""

MAX_LINE_CHARS = 200
"""Of a line, in evidence."""


class CannotTell(Exception):
    """A check has no answer here although it applies; the text says why. The result is ERROR."""


class Line(NamedTuple):
    """A line of a file, stripped, and where it stands."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text[:MAX_LINE_CHARS]}"


class Device:
    """A device's files and the facts derived from them; good for one scan.

    one_file_system: whether searches through the tree stay on the root's file system.
    """

    def __init__(self, tree: Tree, *, one_file_system: bool = True) -> None:
        self.tree = tree
        self.one_file_system = one_file_system
        self.memory: dict[Callable[[Device], Any], Any] = {}

    def resolve(self, path: str) -> str | None:
        """The path with every link in it followed inside the tree; None if it leads nowhere."""
        pending = list(reversed(PurePosixPath(path).parts[1:]))
        place, links = "", 0
        while pending:
            part = pending.pop()
            if part == "..":
                place = place.rpartition("/")[0]
                continue
            found = self.tree.lstat(f"{place}/{part}")
            if found is None:
                return None
            if not found.is_link:
                place = f"{place}/{part}"
                continue
            links += 1
            if links > MAX_LINKS:
                return None
            target = PurePosixPath(self.tree.target(f"{place}/{part}"))
            if target.is_absolute():
                place = ""
            pending += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        return place or "/"

    def stat(self, path: str) -> Stat | None:
        """About a file, links followed; None if it is not there."""
        real = self.resolve(path)
        return None if real is None else self.tree.lstat(real)

    def link(self, path: str) -> str | None:
        """Where a link points, as written in it; None if the path is not a link."""
        parent, _, name = path.rpartition("/")
        real = f"{(self.resolve(parent) or '').rstrip('/')}/{name}" if parent else path
        found = self.tree.lstat(real)
        return self.tree.target(real) if found and found.is_link else None

    def exists(self, path: str) -> bool:
        """True if the path leads somewhere."""
        return self.resolve(path) is not None

    def first(self, *paths: str) -> str | None:
        """The first of these paths that exists."""
        return next((path for path in paths if self.exists(path)), None)

    def text(self, path: str, limit: int = MAX_FILE_BYTES) -> str | None:
        """A regular file's content up to `limit` bytes; None if it is not there."""
        real = self.resolve(path)
        content = None if real is None else self.tree.read(real, limit)
        return None if content is None else content.decode(errors="replace")

    def value(self, path: str) -> str | None:
        """The content of a file of one word, as in /proc/sys."""
        content = self.text(path, 4096)
        return None if content is None else content.strip()

    def lines(self, path: str, comment: str = "#") -> list[Line]:
        """Lines that say something: neither empty nor a comment. Empty if the file is not there."""
        stripped = (line.strip() for line in (self.text(path) or "").splitlines())
        return [Line(path, line) for line in stripped if line and not line.startswith(tuple(comment))]

    def lines_of(self, *patterns: str, comment: str = "#") -> list[Line]:
        """The lines of every file that matches, in order of patterns and names."""
        return [
            line for pattern in patterns for path in self.glob(pattern) for line in self.lines(path, comment)
        ]

    def names(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty if it is not there."""
        real = self.resolve(path)
        return [] if real is None else sorted(itertools.islice(self.tree.names(real), MAX_NAMES))

    def glob(self, pattern: str) -> list[str]:
        """Paths that match a pattern with `*`, `?`, `[…]` within components, in order."""
        return sorted(self._glob("", pattern.strip("/").split("/")))

    def _glob(self, place: str, parts: list[str]) -> Iterator[str]:
        head, rest = parts[0], parts[1:]
        wild = any(sign in head for sign in "*?[")
        names = fnmatch.filter(self.names(place or "/"), head) if wild else [head]
        for name in names:
            path = f"{place}/{name}"
            if rest:
                yield from self._glob(path, rest)
            elif self.exists(path):
                yield path

    def run(self, *argv: str, seconds: float = TIME_LIMIT_S) -> str | None:
        """What a program of the running system prints; None where there is no answer."""
        return self.tree.run(argv, seconds)


_T = TypeVar("_T")


def fact(compute: Callable[[Device], _T]) -> Callable[[Device], _T]:
    """A function of a device whose result is kept for the scan."""

    @functools.wraps(compute)
    def remembered(device: Device) -> _T:
        if compute not in device.memory:
            device.memory[compute] = compute(device)
        result: _T = device.memory[compute]
        return result

    return remembered


def words(text: str | None) -> dict[str, str]:
    """`KEY=value` lines as a dictionary, quotes removed: os-release and its like."""
    pairs = (line.partition("=") for line in (text or "").splitlines())
    return {key.strip(): value.strip().strip("\"'") for key, equals, value in pairs if equals}


@fact
def os_release(device: Device) -> dict[str, str]:
    """What the distribution says of itself; empty if it says nothing."""
    return words(device.text("/etc/os-release") or device.text("/usr/lib/os-release"))


@fact
def container(device: Device) -> str | None:
    """The sign that the device is a container; None if there is none."""
    return device.first("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
