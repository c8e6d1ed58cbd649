"""What the watched tree knows of a directory, and what a file's times tell of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from vedette.agent.sources.inotify_queue import Bits
from vedette.agent.sources.watch_plan import Place

ALL = 0
"""As a `since`: everything in a directory is new. (None: nothing is.)"""

GONE = Place()
"""The place of a directory that is not watched any more: nothing in it is looked at."""


class Node:
    """A directory (or a file that is a root): its name and where it is.

    watch: its number in the kernel, 0 for none. heard: until it has been scanned, the entries whose
    arrival events have told.
    """

    __slots__ = ("children", "heard", "name", "parent", "place", "watch")

    def __init__(self, parent: Node | None, name: str, place: Place) -> None:
        self.parent = parent
        self.name = name
        self.place = place
        self.watch = 0
        self.heard: set[str] | None = None
        self.children: dict[str, Node] | None = None

    def path(self) -> str:
        """Where it is, as far as the events that were read tell."""
        names = []
        node: Node | None = self
        while node is not None:
            names.append(node.name)
            node = node.parent
        return "/".join(reversed(names)) or "/"

    def at(self, name: str) -> str:
        """The path of an entry."""
        return f"{self.path() if self.parent else ''}/{name}"

    def attach(self, child: Node, name: str) -> None:
        """Make it the directory of that name here."""
        if self.children is None:
            self.children = {}
        child.parent, child.name = self, name
        self.children[name] = child

    def detach(self, name: str) -> Node | None:
        """Take the directory of that name away."""
        return self.children.pop(name, None) if self.children else None

    @property
    def is_root(self) -> bool:
        """True if it reports what is in it while its parent does not."""
        return self.place.inside and not (self.parent and self.parent.place.inside)


class Left(NamedTuple):
    """The first half of a move: what left, from where, and the directory that it is."""

    node: Node
    name: str
    mask: int
    told: bool
    child: Node | None
    at: float


def news(entry: os.DirEntry[str] | Path, is_dir: bool, since: int) -> int:
    """What must have happened to an entry since that time (nanoseconds since the epoch), as inotify bits.

    A directory's times speak of its entries, which are looked at by themselves.
    """
    if since == ALL:
        return int(Bits.CREATE | Bits.ISDIR if is_dir else Bits.CREATE)
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if is_dir or status.st_ctime_ns < since:
        return 0
    return int(Bits.MODIFY if status.st_mtime_ns >= since else Bits.ATTRIB)
