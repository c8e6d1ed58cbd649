"""systemd's journal, where no syslog daemon writes a file: the same sentences, and who really wrote them.

Read by a `journalctl --follow` that runs as long as the collector does. There is no reading library on a
plain device (python3-systemd is a separate package that few carry), the files' format is not one to parse
by hand, and one program that waits costs less than one that is started for every look: 3 MB of which
2.3 are shared with systemd. It is told which facilities and fields are wanted, so it is woken for nothing
else. Between two looks its pipe holds 64 KiB; when that is full it waits, and nothing is lost. It ends by
itself when the agent is gone.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from vedette.agent.sources import Unavailable
from vedette.agent.sources.authlog import LOG_LINE, PROGRAMS, Interpreter, Speech
from vedette.agent.sources.program import find
from vedette.agent.sources.signin import SignIn

log = logging.getLogger(__name__)

DIRECTORIES = ("var/log/journal", "run/log/journal")

SLICE = 65_536
"""Bytes read at once, as much as a pipe holds."""

ENTRY_BYTES = 65_536
"""Longest entry that is kept until its rest has come; one with our fields has a tenth of it."""

RESTART_S = 60.0
"""Pause before journalctl is started again after it ended by itself."""

REASON_BYTES = 400
"""Of what journalctl says when it ends."""

STOP_S = 5.0
"""How long journalctl may take to end before it is killed."""

_AUTH, _AUTHPRIV = 4, 10
_FIELDS = "MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID,_UID,_EXE"

_TRUSTED = ("/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/lib/", "/usr/libexec/")
"""Where a set-user-id program of the system stands: su and sudo still have the caller's user id."""


class Entry(msgspec.Struct, frozen=True):
    """An entry of the journal in its JSON form; numbers are texts there."""

    cursor: str = msgspec.field(name="__CURSOR")
    microseconds: str = msgspec.field(name="__REALTIME_TIMESTAMP")
    message: str | list[int] | None = msgspec.field(name="MESSAGE", default=None)
    tag: str = msgspec.field(name="SYSLOG_IDENTIFIER", default="")
    process_id: str = msgspec.field(name="_PID", default="0")
    user_id: str = msgspec.field(name="_UID", default="")
    executable: str = msgspec.field(name="_EXE", default="")


_decode = msgspec.json.Decoder(Entry).decode


def speech_of(entry: Entry) -> Speech | None:
    """The message, if one of our programs really wrote it: journald, not the writer, tells user and file."""
    if entry.tag not in PROGRAMS or not isinstance(entry.message, str) or len(entry.message) > LOG_LINE:
        return None
    directory, _, name = entry.executable.rpartition("/")
    itself = name == entry.tag and f"{directory}/".startswith(_TRUSTED)
    if entry.user_id != "0" and not itself:
        return None
    return Speech(int(entry.microseconds) / 1e6, entry.tag, int(entry.process_id), entry.message)


class Journal:
    """What is added to the journal from now on, or since `cursor`. Raises Unavailable if there is none."""

    def __init__(self, root: Path, cursor: str | None, clock: Callable[[], float] = time.time) -> None:
        self.name = "journal"
        self.problem = ""
        """Why the journal cannot be read now; empty if it can."""
        directory = next((root / name for name in DIRECTORIES if (root / name).is_dir()), None)
        if directory is None:
            raise Unavailable("no journal", remedy="run systemd-journald or a syslog daemon")
        if find("journalctl") is None:
            raise Unavailable("a journal but no journalctl", remedy="install systemd's tools")
        self._where = [] if root == Path("/") else [f"--directory={directory}"]
        self._cursor = cursor
        self._clock = clock
        self._since = clock()
        self._rest = b""
        self._interpreter = Interpreter()
        self._ended_at = 0.0
        self._process: subprocess.Popen[bytes] | None = self._spawn()

    def position(self) -> str | None:
        """Cursor of the last entry that was used."""
        return self._cursor

    def changed(self) -> bool:
        """Whether there may be entries: reading finds out as cheaply as asking."""
        return True

    def facts(self) -> Iterator[SignIn]:
        """What was added since the last call."""
        if self._process is None and self._clock() - self._ended_at >= RESTART_S:
            self._process, self._rest, self.problem = self._spawn(), b"", ""
        for line in self._lines():
            fact = self._fact(line)
            if fact:
                yield fact

    def close(self) -> None:
        """End journalctl."""
        process, self._process = self._process, None
        if process:
            with process:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()

    def _spawn(self) -> subprocess.Popen[bytes]:
        begin = f"--after-cursor={self._cursor}" if self._cursor else f"--since=@{self._since:.6f}"
        process = subprocess.Popen(
            [
                *("journalctl", "--follow", "--no-tail", "--quiet"),
                *("--output=json", f"--output-fields={_FIELDS}", begin, *self._where),
                *(f"SYSLOG_FACILITY={facility}" for facility in (_AUTH, _AUTHPRIV)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return process

    def _lines(self) -> Iterator[bytes]:
        """The entries that wait in the pipe."""
        while self._process and self._process.stdout:
            try:
                chunk = os.read(self._process.stdout.fileno(), SLICE)
            except BlockingIOError:
                return
            if not chunk:
                self._has_ended()
                return
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            if len(self._rest) > ENTRY_BYTES:  # what follows is its tail, and no JSON
                self._rest = b""
            yield from lines

    def _has_ended(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        said = self._process.stderr.read(REASON_BYTES) or b""
        self.close()
        self._ended_at = self._clock()
        self.problem = f"journalctl ended: {said.decode(errors='backslashreplace').strip()}"
        log.warning("%s; it is started again in %.0f s", self.problem, RESTART_S)

    def _fact(self, line: bytes) -> SignIn | None:
        try:
            entry = _decode(line)
        except msgspec.DecodeError:  # an entry with a field of another form: none of ours
            return None
        self._cursor = entry.cursor
        speech = speech_of(entry)
        return self._interpreter.read(speech) if speech else None
