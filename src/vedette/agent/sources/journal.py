"""systemd's journal, where no syslog daemon writes a file: the same sentences, and who really wrote them.

Read by a `journalctl --follow` that runs as long as the collector does. There is no reading library on a
plain device (python3-systemd is a separate package that few carry), the files' format is not one to parse
by hand, and one program that waits costs less than one that is started for every look: 3 MB of which
2.3 are shared with systemd. It is told which facilities and fields are wanted, so it is woken for
nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from vedette.agent.losses import Losses
from vedette.agent.sources import Unavailable
from vedette.agent.sources.authlog import LOG_LINE, PROGRAMS, Interpreter, Speech
from vedette.agent.sources.signin import SignIn

log = logging.getLogger(__name__)

DIRECTORIES = ("var/log/journal", "run/log/journal")

ENTRY_BYTES = 65_536
"""Longest line of journalctl that is read; one with our fields has a tenth of it."""

WAITING = 4_096
"""Entries kept between two looks; beyond it the oldest is dropped, and counted."""

RESTART_S = 60.0
"""Pause before journalctl is started again after it ended by itself."""

JOURNAL_OVERRUN = "journal faster than it is read"

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
    """What is added to the journal from now on, or since `cursor`."""

    def __init__(
        self, root: Path, cursor: str | None, losses: Losses, clock: Callable[[], float] = time.time
    ) -> None:
        self.name = "journal"
        self.problem = ""
        """Why the journal cannot be read now; empty if it can."""
        self._directory = next((root / name for name in DIRECTORIES if (root / name).is_dir()), None)
        self._system = root == Path("/")
        self._cursor = cursor
        self._losses = losses
        self._clock = clock
        self._since = clock()
        self._waiting: deque[Entry] = deque()
        self._interpreter = Interpreter()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read. Raises Unavailable if this device keeps no journal that can be read."""
        if self._directory is None:
            raise Unavailable("no journal", remedy="run systemd-journald or a syslog daemon")
        if shutil.which("journalctl") is None:
            raise Unavailable("a journal but no journalctl", remedy="install systemd's tools")
        self._process = await self._spawn(self._directory)
        self._reader = asyncio.create_task(self._read(self._process, self._directory), name="journal")

    def position(self) -> str | None:
        """Cursor of the last entry that `facts` has used."""
        return self._cursor

    def changed(self) -> bool:
        """Whether entries wait."""
        return bool(self._waiting)

    def facts(self) -> Iterator[SignIn]:
        """What was added since the last call."""
        while self._waiting:
            entry = self._waiting.popleft()
            self._cursor = entry.cursor
            speech = speech_of(entry)
            fact = speech and self._interpreter.read(speech)
            if fact:
                yield fact

    def close(self) -> None:
        """Nothing that `stop` does not do."""

    async def stop(self) -> None:
        """End journalctl."""
        if self._reader:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        await self._end()

    def _arguments(self, directory: Path) -> list[str]:
        begin = f"--after-cursor={self._cursor}" if self._cursor else f"--since=@{self._since:.6f}"
        where = [] if self._system else [f"--directory={directory}"]
        return [
            *("--follow", "--no-tail", "--quiet", "--output=json", f"--output-fields={_FIELDS}", begin),
            *where,
            *(f"SYSLOG_FACILITY={facility}" for facility in (_AUTH, _AUTHPRIV)),
        ]

    async def _spawn(self, directory: Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "journalctl",
            *self._arguments(directory),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=ENTRY_BYTES,
        )

    async def _read(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        """Take entries as they come; start journalctl again, after a pause, when it ends."""
        while True:
            await self._entries(process)
            await self._end()
            self.problem = "journalctl ended"
            log.warning("journalctl ended; it is started again in %.0f s", RESTART_S)
            await asyncio.sleep(RESTART_S)
            self._process = process = await self._spawn(directory)
            self.problem = ""

    async def _entries(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than ENTRY_BYTES: nothing that we know says so much
                continue
            if not line:
                return
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            entry = _decode(line)
        except msgspec.DecodeError:
            return
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self._losses.count(JOURNAL_OVERRUN, hits=1)
        self._waiting.append(entry)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
