"""Asking a program where no file and no system call tells: argument vector, time limit, bounded answer."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

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


class Ended(NamedTuple):
    """How a program ended. status: as `Popen` gives it; cut: it would have printed more."""

    output: bytes
    complaint: bytes
    status: int
    cut: bool


def find(*names: str) -> str | None:
    """Path of the first of these programs that is installed; None if none is.

    Not `shutil.which`: that module brings two compressors and 0.6 MB along.
    """
    paths = (os.path.join(place, name) for name in names for place in SEARCH_PATH.split(":"))
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def start(argv: Sequence[str], *, complaints: bool = False) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that what it starts can be killed with it.

    complaints: keep its standard error. Raises OSError.
    """
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if complaints else subprocess.DEVNULL,
        env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes], seconds: float, limit: int) -> Ended:
    """Read at most `limit` bytes and wait for the end, which comes after `seconds` at the latest. Blocks."""
    assert process.stdout is not None, "it is a pipe"
    alarm = threading.Timer(seconds, kill, [process])
    alarm.name = "program limit"
    alarm.start()
    with process:
        output = process.stdout.read(limit + 1)
        if len(output) > limit:
            kill(process)
        complaint = process.stderr.read(MAX_COMPLAINT) if process.stderr else b""
        status = process.wait()
        alarm.cancel()
    return Ended(output[:limit], complaint, status, len(output) > limit)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a program with all its children, which may hold the pipe open."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def answer(argv: Sequence[str], *, seconds: float = TIME_LIMIT_S, limit: int = MAX_ANSWER) -> bytes:
    """What a program prints. Raises Unavailable if it is missing, fails, hangs or prints more than `limit`.

    Blocks: call it from a worker thread.
    """
    try:
        process = start(argv, complaints=True)
    except OSError as error:
        raise Unavailable(f"{argv[0]}: {error.strerror}") from None
    ended = finish(process, seconds, limit)
    if ended.cut:
        raise Unavailable(f"{argv[0]}: prints more than {limit} bytes")
    if ended.status == -signal.SIGKILL:
        raise Unavailable(f"{argv[0]}: killed, not done after {seconds:g} s")
    if ended.status:
        complaint = text(ended.complaint.partition(b"\n")[0])
        raise Unavailable(f"{argv[0]}: {complaint or f'exit status {ended.status}'}")
    return ended.output
