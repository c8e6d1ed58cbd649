"""Programs, asked where no file can tell: by argument vector, for a limited time and length of answer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence

PROGRAM_SECONDS = 20.0
"""Patience with a program: those that are asked list what the kernel holds, and are not busy long."""

PROGRAM_BYTES = 1_000_000
"""Output of a program that is looked at; then it is ended."""

PROGRAM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are searched; the agent's own PATH may be shorter under an init script."""


class Programs:
    """Runs one program at a time for one thread; another thread may `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def output_of(self, argv: Sequence[str], seconds: float = PROGRAM_SECONDS) -> str | None:
        """What a program prints; None if it is not there, took too long, or failed without a word.

        Some tools (`rpm -Va`) exit with an error to say that there is something to read.
        """
        process = self._start(argv)
        if process is None:
            return None
        timer = threading.Timer(seconds, _kill, [process])
        timer.name = "baseline program limit"
        timer.start()
        with process:
            assert process.stdout is not None
            output = process.stdout.read(PROGRAM_BYTES)
            if len(output) == PROGRAM_BYTES:
                _kill(process)
                ended = False
            else:
                ended = process.wait() < 0
            timer.cancel()
        failed = ended or (process.returncode > 0 and not output)
        return None if failed else output.decode(errors="replace")

    def close(self) -> None:
        """End the program that runs; none runs after it."""
        with self._lock:
            self._closed = True
            if self._process:
                _kill(self._process)

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[bytes] | None:
        program = shutil.which(argv[0], path=PROGRAM_PATH)
        with self._lock:
            if program is None or self._closed:
                return None
            try:
                self._process = subprocess.Popen(
                    [program, *argv[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": PROGRAM_PATH, "LC_ALL": "C"},
                    start_new_session=True,
                )
            except OSError:
                return None
            return self._process


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program with all its children, which may hold the pipe open. It is a session of its own."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
