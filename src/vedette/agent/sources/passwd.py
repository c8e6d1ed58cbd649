"""Accounts as /etc/passwd tells them. Network name services are not asked: they may block for long."""

from __future__ import annotations

from pathlib import Path

from vedette.agent.sources.files import opened

PASSWD = Path("/etc/passwd")
PASSWD_MAX = 1_048_576
"""Bytes of the file that are read: some 15,000 accounts, where a device has tens."""


class Accounts:
    """Names, and user id → name, read again when the file has changed. Bounded by PASSWD_MAX."""

    def __init__(self, passwd: Path = PASSWD) -> None:
        self._passwd = passwd
        self._version: tuple[int, int, int] | None = None
        self._names: frozenset[str] = frozenset()
        self._by_id: dict[int, str] = {}

    def name(self, uid: int) -> str:
        """The first name with this id; empty if there is none."""
        self._look()
        return self._by_id.get(uid, "")

    def __contains__(self, name: str) -> bool:
        self._look()
        return name in self._names

    def _look(self) -> None:
        try:
            status = self._passwd.stat()
            version = status.st_mtime_ns, status.st_size, status.st_ino
            if version != self._version:
                self._read()
                self._version = version
        except OSError:  # without the file there is no account
            self._names, self._by_id, self._version = frozenset(), {}, None

    def _read(self) -> None:
        with opened(self._passwd) as file:
            lines = file.read(PASSWD_MAX).decode("utf-8", "backslashreplace").splitlines()
        entries = [line.split(":") for line in lines]
        self._names = frozenset(entry[0] for entry in entries)
        self._by_id = {}
        for entry in entries:
            match entry:
                case [name, _, uid, _, *_] if uid.isascii() and uid.isdecimal():
                    self._by_id.setdefault(int(uid), name)
