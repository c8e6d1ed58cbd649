"""Login records: wtmp (logins and logouts), btmp (failures) and, where there is no wtmp, utmp (who is on).

Source of the layouts: utmp(5), <bits/utmp.h> of glibc. The record is 384 bytes with 32-bit times on x86,
32-bit ARM and RISC-V, 400 bytes with 64-bit times on AArch64; the file itself does not say which.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from vedette.agent.losses import Losses
from vedette.agent.sources.files import opened
from vedette.agent.sources.signin import (
    LOCAL,
    Conversations,
    Operation,
    SignIn,
    address,
    packed_address,
    terminal,
    text,
)
from vedette.agent.sources.tail import Followed, Position, Tail

SEED_BYTES = 65_536
"""End of wtmp in which sessions that began before the agent are looked for: 170 records."""

UTMP_BYTES = 262_144
"""Of utmp: more sessions than `signin.SESSIONS` are not told apart anyway."""

NOT_A_RECORD = "not a login record"


class Type(IntEnum):
    """The types of record that matter here."""

    EMPTY = 0
    USER_PROCESS = 7
    DEAD_PROCESS = 8
    ACCOUNTING = 9


class Record(NamedTuple):
    """One record, with its texts still as bytes."""

    type: int
    process_id: int
    line: bytes
    id: bytes
    user: bytes
    host: bytes
    termination: int
    exit: int
    session: int
    seconds: int
    microseconds: int
    address: bytes

    @property
    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return self.seconds + self.microseconds / 1e6


TIME32 = struct.Struct("=hxxi32s4s32s256shhiii16s20x")
TIME64 = struct.Struct("=hxxi32s4s32s256shhqqq16s20x4x")

_YEAR_1990, _YEAR_2100 = 631_152_000, 4_102_444_800


def layout_of(head: bytes) -> struct.Struct:
    """The layout of a file that begins with `head`: the one under which its records make sense.

    Without a record to judge by, the one of AArch64 on that machine and the common one elsewhere.
    """
    layouts = (TIME64, TIME32) if platform.machine() == "aarch64" else (TIME32, TIME64)
    return max(layouts, key=lambda layout: _sensible(head, layout))


def _sensible(head: bytes, layout: struct.Struct) -> int:
    """How many of the first records make sense; counting ends with the first that does not."""
    count = 0
    for start in range(0, min(len(head) - layout.size + 1, 4 * layout.size), layout.size):
        record = Record(*layout.unpack_from(head, start))
        if not _is_record(record) or not _YEAR_1990 < record.seconds < _YEAR_2100:
            break
        count += 1
    return count


def _is_record(record: Record) -> bool:
    return Type.EMPTY <= record.type <= Type.ACCOUNTING and 0 <= record.microseconds < 1_000_000


def _c_string(field: bytes) -> str:
    return text(field.partition(b"\0")[0])


def _remote(record: Record) -> str:
    """The address if the record has one, else the host name, else local."""
    if any(record.address):
        return packed_address(record.address[:4] if not any(record.address[4:]) else record.address)
    return address(_c_string(record.host)) or LOCAL


def sign_in(record: Record, operation: Operation, teller: str) -> SignIn:
    """What a record says."""
    line = _c_string(record.line)
    return SignIn(
        operation=operation,
        teller=teller,
        time=record.time,
        program="sshd" if line == "ssh:notty" else "",
        user=_c_string(record.user),
        terminal=terminal(line),
        remote="" if operation is Operation.LOGOUT else _remote(record),
        process_id=max(0, record.process_id),
    )


class _Records:
    """The records that are appended to one file, whichever layout they have."""

    def __init__(self, path: Path, position: Position | None, losses: Losses) -> None:
        self._losses = losses
        self._layout: struct.Struct | None = None
        self._known(_part(path, 0, 8 * TIME64.size))
        self.tail = Tail(path, position, whole=self._whole, first=self._boundary, losses=losses)

    def new(self) -> Iterator[Record]:
        """What was appended since the last call."""
        while chunk := self.tail.read():
            yield from self._parse(chunk)

    def before(self, length: int) -> Iterator[Record]:
        """The last records, of together at most `length` bytes, that `new` will not yield."""
        end = self.tail.position().offset
        start = max(0, self._boundary(end - length))
        yield from self._parse(_part(self.tail.path, start, end - start))

    def _parse(self, chunk: bytes) -> Iterator[Record]:
        layout = self._known(chunk)
        for start in range(0, self._whole(chunk), layout.size):
            record = Record(*layout.unpack_from(chunk, start))
            if _is_record(record):
                yield record
            else:
                self._losses.count(NOT_A_RECORD, hits=1)

    def _known(self, chunk: bytes) -> struct.Struct:
        """The layout, settled with the first record that is seen."""
        if self._layout is not None:
            return self._layout
        layout = layout_of(chunk)
        if len(chunk) >= layout.size:
            self._layout = layout
        return layout

    def _whole(self, chunk: bytes) -> int:
        return len(chunk) - len(chunk) % self._known(chunk).size

    def _boundary(self, size: int) -> int:
        return size - size % self._known(b"").size


def _part(path: Path, start: int, length: int) -> bytes:
    """A part of a regular file; empty if it cannot be had (`Tail` says why)."""
    try:
        with opened(path) as file:
            file.seek(start)
            return file.read(length)
    except OSError:
        return b""


class Wtmp(Followed):
    """Logins and logouts of terminals. The end of a session names its terminal and process, not its user."""

    def __init__(self, path: Path, position: Position | None, losses: Losses) -> None:
        self.name = "wtmp"
        self._records = _Records(path, position, losses)
        self.tail = self._records.tail

    def facts(self) -> Iterator[SignIn]:
        """What was appended since the last call."""
        return filter(None, map(_session_fact, self._records.new()))

    def before(self) -> Iterator[SignIn]:
        """Of what stood in the file already, the last part: sessions that may still be open."""
        return filter(None, map(_session_fact, self._records.before(SEED_BYTES)))


def _session_fact(record: Record) -> SignIn | None:
    if record.type == Type.USER_PROCESS and record.user[:1] != b"\0":
        return sign_in(record, Operation.LOGIN, "wtmp")
    if record.type == Type.DEAD_PROCESS and record.line[:1] != b"\0":
        return sign_in(record, Operation.LOGOUT, "wtmp")
    return None


class Btmp(Followed):
    """Failed logins. `exists` tells whether there is an account of a name.

    sshd writes a record when an unknown user is named and another for each password that he is refused:
    the first two are one attempt.
    """

    def __init__(
        self, path: Path, position: Position | None, losses: Losses, exists: Callable[[str], bool]
    ) -> None:
        self.name = "btmp"
        self._exists = exists
        self._conversations = Conversations()
        self._records = _Records(path, position, losses)
        self.tail = self._records.tail

    def facts(self) -> Iterator[SignIn]:
        """What was appended since the last call."""
        for record in self._records.new():
            if record.type != Type.EMPTY:
                fact = sign_in(record, Operation.FAILED, "btmp")
                if self._is_new(fact):
                    yield fact

    def _is_new(self, fact: SignIn) -> bool:
        if fact.program != "sshd" or self._exists(fact.user):
            return True
        talk = (fact.process_id,)
        return bool(
            self._conversations.announce(talk, fact.time) or self._conversations.refuse(talk, fact.time)
        )


class Utmp:
    """Who is logged in, compared with who was: for devices that keep utmp and no wtmp.

    The file is rewritten in place, so what came and went between two looks is not seen.
    """

    def __init__(self, path: Path, losses: Losses, clock: Callable[[], float]) -> None:
        self.name = "utmp"
        self._path = path
        self._losses = losses
        self._clock = clock
        self._seen: object = None
        self.problem = ""
        self._on: dict[tuple[str, int, float], SignIn] = self._now()

    def changed(self) -> bool:
        """Whether the file was written since it was last read."""
        return self._stamp() != self._seen

    def facts(self) -> Iterator[SignIn]:
        """Who came and who left since the last call."""
        before, self._on = self._on, self._now()
        for key in before.keys() - self._on.keys():
            yield _logout(before[key], self._clock())
        for key in self._on.keys() - before.keys():
            yield self._on[key]

    def before(self) -> Iterator[SignIn]:
        """Who was on already."""
        return iter(self._on.values())

    def position(self) -> None:
        """There is none: who is on stands in the file."""

    def close(self) -> None:
        """Nothing is held."""

    def _stamp(self) -> object:
        try:
            known = self._path.stat()
        except OSError:
            return None
        return known.st_ino, known.st_size, known.st_mtime_ns

    def _now(self) -> dict[tuple[str, int, float], SignIn]:
        self._seen = self._stamp()
        content = _part(self._path, 0, UTMP_BYTES)
        layout = layout_of(content)
        records = (
            Record(*layout.unpack_from(content, start))
            for start in range(0, len(content) - layout.size + 1, layout.size)
        )
        facts = (
            sign_in(record, Operation.LOGIN, "utmp")
            for record in records
            if record.type == Type.USER_PROCESS and _is_record(record)
        )
        return {(fact.terminal, fact.process_id, fact.time): fact for fact in facts}


def _logout(login: SignIn, now: float) -> SignIn:
    return msgspec.structs.replace(login, operation=Operation.LOGOUT, time=now)
