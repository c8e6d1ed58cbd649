"""Packages of dpkg and opkg, whose databases are paragraphs of `Field: value` lines.

Formats: deb-control(5), dpkg's `status` file; distroless images keep one paragraph a file in `status.d`.
The files are streamed: a status file of 5,000 packages has 7 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vedette.agent.losses import MALFORMED, Losses
from vedette.agent.sources.files import entries, lines, text
from vedette.agent.sources.package import Installed

DPKG_STATUS = "var/lib/dpkg/status"
DPKG_STATUS_D = "var/lib/dpkg/status.d"
OPKG_DIRS = ("usr/lib/opkg", "var/lib/opkg", "opt/lib/opkg")

GONE = frozenset({"not-installed", "config-files"})
"""States in which a package's files are not on the device. All others have at least some of them."""

WANTED = frozenset({b"package", b"version", b"maintainer", b"architecture", b"source", b"status"})

Paragraph = dict[bytes, bytes]


def dpkg(root: Path, losses: Losses) -> Iterator[Installed]:
    """What dpkg has installed."""
    files = [
        root / DPKG_STATUS,
        *(path for path in entries(root / DPKG_STATUS_D) if path.suffix != ".md5sums"),
    ]
    for path in files:
        if path.exists():
            yield from _packages("deb", path, losses)


def opkg(root: Path, losses: Losses) -> Iterator[Installed]:
    """What opkg (OpenWrt, Yocto) has installed. Its status file lacks maintainer and source, which stand
    in a control file for each package."""
    for directory in OPKG_DIRS:
        if (root / directory / "status").exists():
            for found in _packages("opkg", root / directory / "status", losses):
                control = root / directory / "info" / f"{Path(found.name).name}.control"
                yield _with_control(found, control, losses) if control.exists() else found


def _with_control(found: Installed, control: Path, losses: Losses) -> Installed:
    return next(
        (full for full in _packages("opkg", control, losses) if full.name == found.name),
        found,
    )


def _packages(kind: str, path: Path, losses: Losses) -> Iterator[Installed]:
    for paragraph in paragraphs(path):
        state = paragraph.get(b"status", b"").split()
        if state and state[-1].decode("ascii", "replace") in GONE:
            continue
        if b"package" not in paragraph:
            losses.count(MALFORMED, hits=1)
            continue
        name = text(paragraph[b"package"])
        source = _source(paragraph)
        yield Installed(
            kind=kind,
            name=name,
            version=text(paragraph.get(b"version", b"")),
            vendor=text(paragraph.get(b"maintainer", b"")),
            architecture=text(paragraph.get(b"architecture", b"")),
            source="" if source == name else source,
        )


def _source(paragraph: Paragraph) -> str:
    """`glibc (2.36-9)` and OpenWrt's `feeds/base/package/libs/openssl` without version and directory."""
    return text(paragraph.get(b"source", b"").partition(b"(")[0]).rpartition("/")[2]


def paragraphs(path: Path) -> Iterator[Paragraph]:
    """The paragraphs of a control file, reduced to the fields in WANTED. Raises OSError."""
    found: Paragraph = {}
    for line in lines(path):
        if not line:
            if found:
                yield found
            found = {}
        elif line[:1] not in b" \t":
            field, colon, value = line.partition(b":")
            if colon and (field := field.lower()) in WANTED:
                found[field] = value
    if found:
        yield found
