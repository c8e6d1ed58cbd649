"""Names of users as /etc/passwd tells them. Network name services are not asked: they may block for long."""

from __future__ import annotations

from pathlib import Path

PASSWD = Path("/etc/passwd")
PASSWD_MAX = 1_048_576
"""Bytes of the file that are read: some 15,000 accounts, where a device has tens."""


class UserNames:
    """User id → name, read again when the file has changed. Bounded by PASSWD_MAX."""

    def __init__(self, passwd: Path = PASSWD) -> None:
        self._passwd = passwd
        self._version: tuple[int, int, int] | None = None
        self._names: dict[int, str] = {}

    def name(self, uid: int) -> str:
        """The first name with this id; empty if there is none."""
        try:
            status = self._passwd.stat()
            version = status.st_mtime_ns, status.st_size, status.st_ino
            if version != self._version:
                self._names = self._read()
                self._version = version
        except OSError:  # without the file nobody has a name
            self._names, self._version = {}, None
        return self._names.get(uid, "")

    def _read(self) -> dict[int, str]:
        with self._passwd.open("rb") as file:
            lines = file.read(PASSWD_MAX).decode("utf-8", "backslashreplace").splitlines()
        names: dict[int, str] = {}
        for line in lines:
            match line.split(":"):
                case [name, _, uid, _, *_] if uid.isascii() and uid.isdecimal():
                    names.setdefault(int(uid), name)
        return names
