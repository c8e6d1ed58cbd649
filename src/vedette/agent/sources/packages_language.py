"""Python and Node packages that their own tools installed for the whole device.

What the distribution packaged is left out: its database has it, under the version that it patched.
Formats: PEP 376 and 627 (`*.dist-info`), `package.json` of npm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import msgspec

from vedette.agent.losses import MALFORMED, Losses
from vedette.agent.sources.files import MAX_TEXT, content, entries, text
from vedette.agent.sources.package import Installed

PYTHON_SITES = (
    "usr/lib/python3*/site-packages",
    "usr/lib/python3*/dist-packages",
    "usr/lib/python3/dist-packages",
    "usr/lib64/python3*/site-packages",
    "usr/local/lib/python3*/site-packages",
    "usr/local/lib/python3*/dist-packages",
)
PYTHON_INSTALLERS = frozenset({"pip", "uv", "poetry", "pdm", "pipx", "conda"})
"""Who wrote INSTALLER where a package is not the distribution's (theirs say `debian`, `rpm` or nothing)."""

NODE_PREFIXES = ("usr/lib/node_modules", "usr/local/lib/node_modules")

MAX_PACKAGE_JSON = 1_048_576
"""Bytes of a package.json; a longer one cannot be decoded and counts as malformed. npm's own has 6 KB."""


class Manifest(msgspec.Struct):
    """The part of a package.json that is used."""

    name: str
    version: str = ""
    author: str | Mapping[str, object] = ""


def python(root: Path, losses: Losses) -> Iterator[Installed]:
    """Distributions in the system's site directories that pip and its like installed."""
    sites = dict.fromkeys(site.resolve() for pattern in PYTHON_SITES for site in _matches(root, pattern))
    for info in chain.from_iterable(entries(site) for site in sites):
        if info.name.endswith(".dist-info") and text(content(info / "INSTALLER")) in PYTHON_INSTALLERS:
            yield from _distribution(info / "METADATA", losses)


def node(root: Path, losses: Losses) -> Iterator[Installed]:
    """Packages that npm installed globally."""
    for prefix in NODE_PREFIXES:
        for directory in entries(root / prefix):
            scoped = entries(directory) if directory.name.startswith("@") else [directory]
            for package in scoped:
                if (package / "package.json").exists():
                    yield from _manifest(package / "package.json", losses)


def _matches(root: Path, pattern: str) -> list[Path]:
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []


def _distribution(metadata: Path, losses: Losses) -> Iterator[Installed]:
    headers: dict[bytes, bytes] = {}
    for line in content(metadata).partition(b"\n\n")[0].splitlines():
        field, colon, value = line.partition(b": ")
        if colon:
            headers.setdefault(field.lower(), value)
    if b"name" not in headers:
        losses.count(MALFORMED, hits=1)
        return
    yield Installed(
        kind="pypi",
        name=text(headers[b"name"]),
        version=text(headers.get(b"version", b"")),
        vendor=text(headers.get(b"author") or headers.get(b"author-email") or b""),
    )


def _manifest(path: Path, losses: Losses) -> Iterator[Installed]:
    try:
        manifest = msgspec.json.decode(content(path, MAX_PACKAGE_JSON), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        losses.count(MALFORMED, hits=1)
        return
    author = manifest.author if isinstance(manifest.author, str) else str(manifest.author.get("name", ""))
    yield Installed(
        kind="npm",
        name=manifest.name[:MAX_TEXT],
        version=manifest.version[:MAX_TEXT],
        vendor=author[:MAX_TEXT],
    )
