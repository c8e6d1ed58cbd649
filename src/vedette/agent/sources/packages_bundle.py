"""Snaps and flatpaks: applications that bring their libraries along.

Read from what the two leave mounted or unpacked; squashfs images and OSTree objects are not opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vedette.agent.losses import MALFORMED, Losses
from vedette.agent.sources.files import content, entries, text
from vedette.agent.sources.package import Installed

SNAP_MOUNTS = ("snap", "var/lib/snapd/snap")
FLATPAK_INSTALLATION = "var/lib/flatpak"

_YAML_FIELD = re.compile(rb"^(name|version): *['\"]?([^'\"\n]*)", re.MULTILINE)
_RELEASE = re.compile(rb"<release\b[^>]*\bversion=[\"']([^\"'>]{1,128})[\"']")


def snap(root: Path, losses: Losses) -> Iterator[Installed]:
    """Snaps whose current revision is mounted. Of snap.yaml only two top-level lines are needed."""
    for mounts in SNAP_MOUNTS:
        for directory in entries(root / mounts):
            yaml = directory / "current" / "meta" / "snap.yaml"
            if not yaml.exists():
                continue
            fields = dict(_YAML_FIELD.findall(content(yaml)))
            if name := text(fields.get(b"name", b"")):
                yield Installed(kind="snap", name=name, version=text(fields.get(b"version", b"")))
            else:
                losses.count(MALFORMED, hits=1)


def flatpak(root: Path, losses: Losses) -> Iterator[Installed]:
    """Applications and runtimes installed for all users, with the release that their metadata names first,
    else the branch. Below `app` and `runtime` lie id, architecture and branch."""
    for kind in ("app", "runtime"):
        for application in entries(root / FLATPAK_INSTALLATION / kind):
            for architecture in entries(application):
                for branch in entries(architecture):
                    if architecture.is_symlink() or branch.is_symlink() or not (branch / "active").exists():
                        continue
                    yield Installed(
                        kind="flatpak",
                        name=text(application.name.encode()),
                        version=_release(branch / "active", application.name) or text(branch.name.encode()),
                        architecture=text(architecture.name.encode()),
                    )


def _release(active: Path, name: str) -> str:
    for file in (f"{name}.metainfo.xml", f"{name}.appdata.xml"):
        for directory in ("files/share/metainfo", "files/share/appdata"):
            if found := _RELEASE.search(content(active / directory / file)):
                return text(found[1])
    return ""
