"""Files of indicators → indicators: plain lists, CSV, and which of the formats a file has.

A reader yields an Indicator for each entry, or the Refused that tells why it is none.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

import msgspec

from vedette.hub.errors import DomainError
from vedette.hub.intel import misp, stix
from vedette.hub.intel.indicators import Indicator, Kind, Refused, indicator

Format = Literal["list", "csv", "stix", "misp"]

MAX_FILE_BYTES = 2 * 1024**3
"""Of one file: a bundle of two million indicators has less. One object of it is in memory at a time."""

MAX_LINE = 65_536
"""Characters of a line: rows of feeds with descriptions have a few thousand."""

SNIFFED = 65_536
"""Characters looked at to tell a format: a bundle says what it is at its beginning."""

_COMMENT = re.compile(r"^\s*(?:#|;|//)|\s[#;].*")
_NOWHERE = ("0.0.0.0", "127.0.0.1", "::", "::1")  # noqa: S104 - what hosts files put before a name
_MISP_START = re.compile(r'\s*[\[{]\s*"(?:Event|response)"|"Attribute"|\[\s*\{\s*"Event"')

Entries = Iterator[Indicator | Refused]


class FormatError(DomainError, ValueError):
    """A file cannot be read; the text says what is wrong."""


class Reading(NamedTuple):
    """How a file shall be read. kind: of all entries of a list or CSV, None for each as it looks.

    column: the CSV column with the values; empty for the only one.
    """

    kind: Kind | None = None
    column: str = ""


AS_IT_LOOKS = Reading()


def read(path: Path, format: Format | None = None, reading: Reading = AS_IT_LOOKS) -> Entries:
    """The entries of a file, as they are read. Raises FormatError, also while they are."""
    import ijson

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FormatError(f"larger than {MAX_FILE_BYTES} bytes")
        with path.open("rb") as binary:
            known = format or sniff(binary.read(SNIFFED), reading)
            binary.seek(0)
            yield from _READERS[known](binary, reading)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror}") from None
    except (ijson.JSONError, UnicodeDecodeError, FormatError, csv.Error) as error:
        raise FormatError(f"{path}: {' '.join(str(error).split())}") from None


def rated(entries: Iterable[Indicator | Refused], confidence: int | None, expires: float | None) -> Entries:
    """Entries, with what is said of the whole list where they do not say it themselves.

    expires: Unix seconds; an entry that expires earlier by itself does so.
    """
    for entry in entries:
        if isinstance(entry, Indicator) and (confidence is not None or expires is not None):
            ends = [at for at in (entry.expires, expires) if at is not None]
            yield msgspec.structs.replace(
                entry,
                confidence=confidence if entry.confidence is None else entry.confidence,
                expires=min(ends, default=None),
            )
        else:
            yield entry


def sniff(beginning: bytes, reading: Reading = AS_IT_LOOKS) -> Format:
    """The format of a file that begins so."""
    text = beginning.decode(errors="replace").lstrip("\ufeff \t\r\n")
    if text[:1] in ("{", "["):
        return "misp" if _MISP_START.search(text) else "stix"
    return "csv" if reading.column else "list"


def _lines(binary: IO[bytes]) -> Iterator[str]:
    """Lines of bounded length; a longer one comes cut, its rest as a line of its own."""
    while line := binary.readline(MAX_LINE):
        yield line.decode("utf-8-sig")


def _list(binary: IO[bytes], reading: Reading) -> Entries:
    """An entry a line; `#` and `;` begin comments. Lines of hosts files list names."""
    for line in _lines(binary):
        words = _COMMENT.sub("", line).split() if not _COMMENT.match(line) else []
        if words and words[0] in _NOWHERE:
            words = words[1:]
        for word in words[:1]:
            yield _entry(word, reading.kind)


def _csv(binary: IO[bytes], reading: Reading) -> Entries:
    """The values of one column. The names of the columns may stand in a comment, as they do in feeds."""
    wanted, place, names = reading.column.lower(), -1, list[str]()
    for row in filter(None, csv.reader(_lines(binary))):
        comment = row[0].lstrip().startswith("#")
        if place >= 0 and not comment:
            yield _entry(row[place], reading.kind) if len(row) > place else Refused("row without the column")
        elif place < 0:
            if comment or not names:
                names = [cell.strip(" #\t\"'").lower() for cell in row]
            if wanted in names:
                place = names.index(wanted)
            elif not comment:
                break
    if place < 0:
        raise FormatError(f"no column {reading.column!r}; there are {', '.join(names)[:200]}")


def _entry(text: str, kind: Kind | None) -> Indicator | Refused:
    try:
        return indicator(text, kind)
    except Refused as refused:
        return refused


_READERS: dict[Format, Callable[[IO[bytes], Reading], Entries]] = {
    "list": _list,
    "csv": _csv,
    "stix": lambda binary, _: stix.read(binary),
    "misp": lambda binary, _: misp.read(binary),
}
