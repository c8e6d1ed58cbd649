"""What every process source says: `Seen`, the facts of one process at one moment, untranslated."""

from __future__ import annotations

from typing import Literal

import msgspec

TEXT_MAX = 4096
"""Bytes of a command line that are kept: one page, the limit of /proc/<pid>/cmdline for two decades."""


class Seen(msgspec.Struct, frozen=True):
    """A process that executed something (EXEC), or a child that runs on without executing (FORK).

    at: Unix seconds. pid, ppid, uid: as the initial namespaces number them; uid is the real one.
    arguments: as in memory, each ended by a NUL, at most TEXT_MAX bytes of `length`.
    executable: path as the source knows it; empty if it does not.
    """

    event: Literal["EXEC", "FORK"]
    at: float
    pid: int
    ppid: int
    uid: int
    arguments: bytes
    length: int
    executable: bytes = b""
