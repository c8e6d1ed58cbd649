"""Looking at /proc again and again: the source that works everywhere and sees what lives long enough.

Each process id with a start time that was not there before is one execution. Between two looks nothing is
seen; a child caught between fork and exec shows the command line that it inherited.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from vedette.agent.losses import TEXT_LOST, TOO_MANY_ITEMS
from vedette.agent.sources import Unavailable
from vedette.agent.sources.process import Seen
from vedette.agent.sources.procfs import (
    PROC,
    Stat,
    read_arguments,
    read_executable,
    read_once,
    read_parent_and_user,
    read_stat,
)

PROCESSES_MAX = 32_768
"""Processes that are followed: the default of kernel.pid_max, with a hundred bytes each."""


class ProcPoll:
    """Processes that appear between two calls of `look`. Raises Unavailable.

    on_seen: called with each process. on_loss: called with a reason of `agent.losses` and how many.
    """

    def __init__(
        self, on_seen: Callable[[Seen], None], on_loss: Callable[[str, int], None], proc: str = PROC
    ) -> None:
        if read_stat(1, proc) is None:
            raise Unavailable(f"{proc} does not show processes", remedy="mount /proc without hidepid")
        self._on_seen = on_seen
        self._on_loss = on_loss
        self._proc = proc
        self._known: dict[int, int] = {}
        self._last_fork: bytes | None = None

    def begin(self) -> None:
        """Count from now on: what runs already is known."""
        self._known = {pid: stat.started for pid, stat in self._running().items()}

    def look(self) -> None:
        """Count what is new since the last look. Where nothing was forked since, one read tells so."""
        last_fork = self._newest()
        if last_fork and last_fork == self._last_fork:
            return
        self._last_fork = last_fork
        running = self._running()
        for pid, stat in running.items():
            if self._known.get(pid) != stat.started and not stat.kernel_thread:
                self._appeared(pid)
        self._known = {pid: stat.started for pid, stat in running.items()}

    def _newest(self) -> bytes | None:
        """The process id given out last: the last field of loadavg."""
        text = read_once(f"{self._proc}/loadavg")
        return text.split()[-1] if text else None

    def _running(self) -> dict[int, Stat]:
        pids = [int(name) for name in os.listdir(self._proc) if name.isdecimal()]
        if len(pids) > PROCESSES_MAX:
            self._on_loss(TOO_MANY_ITEMS, len(pids) - PROCESSES_MAX)
        found = ((pid, read_stat(pid, self._proc)) for pid in sorted(pids)[:PROCESSES_MAX])
        return {pid: stat for pid, stat in found if stat is not None}

    def _appeared(self, pid: int) -> None:
        arguments = read_arguments(pid, self._proc)
        status = read_parent_and_user(pid, self._proc)
        if arguments is None or status is None:
            self._on_loss(TEXT_LOST, 1)
            return
        executable = read_executable(pid, self._proc)
        self._on_seen(Seen("EXEC", time.time(), pid, *status, *arguments, executable))
