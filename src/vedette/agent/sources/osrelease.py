"""Which operating system this is: os-release(5), the kernel's own words, and OpenWrt's files."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import msgspec

from vedette.agent.sources.files import attribute, content, text

OS_RELEASE = ("etc/os-release", "usr/lib/os-release", "etc/openwrt_release")

EDGE_FILES = ("etc/aziot/config.toml", "etc/iotedge/config.yaml")
"""Configuration of the Azure IoT Edge runtime, 1.2 and later, and before."""


class OperatingSystem(msgspec.Struct, frozen=True, kw_only=True):
    """The operating system; a text is empty where the device does not say.

    id and version_id are the lower-case words of os-release (`debian`, `12`), name and pretty_name those
    for people. architecture is the kernel's, as in `x86_64`.
    """

    id: str
    version_id: str
    name: str
    pretty_name: str
    kernel: str
    architecture: str


def operating_system(root: Path) -> OperatingSystem:
    """What the files under `root` tell."""
    fields = _fields(root)
    name = fields.get("NAME") or fields.get("DISTRIB_ID", "")
    version = fields.get("VERSION_ID") or fields.get("DISTRIB_RELEASE", "")
    return OperatingSystem(
        id=(fields.get("ID") or name).lower(),
        version_id=version,
        name=name,
        pretty_name=fields.get("PRETTY_NAME") or f"{name} {version}".strip(),
        kernel=attribute(root / "proc/sys/kernel/osrelease"),
        architecture=attribute(root / "proc/sys/kernel/arch") or os.uname().machine,
    )


def runs_edge(root: Path) -> bool:
    """Whether the device runs the Azure IoT Edge runtime."""
    return any((root / path).exists() for path in EDGE_FILES)


def _fields(root: Path) -> dict[str, str]:
    raw = next((found for path in OS_RELEASE if (found := content(root / path))), b"")
    pairs = (text(line).partition("=") for line in raw.splitlines() if not line.lstrip().startswith(b"#"))
    return {key: _unquoted(value) for key, equals, value in pairs if equals}


def _unquoted(value: str) -> str:
    """A value without shell quotes; one whose quotes do not match, as it stands."""
    try:
        return " ".join(shlex.split(value))
    except ValueError:
        return value
