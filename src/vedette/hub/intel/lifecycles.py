"""Until when distributions get security updates: a table of ours, and what an owner imports beside it.

An imported entry replaces ours of the same distribution and release. `lifecycles.json` is the form of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from vedette.hub.intel.formats import FormatError
from vedette.hub.intel.schema import IntelPartRow
from vedette.hub.intel.store import Tally, packed, revisions, unpacked

BUILT_IN = Path(__file__).with_name("lifecycles.json")

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 20_000
"""Entries of a file: all releases of all distributions ever are some thousand."""

_VERSION = re.compile(r"\d+(?:\.\d+)*")


class Lifecycle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A release of a distribution. distribution: NAME of its os-release. ends: last day of updates.

    source: where that is told.
    """

    distribution: str
    version: str
    ends: date
    source: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    lifecycles: list[Lifecycle]


def read(path: Path) -> list[Lifecycle]:
    """The entries of a file. Raises FormatError naming the field that is wrong."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FormatError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        return msgspec.json.decode(path.read_bytes(), type=_File).lifecycles
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise FormatError(f"{path}: {error}") from None


def parts(entries: Iterable[Lifecycle], tally: Tally) -> dict[str, bytes]:
    """Entries as `Intel.write` takes them."""
    return {"0": packed([entry for entry in entries if tally.take()])}


class Lifecycles:
    """The table as it is now."""

    def __init__(self) -> None:
        self._revisions: tuple[str, ...] | None = None
        self._known: dict[tuple[str, str], Lifecycle] = {}

    def refresh(self, session: Session) -> None:
        """Look whether another was imported."""
        present = revisions(session, "lifecycles")
        if present == self._revisions:
            return
        self._revisions = present
        entries = read(BUILT_IN)
        rows = select(IntelPartRow.data).where(IntelPartRow.revision.in_(present))
        for data in session.scalars(rows.order_by(IntelPartRow.written)):
            entries += unpacked(data, list[Lifecycle])
        self._known = {(entry.distribution.lower(), entry.version): entry for entry in entries}

    def of(self, distribution: str, described: str) -> Lifecycle | None:
        """The entry of a distribution by its NAME and PRETTY_NAME; the most precise that there is."""
        match = _VERSION.search(described.removeprefix(distribution))
        version = match[0] if match else ""
        while version:
            if entry := self._known.get((distribution.lower(), version)):
                return entry
            version = version.rpartition(".")[0]
        return None
