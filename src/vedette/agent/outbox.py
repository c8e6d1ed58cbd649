"""Messages that the hub has not acknowledged yet, on disk.

Invariants
1. A message leaves by `remove` (it was acknowledged), by age or by the byte cap, and in no other way while
   its file is readable. Each message has one fate: `remove` tells what it removed, everything else is
   counted in `losses`.
2. What `put` has stored survives SIGKILL of the agent and power loss of the device (WAL, synchronous=FULL).
3. A disk that is full, read-only or broken never stops the agent. What cannot be written is held in memory
   (at most HELD_BYTES, oldest dropped first) and still handed to the uplink; each later call tries to
   write it. A damaged file is moved aside and a new one begun.

Write budget: nothing is written for an event. A message costs one transaction to store and at most one to
remove, each with one fsync. Stored and removed, a message of 4 KB writes about 25 KB, one of 200 KB about
500 KB, the log's checkpoints included. At default intervals (61 messages a day) that is 1.5 MB a day.

Calls block for one fsync (0.3 ms on a solid-state disk; tens of milliseconds on a slow card), some dozens
of times a day: the event loop calls them directly, and kernel buffers hold what arrives meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vedette.agent.losses import MESSAGE_TOO_LARGE, OUTBOX_AGE, OUTBOX_DAMAGED, OUTBOX_FULL, Losses
from vedette.agent.sources.files import attribute
from vedette.wire.message import MAX_MESSAGE_BYTES, Packed

log = logging.getLogger(__name__)

HELD_BYTES = 524_288
"""Messages kept in memory while the disk fails: some hours at default intervals."""

CHECKPOINT_PAGES = 250
"""The write-ahead log is folded into the database at 1 MB (250 pages of 4 KiB)."""

LOG_BYTES = CHECKPOINT_PAGES * 4096
"""Size that the log's file is cut back to after one large transaction."""

CACHE_KIB = 256
"""SQLite's page cache; its default would be 2 MB of memory for a table that is read once."""

CLOCK_FLOOR = 1_735_689_600.0
"""1 January 2025: a wall clock that shows less was never set (a board without a battery)."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY,
    created REAL NOT NULL, boot TEXT NOT NULL, uptime REAL NOT NULL,
    events INTEGER NOT NULL, hits INTEGER NOT NULL, units INTEGER NOT NULL,
    properties TEXT NOT NULL, body BLOB NOT NULL  -- last: SQLite reads what stands before it without it
)"""

_NEXT = (
    "SELECT id, uptime, properties, body, events, hits, units FROM message WHERE id > ? ORDER BY id LIMIT 1"
)
_TOTAL_OF = "SELECT 1, length(properties) + length(body), events, hits, units FROM message WHERE id = ?"
_TOTAL = (
    "SELECT max(id), count(*), sum(length(properties) + length(body)), sum(events), sum(hits), sum(units)"
    " FROM message"
)
_INSERT = (
    "INSERT INTO message (created, boot, id, uptime, properties, body, events, hits, units)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

BUSY_S = 1.0
"""How long another process may take to let go of the file (an agent that is just stopping)."""

_DAMAGE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # our statements are fixed: if one is wrong, it is the table that is not ours
}
_UNREADABLE = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ}


class OutboxInUse(Exception):
    """Another process has this outbox open."""


class Clock(NamedTuple):
    """What the age of a message is measured with.

    boot: changes with every start of the machine. uptime: seconds since then, suspended time included.
    wall: Unix seconds, for what they are worth on a device.
    """

    boot: str
    uptime: Callable[[], float]
    wall: Callable[[], float]


def device_clock() -> Clock:
    """The clocks of this machine. Without /proc every start of the agent counts as a start of the machine."""
    boot = attribute(Path("/proc/sys/kernel/random/boot_id")) or uuid.uuid4().hex
    return Clock(boot, lambda: time.clock_gettime(time.CLOCK_BOOTTIME), time.time)


class Total(NamedTuple):
    """Sums over messages. `bytes` counts bodies and properties, `units` what the service meters."""

    messages: int = 0
    bytes: int = 0
    events: int = 0
    hits: int = 0
    units: int = 0

    def plus(self, other: Total) -> Total:
        """The sum of two totals."""
        return Total(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: Total) -> Total:
        """What is left of this one."""
        return Total(*(a - b for a, b in zip(self, other, strict=True)))


