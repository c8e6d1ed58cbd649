"""What every process source says: `Seen`, the facts of one process at one moment, untranslated."""

from __future__ import annotations

from typing import Literal

import msgspec

TEXT_MAX = 4096
"""Bytes of a command line that are kept: one page, the limit of /proc/<pid>/cmdline for two decades."""


class Seen(msgspec.Struct, frozen=True):
    """A process that executed something (EXEC), a child that runs on without (FORK), a process's end (EXIT).

    at: Unix seconds. pid, ppid, uid: as the initial namespaces number them; uid is the real one.
    arguments: as in memory, each ended by a NUL, at most TEXT_MAX bytes of `length`.
    An EXIT has none. executable: path as the source knows it; empty if it does not.
    status: of an EXIT, as wait(2) gives it, without the core flag: `exit code << 8`, or the signal.
    """

    event: Literal["EXEC", "FORK", "EXIT"]
    at: float
    pid: int
    ppid: int
    uid: int
    arguments: bytes
    length: int
    executable: bytes = b""
    status: int = 0
