"""OSV records → what they say about each package that a device may have.

A record is a JSON file; databases come as directories or zip files of them, one per ecosystem. Ranges of
commits say nothing about an installed package, and withdrawn records nothing at all: they are counted.
Source of the format: OSV schema 1.7.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from vedette.hub.intel.ecosystems import advisory_key
from vedette.hub.intel.formats import FormatError
from vedette.hub.intel.severity import Severity, base_score, of_score, of_words
from vedette.hub.intel.store import LEVEL, Tally

MAX_RECORD_BYTES = 32 * 1024 * 1024
"""Of one file. Records of kernels with all their versions have some megabytes."""

MAX_STATEMENTS = 2_000_000
"""Statements about a package that one import takes: each takes 300 bytes of memory while it lasts. The
largest ecosystem has some 500,000."""

MAX_SUMMARY = 200
TOLD_EVERY = 1_000


class Advisory(msgspec.Struct, frozen=True, array_like=True):
    """What a record says about one package. ranges: of each the events, (kind, version) in their order.

    fits: versions that are affected besides; only where there are no ranges, which say the same in short.
    """

    id: str
    cves: tuple[str, ...]
    summary: str
    score: float | None
    severity: Severity
    ranges: tuple[tuple[tuple[str, str], ...], ...]
    fits: tuple[str, ...]


class _Rated(msgspec.Struct):
    type: str = ""
    score: str = ""


class _Range(msgspec.Struct):
    type: str = ""
    events: list[dict[str, str]] = []


class _Named(msgspec.Struct):
    ecosystem: str = ""
    name: str = ""


class _Affected(msgspec.Struct):
    package: _Named | None = None
    severity: list[_Rated] | None = None
    ranges: list[_Range] | None = None
    versions: list[str] | None = None
    ecosystem_specific: dict[str, Any] | None = None
    database_specific: dict[str, Any] | None = None


class _Record(msgspec.Struct):
    id: str
    summary: str = ""
    details: str = ""
    withdrawn: str | None = None
    aliases: list[str] | None = None
    upstream: list[str] | None = None
    severity: list[_Rated] | None = None
    affected: list[_Affected] | None = None
    database_specific: dict[str, Any] | None = None


_record = msgspec.json.Decoder(_Record)


def records(path: Path) -> Iterator[bytes]:
    """The texts of the records in a file, a directory or a zip file. Raises FormatError."""
    try:
        if path.is_dir():
            for file in sorted(path.rglob("*.json")):
                yield _bounded(file)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if member.filename.endswith(".json"):
                        yield archive.read(member) if member.file_size <= MAX_RECORD_BYTES else b""
        else:
            yield _bounded(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path}: {error}") from None


def _bounded(file: Path) -> bytes:
    return file.read_bytes() if file.stat().st_size <= MAX_RECORD_BYTES else b""


def by_package(
    texts: Iterable[bytes], tally: Tally, told: Callable[[int], None] = lambda taken: None
) -> dict[str, bytes]:
    """Package key → its advisories as `store.unpacked` reads them. told: how many records were read."""
    grouped: dict[str, list[bytes]] = {}
    for number, text in enumerate(texts, 1):
        try:
            found = list(statements(_record.decode(text), tally))
        except msgspec.DecodeError:
            tally.refuse("no OSV record" if text else f"longer than {MAX_RECORD_BYTES} bytes")
            continue
        for key, advisory in found:
            if tally.take():
                grouped.setdefault(key, []).append(msgspec.json.encode(advisory))
        if number % TOLD_EVERY == 0:
            told(number)
    return {key: zlib.compress(b"[" + b",".join(some) + b"]", LEVEL) for key, some in grouped.items()}


def statements(record: _Record, tally: Tally) -> Iterator[tuple[str, Advisory]]:
    """What a record says, by package key; what it says of others is counted."""
    if record.withdrawn:
        tally.refuse("withdrawn")
        return
    named = [record.id, *(record.aliases or ()), *(record.upstream or ())]
    cves = tuple(dict.fromkeys(name for name in named if name.startswith("CVE-")))
    summary = (record.summary or record.details).strip().partition("\n")[0][:MAX_SUMMARY]
    for affected in record.affected or ():
        package = affected.package
        if package is None:
            tally.refuse("names no package")
            continue
        key = advisory_key(package.ecosystem, package.name)
        if key is None:
            tally.refuse(f"ecosystem {package.ecosystem[:48]}")
            continue
        ranges = tuple(
            tuple((kind, version) for event in one.events for kind, version in event.items())
            for one in affected.ranges or ()
            if one.type in ("ECOSYSTEM", "SEMVER")
        )
        fits = () if ranges else tuple(affected.versions or ())
        if not ranges and not fits:
            tally.refuse("tells no versions")
            continue
        score, severity = _rated(record, affected)
        yield key, Advisory(record.id, cves, summary, score, severity, ranges, fits)


def _rated(record: _Record, affected: _Affected) -> tuple[float | None, Severity]:
    """Score and word: of the package's own rating, else of the record's."""
    ratings = [*(affected.severity or ()), *(record.severity or ())]
    scores = [score for one in ratings if (score := base_score(one.score)) is not None]
    if scores:
        return scores[0], of_score(scores[0])
    words: list[object] = [one.score for one in ratings]
    for known in (affected.ecosystem_specific, affected.database_specific, record.database_specific):
        words += [(known or {}).get("severity"), (known or {}).get("urgency")]
    return None, of_words(words)
