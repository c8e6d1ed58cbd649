"""Asking a program where no file and no system call tells: argument vector, time limit, bounded answer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress

from vedette.agent.sources import Unavailable
from vedette.agent.sources.files import text

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for; a service's own PATH often lacks the sbin directories."""

TIME_LIMIT_S = 20.0
"""`nft` lists 10,000 rules in about a second; a program that hangs is killed."""

MAX_ANSWER = 4_194_304
"""Bytes of an answer: about 10,000 nftables rules in JSON."""

MAX_COMPLAINT = 4_096
"""Bytes of standard error that are read: the first line goes into the reason."""


def find(*names: str) -> str | None:
    """Path of the first of these programs that is installed; None if none is."""
    found = (shutil.which(name, path=SEARCH_PATH) for name in names)
    return next((path for path in found if path), None)


def answer(argv: Sequence[str], *, seconds: float = TIME_LIMIT_S, limit: int = MAX_ANSWER) -> bytes:
    """What a program prints. Raises Unavailable if it is missing, fails, hangs or prints more than `limit`.

    Blocks: call it from a worker thread. The program has a session of its own, so that what it started
    is killed with it.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{argv[0]}: {error.strerror}") from None
    assert process.stdout is not None, "it is a pipe"
    assert process.stderr is not None, "it is a pipe"
    alarm = threading.Timer(seconds, _kill, [process])
    with process:
        alarm.start()
        out = process.stdout.read(limit + 1)
        if len(out) > limit:
            _kill(process)
        complaint = text(process.stderr.read(MAX_COMPLAINT).partition(b"\n")[0])
        status = process.wait()
        alarm.cancel()
    if len(out) > limit:
        raise Unavailable(f"{argv[0]}: prints more than {limit} bytes")
    if status == -signal.SIGKILL:
        raise Unavailable(f"{argv[0]}: killed, not done after {seconds:g} s")
    if status:
        raise Unavailable(f"{argv[0]}: {complaint or f'exit status {status}'}")
    return out


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
