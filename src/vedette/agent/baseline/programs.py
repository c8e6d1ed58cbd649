"""Programs that a scan asks: one at a time, and none after the scan was called off."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence

from vedette.agent.sources.program import TIME_LIMIT_S, find, finish, kill, start

PROGRAM_BYTES = 1_000_000
"""Output of a program that is looked at; then it is ended."""


class Programs:
    """Runs one program at a time for one thread; another thread may `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def output_of(self, argv: Sequence[str], seconds: float = TIME_LIMIT_S) -> str | None:
        """What a program prints; None if it is not there, took too long, or failed without a word.

        Some tools (`rpm -Va`) exit with an error to say that there is something to read.
        """
        process = self._start(argv)
        if process is None:
            return None
        ended = finish(process, seconds, PROGRAM_BYTES)
        killed = ended.status < 0 and not ended.cut
        if killed or (ended.status > 0 and not ended.output):
            return None
        return ended.output.decode(errors="replace")

    def close(self) -> None:
        """End the program that runs; none runs after it."""
        with self._lock:
            self._closed = True
            if self._process:
                kill(self._process)

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[bytes] | None:
        program = find(argv[0])
        with self._lock:
            if program is None or self._closed:
                return None
            try:
                self._process = start([program, *argv[1:]])
            except OSError:
                return None
            return self._process
