"""Packages of rpm: its SQLite and ndb databases, read without librpm.

Both hold one header blob a package; what a blob is, is told in `rpm_header`. Formats: rpm's
docs/manual/format_header.md and lib/backend/{sqlite.c,ndb/rpmpkg.c}.

An ndb file (`Packages.db`, little endian) begins with a 32-byte header, whose third word counts pages of
4,096 bytes that hold slots of 16: magic, package index, block offset, block count. A blob starts at a
block (16 bytes) with its own 16-byte head: magic, package index, generation, length.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from struct import Struct
from typing import BinaryIO
from urllib.parse import quote

from vedette.agent.losses import MALFORMED, Losses
from vedette.agent.sources import Unavailable
from vedette.agent.sources.files import opened
from vedette.agent.sources.package import Installed
from vedette.agent.sources.rpm_header import Blob, Header, HeaderError, parse

DIRECTORIES = ("usr/lib/sysimage/rpm", "var/lib/rpm")
SQLITE_FILE, NDB_FILE, BDB_FILE = "rpmdb.sqlite", "Packages.db", "Packages"

NDB_PAGE, NDB_SLOT, NDB_BLOCK = 4096, 16, 16
NDB_HEAD = Struct("<4sIII16x")
NDB_SLOT_ENTRY = Struct("<4sIII")
NDB_BLOB_HEAD = Struct("<4sIII")
NDB_MAX_PAGES = 4096
"""Pages of slots that are looked at: a million packages, where the largest systems have ten thousand."""

NO_SOFTWARE = "gpg-pubkey"
"""rpm keeps imported keys as packages of this name."""


def read(root: Path, losses: Losses) -> Iterator[Installed]:
    """What rpm has installed. Raises Unavailable for a Berkeley DB, which only old systems have."""
    seen: set[Path] = set()
    for directory in DIRECTORIES:
        path = (root / directory).resolve()
        if path in seen:
            continue
        seen.add(path)
        if (path / SQLITE_FILE).exists():
            yield from _software(_sqlite(path / SQLITE_FILE, losses))
        elif (path / NDB_FILE).exists():
            yield from _software(_ndb(path / NDB_FILE, losses))
        elif (path / BDB_FILE).exists():
            raise Unavailable(
                f"{path / BDB_FILE}: an rpm database in the Berkeley DB format, which is not read;"
                " rpm 4.16 or later converts it with: rpm --rebuilddb"
            )


def _software(headers: Iterator[Header]) -> Iterator[Installed]:
    for header in headers:
        if header.name != NO_SOFTWARE:
            yield _installed(header)


def _installed(header: Header) -> Installed:
    version = f"{header.version}-{header.release}" if header.release else header.version
    source = header.source_rpm.rsplit("-", 2)[0] if header.source_rpm.count("-") > 1 else ""
    return Installed(
        kind="rpm",
        name=header.name,
        version=f"{header.epoch}:{version}" if header.epoch else version,
        vendor=header.vendor or header.packager,
        architecture=header.architecture,
        source="" if source == header.name else source,
    )


def _parsed(blob: Blob, size: int, at: int, losses: Losses) -> Iterator[Header]:
    try:
        yield parse(blob, size, at)
    except HeaderError:
        losses.count(MALFORMED, hits=1)


def _sqlite(path: Path, losses: Losses) -> Iterator[Header]:
    """Headers of the table Packages. Blobs are read in place: only their index and a few texts.

    `immutable` keeps SQLite from making files beside the database; with a write-ahead log that still
    holds changes it would not see them, so then an ordinary read-only connection is used.
    """
    log = path.with_name(path.name + "-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, check_same_thread=False)
        ) as database:
            for number, size in database.execute("SELECT hnum, length(blob) FROM Packages ORDER BY hnum"):
                if not isinstance(number, int) or not isinstance(size, int):
                    losses.count(MALFORMED, hits=1)
                    continue
                with database.blobopen("Packages", "blob", number, readonly=True) as blob:
                    yield from _parsed(blob, size, 0, losses)
    except sqlite3.Error as error:
        raise Unavailable(f"{path}: {error}") from None


def _ndb(path: Path, losses: Losses) -> Iterator[Header]:
    with opened(path) as file:
        head = file.read(NDB_HEAD.size)
        if len(head) < NDB_HEAD.size or head[:4] != b"RpmP":
            raise Unavailable(f"{path}: not an rpm package database")
        _magic, version, _generation, pages = NDB_HEAD.unpack(head)
        if version != 0:
            raise Unavailable(f"{path}: version {version} of the ndb format is not known")
        for index, offset in _ndb_slots(file, min(pages, NDB_MAX_PAGES)):
            yield from _ndb_blob(file, index, offset, losses)


def _ndb_slots(file: BinaryIO, pages: int) -> Iterator[tuple[int, int]]:
    """(package index, byte offset) of every slot in use; the header takes the first two."""
    for page in range(pages):
        file.seek(page * NDB_PAGE)
        raw = file.read(NDB_PAGE)
        start = NDB_HEAD.size if page == 0 else 0
        usable = raw[start : len(raw) - len(raw) % NDB_SLOT]
        for magic, index, block, _blocks in NDB_SLOT_ENTRY.iter_unpack(usable):
            if magic == b"Slot" and index and block:
                yield index, block * NDB_BLOCK


def _ndb_blob(file: BinaryIO, index: int, offset: int, losses: Losses) -> Iterator[Header]:
    file.seek(offset)
    head = file.read(NDB_BLOB_HEAD.size)
    if len(head) < NDB_BLOB_HEAD.size or head[:4] != b"BlbS":
        losses.count(MALFORMED, hits=1)
        return
    _magic, owner, _generation, size = NDB_BLOB_HEAD.unpack(head)
    if owner != index:
        losses.count(MALFORMED, hits=1)
        return
    yield from _parsed(file, size, offset + NDB_BLOB_HEAD.size, losses)
