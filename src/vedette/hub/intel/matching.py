"""Advisories against inventories: what is known about the software of a device.

What was found out about a package in a version is remembered: a fleet has the same ones over and over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from vedette.hub.intel.ecosystems import package_keys, parsed
from vedette.hub.intel.osv import Advisory
from vedette.hub.intel.schema import IntelPartRow
from vedette.hub.intel.severity import SEVERITIES, Severity
from vedette.hub.intel.store import revisions, unpacked
from vedette.wire.events import Package

KEYS_AT_ONCE = 500
"""Packages asked for in one query: below the limits of both databases."""

REMEMBERED = 100_000
"""Versions of packages whose vulnerabilities are remembered: the different ones of a mixed fleet."""


class Vulnerability(msgspec.Struct, frozen=True):
    """A known weakness of an installed package. fixed: the first version without it; empty if none is known.

    package: the one that the advisory speaks of, which for some distributions is the source package.
    """

    advisory: str
    cves: tuple[str, ...]
    package: str
    version: str
    purl: str
    fixed: str
    severity: Severity
    score: float | None
    summary: str


_Seen = tuple[str, str]
"""Key and version of a package."""


class Advisories:
    """The advisories that were imported. state: stands for what they are now; empty if there are none."""

    def __init__(self) -> None:
        self.state = ""
        self._revisions: tuple[str, ...] = ()
        self._known: dict[_Seen, tuple[Vulnerability, ...]] = {}

    def refresh(self, session: Session) -> None:
        """Look whether there are others."""
        present = revisions(session, "advisories")
        if present != self._revisions:
            self._revisions = present
            self.state = blake2b("".join(present).encode(), digest_size=8).hexdigest() if present else ""
            self._known.clear()

    def about(self, session: Session, packages: Iterable[Package]) -> Sequence[Vulnerability]:
        """What is known about these packages, the worst first."""
        wanted: dict[_Seen, Package] = {}
        for package in packages:
            if package.version:
                for key in package_keys(package):
                    wanted.setdefault((key, package.version), package)
        new = {seen: package for seen, package in wanted.items() if seen not in self._known}
        if len(self._known) + len(new) > REMEMBERED:
            self._known.clear()
            new = wanted
        self._learn(session, new)
        found = [
            one if one.purl == package.purl else msgspec.structs.replace(one, purl=package.purl)
            for seen, package in wanted.items()
            for one in self._known[seen]
        ]
        return sorted(
            found, key=lambda one: (SEVERITIES.index(one.severity), -(one.score or 0.0), one.advisory)
        )

    def _learn(self, session: Session, new: dict[_Seen, Package]) -> None:
        by_key: dict[str, list[tuple[str, Package]]] = {}
        for (key, version), package in new.items():
            by_key.setdefault(key, []).append((version, package))
            self._known[key, version] = ()
        keys = sorted(by_key)
        for start in range(0, len(keys), KEYS_AT_ONCE):
            rows = select(IntelPartRow.key, IntelPartRow.data).where(
                IntelPartRow.revision.in_(self._revisions),
                IntelPartRow.key.in_(keys[start : start + KEYS_AT_ONCE]),
            )
            for key, data in session.execute(rows):
                advisories = unpacked(data, tuple[Advisory, ...])
                for version, package in by_key[key]:
                    self._known[key, version] += tuple(
                        _vulnerability(one, key, package, fixed)
                        for one in advisories
                        if (fixed := fixed_in(one, key, version)) is not None
                    )


def fixed_in(advisory: Advisory, key: str, version: str) -> str | None:
    """The version that fixes it, empty if none does; None if the version is not affected."""
    if version in advisory.fits:
        return ""
    for events in advisory.ranges:
        try:
            fixed = _within(events, key, version)
        except ValueError:
            continue  # a version that its own ecosystem's rules do not know compares with none
        if fixed is not None:
            return fixed
    return None


def _within(events: tuple[tuple[str, str], ...], key: str, version: str) -> str | None:
    """OSV's evaluation of a range: of the events that a version has reached the last decides.

    Versions are compared with `<` alone: univers has the other operators right for some ecosystems only.
    """
    own = _version(key, version)
    affected = ("introduced", "0") in events
    dated = [(_version(key, at), kind, at) for kind, at in events if (kind, at) != ("introduced", "0")]
    fixed = ""
    for at, kind, text in sorted(dated, key=itemgetter(0)):
        if at < own or (kind != "last_affected" and not own < at):
            affected = kind == "introduced"
        elif kind == "fixed" and not fixed:
            fixed = text
    return fixed if affected else None


def _vulnerability(advisory: Advisory, key: str, package: Package, fixed: str) -> Vulnerability:
    return Vulnerability(
        advisory.id,
        advisory.cves,
        key.rpartition("/")[2],
        package.version,
        package.purl,
        fixed,
        advisory.severity,
        advisory.score,
        advisory.summary,
    )


_version = lru_cache(maxsize=65_536)(parsed)
