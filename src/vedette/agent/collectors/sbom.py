"""The software inventory: every installed package, then only what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import time
from typing import ClassVar
from urllib.parse import quote

from vedette.agent.collectors.snapshot import Part, SnapshotCollector
from vedette.agent.losses import Losses
from vedette.agent.sources.osrelease import OperatingSystem, operating_system
from vedette.agent.sources.package import Installed
from vedette.agent.sources.packages import installed
from vedette.wire.events import Package, SBoM
from vedette.wire.twin import Priority, Settings

MAX_NOTE = 512
"""Characters of a note: a path and a reason."""

DISTRIBUTED = frozenset({"deb", "rpm", "apk", "opkg"})
"""Kinds whose package URL names the distribution: the same version is patched differently by each."""

BUNDLES = frozenset({"snap", "flatpak"})
"""Kinds without a registered package URL type."""


class SBoMCollector(SnapshotCollector[Package]):
    """Packages of all package managers on the device.

    root: where the device's files are.
    """

    name = "SBoM"
    source = "package databases"
    changes_only: ClassVar[bool] = True

    def __init__(self, state: Path, *, root: Path = Path("/"), clock: Callable[[], float] = time) -> None:
        super().__init__(state, clock=clock)
        self._root = root
        self._notes: list[str] = []

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.sbom_disabled

    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""
        return settings.sbom_frequency

    def full_every(self, settings: Settings) -> int:
        """Days after which all packages are listed again."""
        return settings.sbom_full_every

    def read(self, losses: Losses) -> Iterator[Package]:
        """The packages that are installed now."""
        self._notes = []
        return inventory(self._root, self._notes, losses)

    def key(self, item: Package) -> str:
        """A package URL names one package in one version."""
        return item.purl

    def remarks(self) -> tuple[str, ...]:
        """A database that can no longer be read is a change."""
        return tuple(note[:MAX_NOTE] for note in self._notes)

    def payload(self, part: Part[Package]) -> SBoM:
        """The event that tells a part."""
        return SBoM(
            snapshot_id=part.snapshot_id,
            previous_id=part.previous_id,
            part=part.number,
            parts=part.of,
            packages=part.items,
            removed=part.removed,
            total=part.total,
            notes=self.remarks() if part.number == 1 else (),
        )


def inventory(root: Path, notes: list[str], losses: Losses) -> Iterator[Package]:
    """Every package under `root` with its package URL. What could not be read is told in `notes`."""
    system = operating_system(root)
    for found in installed(root, notes, losses):
        yield Package(
            name=found.name,
            version=found.version,
            vendor=found.vendor,
            architecture=found.architecture,
            source=found.source,
            purl=package_url(found, system),
        )


def package_url(package: Installed, system: OperatingSystem) -> str:
    """`pkg:type/namespace/name@version?qualifiers`, as the package URL specification wants it."""
    kind, namespace, name, version = package.kind, "", package.name, package.version
    qualifiers = {"arch": package.architecture}
    if kind in DISTRIBUTED:
        namespace = system.id
        qualifiers["distro"] = f"{system.id}-{system.version_id}" if system.version_id else system.id
    if kind in BUNDLES:
        kind, namespace = "generic", kind
    if kind == "rpm" and ":" in version:
        qualifiers["epoch"], _, version = version.partition(":")
    if kind == "npm":
        namespace, _, name = name.rpartition("/")
    if kind == "pypi":
        name = name.lower().replace("_", "-")
    path = "/".join(_escaped(part) for part in (kind, namespace, name) if part)
    query = "&".join(f"{key}={_escaped(value)}" for key, value in sorted(qualifiers.items()) if value)
    return f"pkg:{path}" + (f"@{_escaped(version)}" if version else "") + (f"?{query}" if query else "")


def _escaped(part: str) -> str:
    return quote(part, safe=":")
