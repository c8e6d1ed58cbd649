"""The one walk through the file system that all searching checks share.

It goes in slices, so that a scan can rest between them, holds one directory open at a time, and keeps
what it finds bounded: the first few paths of each kind, and how many there were.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from enum import StrEnum

from vedette.agent.baseline.accounts import accounts, groups
from vedette.agent.baseline.device import CannotTell, Device, fact
from vedette.agent.baseline.mounts import PSEUDO, REMOTE, mounts
from vedette.agent.baseline.tree import Stat

KEPT_PATHS = 64
"""Paths kept of each kind; evidence shows fewer, 4.1.13 compares them all."""

MAX_PENDING = 50_000
"""Directories waiting to be entered, a path each. A tree with more is searched in part, and says so."""

FOREIGN = frozenset({"/var/lib/containerd", "/var/lib/containers", "/var/lib/docker", "/var/lib/lxc"})
"""Trees of other systems, whose users and programs are not this one's."""


class Kind(StrEnum):
    """What the walk looks for."""

    WORLD_WRITABLE = "file that everybody may write"
    NOT_STICKY = "directory where everybody may delete what others made"
    UNOWNED = "owner without account"
    UNGROUPED = "group that does not exist"
    SUID = "program that runs as its owner"
    SGID = "program that runs as its group"


class Search:
    """The walk of one scan, as far as it has got."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._users = frozenset(account.uid for account in accounts(device))
        self._groups = frozenset(group.gid for group in groups(device))
        self._closed = FOREIGN | {
            point for point, mount in mounts(device).items() if mount.kind in PSEUDO | REMOTE
        }
        self._walk = self._entries()
        self._paths: dict[Kind, list[str]] = {kind: [] for kind in Kind}
        self._counts = dict.fromkeys(Kind, 0)
        self._hidden = 0
        self._done = False

    def step(self, entries: int) -> bool:
        """Look at so many more files; False once there are none left."""
        for _ in range(entries):
            item = next(self._walk, None)
            if item is None:
                self._done = True
                return False
            for kind in self._kinds(item[1]):
                self._counts[kind] += 1
                if len(self._paths[kind]) < KEPT_PATHS:
                    self._paths[kind].append(item[0])
        return True

    def found(self, kind: Kind) -> tuple[list[str], int]:
        """The first paths of a kind and how many there are. Completes the walk if it is not complete.

        Raises CannotTell if there is none, but not everything could be seen.
        """
        while not self._done:
            self.step(1_000)
        if self._hidden and not self._counts[kind]:
            raise CannotTell(f"{self._hidden} directories could not be searched; root may")
        return self._paths[kind], self._counts[kind]

    def _entries(self) -> Iterator[tuple[str, Stat]]:
        tree = self._device.tree
        root = tree.lstat("/")
        pending = ["/"]
        while pending:
            place = pending.pop()
            try:
                for name in tree.names(place):
                    path = f"{place.rstrip('/')}/{name}"
                    found = tree.lstat(path)
                    if found is None or path in self._closed:
                        continue
                    if self._device.one_file_system and root and found.device != root.device:
                        continue
                    yield path, found
                    if found.is_directory:
                        self._enter(path, pending)
            except OSError:  # forbidden, gone, or longer than a path may be
                self._hidden += 1

    def _enter(self, path: str, pending: list[str]) -> None:
        if len(pending) < MAX_PENDING:
            pending.append(path)
        else:
            self._hidden += 1

    def _kinds(self, found: Stat) -> Iterator[Kind]:
        if found.uid not in self._users:
            yield Kind.UNOWNED
        if found.gid not in self._groups:
            yield Kind.UNGROUPED
        bits = found.permissions
        if found.is_directory and bits & stat.S_IWOTH and not bits & stat.S_ISVTX:
            yield Kind.NOT_STICKY
        if found.is_file:
            if bits & stat.S_IWOTH:
                yield Kind.WORLD_WRITABLE
            if bits & stat.S_ISUID:
                yield Kind.SUID
            if bits & stat.S_ISGID and bits & stat.S_IXGRP:
                yield Kind.SGID


@fact
def search(device: Device) -> Search:
    """The walk of this scan."""
    return Search(device)