class Stored(msgspec.Struct, frozen=True):
    """One message. `id` grows with time; `properties` is its topic's property bag, encoded."""

    id: int
    uptime: float
    properties: str
    body: bytes
    events: int
    hits: int
    units: int

    @property
    def total(self) -> Total:
        """What it adds to a sum."""
        return Total(1, len(self.properties) + len(self.body), self.events, self.hits, self.units)


class Outbox:
    """The queue of unacknowledged messages in one SQLite file (mode 0600), for one thread of one process.

    max_bytes: cap on bodies and properties; may be changed at any time, and holds from the next call.
    Raises OutboxInUse if another process has the file open.

    Memory is the truth and the file follows: `_held` is not in the file yet, `_gone` no longer counts
    although the file may still have it. Both are empty after every call that could write.
    """

    def __init__(self, path: Path, max_bytes: int, *, clock: Clock | None = None) -> None:
        self.max_bytes = max_bytes
        self.losses = Losses()
        self._path = path
        self._clock = clock or device_clock()
        self._db: sqlite3.Connection | None = None
        self._in_file = Total()
        self._held: dict[int, Stored] = {}
        self._gone: set[int] = set()
        # Not from 1: what is held while the file cannot be opened must not collide with what is in it.
        self._last_id = int(self._clock.wall() * 1000)
        self._failing = False
        self._settle()

    @property
    def depth(self) -> int:
        """Messages waiting."""
        return self._waiting.messages

    @property
    def bytes(self) -> int:
        """Bytes waiting: bodies and properties."""
        return self._waiting.bytes

    @property
    def units(self) -> int:
        """What the real service would meter for what waits."""
        return self._waiting.units

    @property
    def _waiting(self) -> Total:
        return _sum(message.total for message in self._held.values()).plus(self._in_file)

    def put(self, message: Packed) -> None:
        """Store a message durably. The oldest leave if the cap would be exceeded."""
        properties = message.properties
        size = len(properties) + len(message.body)
        if size > MAX_MESSAGE_BYTES or size > self.max_bytes:
            reason = MESSAGE_TOO_LARGE if size > MAX_MESSAGE_BYTES else OUTBOX_FULL
            self.losses.count(reason, events=message.events, hits=message.hits)
            return
        self._evict(self.max_bytes - size)
        self._last_id += 1
        self._held[self._last_id] = Stored(
            self._last_id,
            self._clock.uptime(),
            properties,
            message.body,
            message.events,
            message.hits,
            message.units,
        )
        self._settle()

    def next_after(self, last: int) -> Stored | None:
        """The oldest waiting message with an id above `last` (0: the oldest of all); None if none is."""
        while rows := self._read(_NEXT, last):
            message = Stored(*rows[0])
            if message.id not in self._gone:
                return message
            last = message.id
        return next((message for id, message in self._held.items() if id > last), None)

    def remove(self, ids: Iterable[int]) -> Total:
        """Take acknowledged messages out, durably. Returns what was still here of them.

        A message that the cap or its age had taken meanwhile was counted as lost and is not here any more.
        """
        removed = _sum(self._discard(id) for id in ids)
        self._settle()
        return removed

    def expire(self, max_age: float) -> None:
        """Drop what has been waiting for more than `max_age` seconds.

        Within one run of the machine age is time since boot, suspended time included: setting the wall
        clock does not age a message. Across a restart only the wall clock can tell; where it had not been
        set, or runs behind the message, the time switched off counts as none.
        """
        oldest = self._clock.uptime() - max_age
        old = [row[0] for row in self._read("SELECT id FROM message WHERE uptime < ?", oldest)]
        old += [id for id, message in self._held.items() if message.uptime < oldest]
        self._drop(old, OUTBOX_AGE)
        self._settle()

    def close(self) -> None:
        """Write what can be written and release the file. What only memory holds is lost, and counted."""
        self._settle()
        self._drop(list(self._held), OUTBOX_FULL)
        self._disconnect()

    def _evict(self, limit: int) -> None:
        """Drop the oldest until no more than `limit` bytes wait."""
        excess = self.bytes - limit
        last = 0
        while excess > 0 and (oldest := self.next_after(last)):
            last = oldest.id
            excess -= oldest.total.bytes
            self._drop([last], OUTBOX_FULL)

    def _drop(self, ids: Iterable[int], reason: str) -> None:
        lost = _sum(self._discard(id) for id in ids)
        self.losses.count(reason, events=lost.events, hits=lost.hits)

    def _discard(self, id: int) -> Total:
        """Forget one message; its sums, or zeros if it was not here."""
        if held := self._held.pop(id, None):
            return held.total
        if id in self._gone:
            return Total()
        total = _sum(Total(*row) for row in self._read(_TOTAL_OF, id))
        if total.messages:
            self._gone.add(id)
            self._in_file = self._in_file.minus(total)
        return total

    # The file. Everything that may fail passes through `_read` or `_settle`.

    def _read(self, query: str, argument: float) -> list[tuple[Any, ...]]:
        """Rows of a query; none if the file cannot be read."""
        if self._db is None:
            return []
        try:
            return self._db.execute(query, (argument,)).fetchall()
        except sqlite3.Error as error:
            self._fail(error)
            return []

    def _settle(self, *, retry: bool = True) -> None:
        """Make the file agree with memory. If that fails it is tried again with the next call."""
        try:
            self._write(self._db or self._connect())
        except (sqlite3.Error, OSError) as error:
            if self._fail(error) and retry:
                self._settle(retry=False)
        else:
            self._recovered()
        while sum(len(message.body) for message in self._held.values()) > HELD_BYTES:
            self._drop([next(iter(self._held))], OUTBOX_FULL)

    def _write(self, db: sqlite3.Connection) -> None:
        if not self._held and not self._gone:
            return
        booted = self._clock.wall() - self._clock.uptime()
        rows = [
            (booted + m.uptime, self._clock.boot, *msgspec.structs.astuple(m)) for m in self._held.values()
        ]
        with db:
            db.executemany("DELETE FROM message WHERE id = ?", [(id,) for id in self._gone])
            db.executemany(_INSERT, rows)
        self._in_file = self._waiting
        self._held.clear()
        self._gone.clear()

    def _connect(self) -> sqlite3.Connection:
        """Open or create the file. Raises OutboxInUse, sqlite3.Error, OSError."""
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._path.chmod(0o600)
        db = sqlite3.connect(self._path, timeout=BUSY_S)
        try:
            self._prepare(db)
        except sqlite3.Error as error:
            db.close()
            if _primary(error) == sqlite3.SQLITE_BUSY:
                raise OutboxInUse(f"{self._path} is in use by another process") from None
            raise
        self._db = db
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        # Exclusive first: SQLite then keeps the index of its log in memory, without a third file, and a
        # second agent on the same directory is told so at once instead of sending everything twice.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        db.execute(_SCHEMA)
        self._rebase(db)
        last, *sums = db.execute(_TOTAL).fetchone()
        self._in_file = Total(*(value or 0 for value in sums))
        self._last_id = max(self._last_id, last or 0)

    def _rebase(self, db: sqlite3.Connection) -> None:
        """Express the age of messages from an earlier run of the machine in the uptime of this one."""
        now = self._clock.wall()
        with db:
            db.execute(
                "UPDATE message SET boot = :boot, uptime = :uptime -"
                " CASE WHEN created >= :floor AND created < :now THEN :now - created ELSE 0 END"
                " WHERE boot <> :boot",
                {"boot": self._clock.boot, "uptime": self._clock.uptime(), "floor": CLOCK_FLOOR, "now": now},
            )

    def _disconnect(self) -> None:
        if self._db is not None:
            db, self._db = self._db, None
            with contextlib.suppress(sqlite3.Error):  # closing checkpoints; the log itself is durable already
                db.close()

    def _fail(self, error: sqlite3.Error | OSError) -> bool:
        """Go on with a new file if this one is beyond use (True), else with memory. Said once."""
        if isinstance(error, sqlite3.Error) and (
            _primary(error) in _DAMAGE or error.sqlite_errorcode in _UNREADABLE
        ):
            try:
                self._begin_anew(error)
            except (sqlite3.Error, OSError) as failure:
                error = failure
            else:
                return True
        if not self._failing:
            self._failing = True
            log.warning("%s: %s; messages are held in memory until it can be written", self._path, error)
        return False

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            log.info("%s: can be written again", self._path)

    def _begin_anew(self, error: sqlite3.Error) -> None:
        self._disconnect()
        lost, self._in_file = self._in_file, Total()
        self.losses.count(OUTBOX_DAMAGED, events=lost.events, hits=lost.hits)
        log.error(
            "%s is damaged (%s): moved aside, a new one begun; %s messages in it will not be sent",
            self._path,
            error,
            lost.messages or "any",
        )
        self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
        for suffix in ("-wal", "-shm", "-journal"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._connect()


def _primary(error: sqlite3.Error) -> int:
    """The error without the detail that SQLite adds in the upper bits."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF


def _sum(totals: Iterable[Total]) -> Total:
    total = Total()
    for other in totals:
        total = total.plus(other)
    return total
