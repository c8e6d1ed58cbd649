"""Which process holds a socket: a look through the open files of all processes in /proc."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from vedette.agent.sources.files import MAX_TEXT, text

MAX_FILES = 1_000_000
"""Open files that are looked at in one go, over all processes: some seconds of work."""

Owner = tuple[int, str]


def owners(root: Path, inodes: Collection[int]) -> dict[int, Owner]:
    """(process id, program) by socket inode, the lowest process id of those that share it.

    Processes of others are seen only with CAP_SYS_PTRACE; what may not be seen is left out.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, Owner] = {}
    budget = MAX_FILES
    for pid in sorted(int(name) for name in _names(root / "proc") if name.isdecimal()):
        if len(found) == len(wanted) or budget <= 0:
            break
        directory = root / "proc" / str(pid) / "fd"
        for name in _names(directory):
            budget -= 1
            inode = wanted.get(_target(directory / name))
            if inode is not None and inode not in found:
                found[inode] = pid, _program(root, pid)
    return found


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:  # gone, or not ours to see
        return []


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _program(root: Path, pid: int) -> str:
    raw = os.fsencode(_target(root / "proc" / str(pid) / "exe"))
    return text(raw.removesuffix(b" (deleted)"), MAX_TEXT)
