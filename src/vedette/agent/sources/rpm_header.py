"""The header blob of an rpm package: an index of tags, then the values that it points into.

Big endian: count of index entries, length of the values; each entry of 16 bytes is tag, type, offset,
count. Of a blob of any size only the index and a few short texts are read. Format: rpm's
docs/manual/format_header.md; the bounds are those of its hdrchk macros.
"""

from __future__ import annotations

from struct import Struct
from typing import Protocol

import msgspec

from vedette.agent.sources.files import MAX_TEXT, text

INTRO = Struct(">II")
ENTRY = Struct(">IIII")

MAX_ENTRIES = 0xFFFF
MAX_VALUES = 0x0FFFFFFF

INT32, STRING, I18N_STRING = 4, 6, 9

NAME, VERSION, RELEASE, EPOCH = 1000, 1001, 1002, 1003
VENDOR, PACKAGER, ARCHITECTURE, SOURCE_RPM = 1011, 1015, 1022, 1044
TEXTS = frozenset({NAME, VERSION, RELEASE, VENDOR, PACKAGER, ARCHITECTURE, SOURCE_RPM})


class HeaderError(ValueError):
    """A blob that is not an rpm header, or not a whole one."""


class Blob(Protocol):
    """What a header is read from: a file, or a value in a database."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes from where it stands."""
        ...

    def seek(self, offset: int, /) -> object:
        """Stand at `offset`."""
        ...


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The tags of a package that are used; a text is empty, the epoch 0, where there is none."""

    name: str
    version: str
    release: str
    epoch: int
    vendor: str
    packager: str
    architecture: str
    source_rpm: str


def parse(blob: Blob, size: int, at: int = 0) -> Header:
    """Read the header of `size` bytes that starts at `at`. Raises HeaderError."""
    blob.seek(at)
    intro = blob.read(INTRO.size)
    if len(intro) < INTRO.size:
        raise HeaderError("shorter than its introduction")
    entries, length = INTRO.unpack(intro)
    if entries > MAX_ENTRIES or length > MAX_VALUES:
        raise HeaderError(f"{entries} entries and {length} bytes are more than a header holds")
    values = INTRO.size + entries * ENTRY.size
    if values + length > size:
        raise HeaderError(f"needs {values + length} bytes and has {size}")
    index = blob.read(entries * ENTRY.size)
    if len(index) < entries * ENTRY.size:
        raise HeaderError("ends inside its index")
    texts, epoch = _values(blob, index, at + values, length)
    if not texts.get(NAME):
        raise HeaderError("has no name")
    return Header(
        name=texts[NAME],
        version=texts.get(VERSION, ""),
        release=texts.get(RELEASE, ""),
        epoch=epoch,
        vendor=texts.get(VENDOR, ""),
        packager=texts.get(PACKAGER, ""),
        architecture=texts.get(ARCHITECTURE, ""),
        source_rpm=texts.get(SOURCE_RPM, ""),
    )


def _values(blob: Blob, index: bytes, start: int, length: int) -> tuple[dict[int, str], int]:
    """The wanted texts by tag, and the epoch; what points outside of the values is not followed."""
    texts: dict[int, str] = {}
    epoch = 0
    for tag, kind, offset, _count in ENTRY.iter_unpack(index):
        if offset >= length:
            continue
        if tag in TEXTS and tag not in texts and kind in (STRING, I18N_STRING):
            blob.seek(start + offset)
            raw = blob.read(min(4 * MAX_TEXT, length - offset))
            texts[tag] = text(raw.partition(b"\0")[0])
        elif tag == EPOCH and kind == INT32 and length - offset >= 4:
            blob.seek(start + offset)
            epoch = int.from_bytes(blob.read(4), "big")
    return texts, epoch
