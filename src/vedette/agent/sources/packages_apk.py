"""Packages of apk (Alpine, recent OpenWrt): paragraphs of one-letter fields, file lists among them.

Format: apk-tools' installed database, version 2: `P` name, `V` version, `A` architecture, `m` maintainer,
`o` the source package it was built from.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vedette.agent.losses import MALFORMED, Losses
from vedette.agent.sources.files import lines, text
from vedette.agent.sources.package import Installed

DATABASES = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
WANTED = frozenset(b"PVAmo")


def read(root: Path, losses: Losses) -> Iterator[Installed]:
    """What apk has installed."""
    seen: set[Path] = set()
    for database in DATABASES:
        path = (root / database).resolve()
        if path.exists() and path not in seen:
            seen.add(path)
            yield from _packages(path, losses)


def _packages(path: Path, losses: Losses) -> Iterator[Installed]:
    found: dict[int, bytes] = {}
    for line in lines(path):
        if line[1:2] == b":" and line[0] in WANTED:
            found[line[0]] = line[2:]
        elif not line and found:
            yield from _package(found, losses)
            found = {}
    if found:
        yield from _package(found, losses)


def _package(found: dict[int, bytes], losses: Losses) -> Iterator[Installed]:
    fields = {chr(letter): text(value) for letter, value in found.items()}
    if not fields.get("P"):
        losses.count(MALFORMED, hits=1)
        return
    origin = fields.get("o", "")
    yield Installed(
        kind="apk",
        name=fields["P"],
        version=fields.get("V", ""),
        vendor=fields.get("m", ""),
        architecture=fields.get("A", ""),
        source="" if origin == fields["P"] else origin,
    )
