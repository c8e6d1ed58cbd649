"""Facts about file systems: what is mounted, or would be at the next start."""

from __future__ import annotations

import re
from typing import NamedTuple

from vedette.agent.baseline.device import Device, Line, fact

PSEUDO = frozenset(
    {"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs"}
    | {"efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs"}
    | {"securityfs", "selinuxfs", "sysfs", "tracefs"}
)
"""File systems that hold no files of anybody's."""

REMOTE = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "nfs", "nfs4", "smb3", "virtiofs"}
)
"""File systems of another machine: their permissions are that machine's business, their walk its load."""


class Mount(NamedTuple):
    """One mount: from /proc/mounts, fstab or a mount unit, as `line` says."""

    source: str
    point: str
    kind: str
    options: frozenset[str]
    line: Line


@fact
def fstab(device: Device) -> list[Mount]:
    """What fstab and enabled mount units ask for."""
    return _table(device, "/etc/fstab") + [
        mount
        for path in device.glob("/etc/systemd/system/*.wants/*.mount")
        if (mount := _unit(device, path)) is not None
    ]


@fact
def mounts(device: Device) -> dict[str, Mount]:
    """Mount point → its topmost mount: what is mounted, or for an image what fstab asks for."""
    return {mount.point: mount for mount in _table(device, "/proc/mounts") or fstab(device)}


def _table(device: Device, path: str) -> list[Mount]:
    found = []
    for line in device.lines(path):
        fields = line.text.split()
        if len(fields) >= 4:
            source, point = (_unescaped(field) for field in fields[:2])
            found.append(Mount(source, point, fields[2], frozenset(fields[3].split(",")), line))
    return found


def _unescaped(field: str) -> str:
    """A blank in a path stands as `\\040` in these tables."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _unit(device: Device, path: str) -> Mount | None:
    settings = dict(line.text.split("=", 1) for line in device.lines(path, "#;") if "=" in line.text)
    if "Where" not in settings:
        return None
    options = settings.get("Options", "")
    return Mount(
        settings.get("What", ""),
        settings["Where"],
        settings.get("Type", ""),
        frozenset(options.split(",")),
        Line(path, f"Options={options}"),
    )
