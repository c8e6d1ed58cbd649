"""How ecosystems name packages and compare versions, and which of them a device's inventory can hold.

A package's key is the same whether an advisory names it (`Debian:12`, `openssl`) or a package URL does
(`pkg:deb/debian/libssl3@3.0.9-1?distro=debian-12` built from `openssl`): `deb/debian/12/openssl`.
Sources: the ecosystem list of the OSV schema 1.7; the package URL specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from vedette.wire.events import Package

if TYPE_CHECKING:
    from univers.versions import Version

_RELEASES = (
    (re.compile(r"Debian:(\d+)"), "deb/debian/{}"),
    (re.compile(r"Ubuntu:(\d+\.\d+)(?::LTS)?"), "deb/ubuntu/{}"),
    (re.compile(r"Alpine:v(\d+\.\d+)"), "apk/alpine/{}"),
    (re.compile(r"(?i:(wolfi|chainguard))"), "apk/{}"),
    (re.compile(r"AlmaLinux:(\d+)"), "rpm/almalinux/{}"),
    (re.compile(r"Rocky Linux:(\d+)"), "rpm/rocky/{}"),
    (re.compile(r"Red Hat:enterprise_linux:(\d+)\b.*"), "rpm/rhel/{}"),
    (re.compile(r"Mageia:(\d+)"), "rpm/mageia/{}"),
    (re.compile(r"openSUSE:Leap (\d+\.\d+)"), "rpm/opensuse-leap/{}"),
    (re.compile(r"SUSE:Linux Enterprise Server (\d+)(?: SP(\d+))?(?:-LTSS)?"), "rpm/sles/{}"),
    (re.compile(r"(?i:(pypi|npm))"), "{}"),
)
"""Names of ecosystems → beginnings of keys."""

_BASES = {"raspbian": "debian"}
"""Distributions that rebuild another's packages under its release numbers and versions."""

_MAJOR_ONLY = frozenset({"almalinux", "rocky", "rhel"})
_SUSE = frozenset({"opensuse-leap", "sles"})


@cache
def beginning(ecosystem: str) -> str | None:
    """Of the keys of an ecosystem's packages; None where no inventory holds any."""
    for pattern, form in _RELEASES:
        if match := pattern.fullmatch(ecosystem):
            return form.format(".".join(part for part in match.groups() if part).lower())
    return None


def advisory_key(ecosystem: str, name: str) -> str | None:
    """The key of a package that an advisory names; None where no inventory can hold it."""
    begin = beginning(ecosystem)
    return None if begin is None else f"{begin}/{_pypi(name) if begin == 'pypi' else name}"


def package_keys(package: Package) -> Iterator[str]:
    """The keys under which advisories may speak of an installed package.

    Debian's, Alpine's and SUSE's speak of source packages, the others of those that are installed.
    """
    path, _, query = package.purl.removeprefix("pkg:").partition("?")
    kind, _, rest = path.partition("@")[0].partition("/")
    if kind in ("pypi", "npm"):
        yield f"{kind}/{unquote(rest)}"
        return
    vendor, _, name = unquote(rest).partition("/")
    begin = "/".join(filter(None, (kind, _BASES.get(vendor, vendor), _release(vendor, query))))
    if package.source and (kind in ("deb", "apk") or vendor in _SUSE):
        yield f"{begin}/{package.source}"
    else:
        yield f"{begin}/{name}"


def _release(vendor: str, query: str) -> str:
    """The release of a distribution, as precise as its advisories are."""
    release = dict(parse_qsl(query)).get("distro", "").removeprefix(vendor).removeprefix("-")
    if vendor in _MAJOR_ONLY:
        return release.partition(".")[0]
    return ".".join(release.split(".")[:2])


_AFTER_RELEASE = re.compile(r"_(?:cvs|svn|git|hg)(?=\d|-|$)")
"""Suffixes of apk for what came after a release; of those univers knows `_p` only."""


def _pypi(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _schemes() -> Mapping[str, type[Version]]:
    from univers import versions

    return {
        "deb": versions.DebianVersion,
        "apk": versions.AlpineLinuxVersion,
        "rpm": versions.RpmVersion,
        "pypi": versions.PypiVersion,
        "npm": versions.SemverVersion,
    }


def parsed(key: str, version: str) -> Version:
    """A version by the rules of a key's ecosystem. Raises ValueError (univers' InvalidVersion is one)."""
    kind = key.partition("/")[0]
    if kind == "apk":
        version = _AFTER_RELEASE.sub("_p", version)
    scheme = _schemes()[kind]
    try:
        return scheme(version)
    except (AttributeError, IndexError, KeyError, TypeError) as error:  # of some versions that are none
        raise ValueError(f"{version[:64]!r} is no version") from error
