"""wtmpdb: the SQLite database that replaces wtmp where times must outlast 2038 (Debian 13, openSUSE).

One row a session; its `Logout` is filled in at the end. It names no process. Source of the schema:
wtmpdb(8) and its library; times are microseconds since the Unix epoch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from vedette.agent.sources.signin import LOCAL, SESSIONS, Operation, SignIn, address, terminal, text

PATH = "var/lib/wtmpdb/wtmp.db"

ROWS = 256
"""Rows fetched at once."""

BUSY_S = 0.5
"""How long a writer is waited for; the rows are read at the next look else."""

_USER_PROCESS = 3
_COLUMNS = "ID, User, Login, Logout, TTY, RemoteHost, Service"


class Place(msgspec.Struct, frozen=True):
    """How far the table has been read: its last row, when that began, and the rows still without end."""

    last: int
    login: int
    open: tuple[int, ...] = ()


class Wtmpdb:
    """Logins and logouts, from rows that are new and rows that have ended since the last look."""

    def __init__(self, path: Path, place: Place | None) -> None:
        self.name = "wtmpdb"
        self.problem = ""
        """Why the database cannot be read now; empty if it can, or is just not there."""
        self._path = path
        self._stamp: object = None
        self._place = place or self._end()

    def position(self) -> Place:
        """Where reading would go on."""
        return self._place

    def changed(self) -> bool:
        """Whether the database was written since it was last read."""
        return self._written() != self._stamp

    def facts(self) -> Iterator[SignIn]:
        """Who came and who left since the last call."""
        if not self._path.exists():
            return
        stamp = self._written()
        try:
            with closing(self._connect()) as database:
                yield from self._new(database)
                yield from self._ended(database)
        except sqlite3.Error as error:
            self.problem = str(error)
            return
        self.problem, self._stamp = "", stamp

    def close(self) -> None:
        """Nothing is held between two looks."""

    def _connect(self) -> sqlite3.Connection:
        # as_uri() escapes what would be an option of the URI.
        return sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)

    def _written(self) -> object:
        """Times and sizes of the database and its journal."""
        return [_stamp(path) for path in (self._path, self._path.with_name(self._path.name + "-wal"))]

    def _end(self) -> Place:
        """After the last row, with the rows that are open there."""
        if not self._path.exists():
            return Place(0, 0)
        try:
            with closing(self._connect()) as database:
                last, login = database.execute("SELECT max(ID), max(Login) FROM wtmp").fetchone()
                still = database.execute(
                    "SELECT ID FROM wtmp WHERE Type = ? AND Logout IS NULL ORDER BY ID DESC LIMIT ?",
                    (_USER_PROCESS, SESSIONS),
                )
                return Place(last or 0, login or 0, tuple(row[0] for row in reversed(still.fetchall())))
        except sqlite3.Error as error:
            self.problem = str(error)
            return Place(0, 0)

    def _new(self, database: sqlite3.Connection) -> Iterator[SignIn]:
        """Logins since the last look. Rotation may empty the table, and ids start over: then time tells."""
        (last,) = database.execute("SELECT coalesce(max(ID), 0) FROM wtmp").fetchone()
        if last < self._place.last:
            self._place = msgspec.structs.replace(self._place, last=0, open=())
        while rows := database.execute(
            f"SELECT {_COLUMNS} FROM wtmp WHERE Type = ? AND ID > ? AND Login > ? ORDER BY ID LIMIT {ROWS}",  # noqa: S608 - constants
            (_USER_PROCESS, self._place.last, self._place.login if not self._place.last else -1),
        ).fetchall():
            for row in rows:
                still = (*self._place.open, row[0])[-SESSIONS:]
                self._place = Place(row[0], max(self._place.login, row[2] or 0), still)
                yield _fact(row, Operation.LOGIN, row[2] or 0)
        self._place = msgspec.structs.replace(self._place, last=last)

    def _ended(self, database: sqlite3.Connection) -> Iterator[SignIn]:
        """Logouts among the rows that had no end before."""
        for number in self._place.open:
            row = database.execute(f"SELECT {_COLUMNS} FROM wtmp WHERE ID = ?", (number,)).fetchone()  # noqa: S608
            if row is None or row[3] is not None:
                still = tuple(other for other in self._place.open if other != number)
                self._place = msgspec.structs.replace(self._place, open=still)
                if row is not None:
                    yield _fact(row, Operation.LOGOUT, row[3])


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_ino, known.st_size, known.st_mtime_ns


def _fact(row: tuple[Any, ...], operation: Operation, microseconds: int) -> SignIn:
    _, user, _, _, line, host, service = row
    return SignIn(
        operation=operation,
        teller="wtmpdb",
        time=microseconds / 1e6,
        program=text(service or "").removesuffix("-l"),
        user=text(user),
        terminal=terminal(line or ""),
        remote=address(host or "") or LOCAL,
    )
