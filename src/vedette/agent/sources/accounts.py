"""The names in the device's passwd file."""

from __future__ import annotations

from pathlib import Path

PASSWD_BYTES = 1_048_576
"""Of the file: some 20,000 accounts. A larger one is read so far; names beyond count as unknown."""


class Accounts:
    """Whether there is an account of a name. Looks at the file again when it has changed.

    Accounts from elsewhere (LDAP, sssd) are not known here: asking for them could block for minutes.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._path = root / "etc/passwd"
        self._stamp: tuple[int, int] | None = None
        self._names: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        try:
            known = self._path.stat()
            stamp = (known.st_ino, known.st_mtime_ns)
            if stamp != self._stamp:
                self._names, self._stamp = self._read(), stamp
        except OSError:
            return False
        return name in self._names

    def _read(self) -> frozenset[str]:
        with self._path.open("rb") as file:
            lines = file.read(PASSWD_BYTES).split(b"\n")
        return frozenset(line.partition(b":")[0].decode(errors="backslashreplace") for line in lines)
