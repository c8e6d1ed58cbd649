"""Every package on the device, from every package database that is there.

A database is a module with `read(root)`, listed in DATABASES. It yields nothing where the device does
not have it, and raises Unavailable where it has it but it cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vedette.agent.losses import Losses
from vedette.agent.sources import (
    Unavailable,
    packages_apk,
    packages_bundle,
    packages_control,
    packages_language,
    packages_rpm,
)
from vedette.agent.sources.package import Installed

DATABASES = (
    packages_control.dpkg,
    packages_control.opkg,
    packages_rpm.read,
    packages_apk.read,
    packages_language.python,
    packages_language.node,
    packages_bundle.snap,
    packages_bundle.flatpak,
)


def installed(root: Path, notes: list[str], losses: Losses) -> Iterator[Installed]:
    """All packages. What could not be read is told in `notes`; malformed records are counted."""
    for read in DATABASES:
        try:
            yield from read(root, losses)
        except Unavailable as reason:
            notes.append(str(reason))
        except OSError as error:
            notes.append(f"{error.filename or read.__module__}: {error.strerror or error}")
