"""Programs, asked where no file can tell: by argument vector, for a limited time and length of answer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence

PROGRAM_SECONDS = 20.0
"""Patience with a program: `nft` with 10,000 rules takes about one second."""

PROGRAM_BYTES = 1_000_000
"""Output of a program that is looked at; then it is ended."""

PROGRAM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are searched; the agent's own PATH may be shorter under an init script."""


def output_of(argv: Sequence[str], seconds: float = PROGRAM_SECONDS) -> str | None:
    """What a program prints; None if it is not there, took too long, or failed without a word.

    Some tools (`rpm -Va`) exit with an error to say that there is something to read.
    """
    program = shutil.which(argv[0], path=PROGRAM_PATH)
    if program is None:
        return None
    try:
        process = subprocess.Popen(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": PROGRAM_PATH, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError:
        return None
    return _read(process, seconds)


def _read(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    assert process.stdout is not None
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(seconds, end)
    timer.start()
    with process:
        output = process.stdout.read(PROGRAM_BYTES)
        if len(output) == PROGRAM_BYTES:
            _kill(process)
        process.wait()
        timer.cancel()
    if late.is_set() or (process.returncode != 0 and not output):
        return None
    return output.decode(errors="replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program with all its children, which may hold the pipe open. It is a session of its own."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
