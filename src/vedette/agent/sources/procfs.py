"""Facts of one process as /proc shows them now. Every read is bounded; what is gone is None."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from vedette.agent.sources.process import TEXT_MAX

PROC = "/proc"
STATUS_MAX = 4096
"""Bytes read of `status` and `stat`: both keep what is needed in their first kilobyte."""

PF_KTHREAD = 0x00200000
"""Flag of kernel threads in /proc/<pid>/stat."""

# Fields of /proc/<pid>/stat, counted from 0 at the state, which follows the command's closing bracket.
_STATE, _PPID, _FLAGS, _STARTTIME, _ARG_START, _ARG_END = 0, 1, 6, 19, 45, 46


class Stat(NamedTuple):
    """state: one letter, Z for a process that has ended. started: clock ticks since boot, which with the
    process id names a process for ever. arguments: bytes of its command line, 0 if that may not be seen."""

    state: str
    ppid: int
    kernel_thread: bool
    started: int
    arguments: int


def read_once(path: str, most: int = STATUS_MAX) -> bytes | None:
    """What one read of a file of /proc yields; None if the process is gone or hidden."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, most)
    except OSError:
        return None
    finally:
        os.close(fd)


def read_stat(pid: int, root: str = PROC) -> Stat | None:
    """What the kernel's accounting says of a process; None if it is gone."""
    text = read_once(f"{root}/{pid}/stat")
    fields = text.rpartition(b")")[2].split() if text else []
    if len(fields) <= _ARG_END:
        return None
    return Stat(
        fields[_STATE].decode("ascii", "replace"),
        int(fields[_PPID]),
        bool(int(fields[_FLAGS]) & PF_KTHREAD),
        int(fields[_STARTTIME]),
        int(fields[_ARG_END]) - int(fields[_ARG_START]),
    )


def read_arguments(pid: int, root: str = PROC) -> tuple[bytes, int] | None:
    """The first TEXT_MAX bytes of the arguments and their whole length; None if they are gone.

    A program started without any argument is known by its path.
    """
    text = read_once(f"{root}/{pid}/cmdline", TEXT_MAX)
    if not text:
        return None
    if text == b"\0":
        text = read_executable(pid, root) + text
    if len(text) < TEXT_MAX:
        return text, len(text)
    stat = read_stat(pid, root)
    return text, max(len(text), stat.arguments if stat else 0)


def read_executable(pid: int, root: str = PROC) -> bytes:
    """Path of the program; empty if it is gone or hidden."""
    try:
        return os.readlink(f"{root}/{pid}/exe".encode())
    except OSError:
        return b""


def running_programs(root: str = PROC) -> dict[int, bytes]:
    """The executable of every process, by process id; empty where it is hidden. No kernel threads."""
    pids = [int(name) for name in os.listdir(root) if name.isdecimal()]
    stats = ((pid, read_stat(pid, root)) for pid in pids)
    return {
        pid: read_executable(pid, root)
        for pid, stat in stats
        if stat and not stat.kernel_thread and stat.state not in "ZX"
    }


def effective_capabilities() -> int:
    """The capabilities that this process has, as bits numbered as in capabilities(7)."""
    status = Path(PROC, "self/status").read_bytes()
    return int(status.split(b"\nCapEff:")[1].split()[0], 16)


def read_parent_and_user(pid: int, root: str = PROC) -> tuple[int, int] | None:
    """Parent's process id and real user id; None if the process is gone."""
    text = read_once(f"{root}/{pid}/status") or b""
    try:
        return int(text.split(b"\nPPid:")[1].split()[0]), int(text.split(b"\nUid:")[1].split()[0])
    except (IndexError, ValueError):
        return None
