"""Chapter 1.1: file systems that can be loaded, partitions, mount options."""

# ruff: noqa: S108 - /tmp and its like are mount points here, not places for files of ours

from __future__ import annotations

from collections.abc import Mapping

from vedette.agent.baseline.declare import (
    Finding,
    Profile,
    Reason,
    Severity,
    Tally,
    check,
    failed,
    on_device,
    passed,
)
from vedette.agent.baseline.device import Device
from vedette.agent.baseline.families import module_blocked, mount_option, own_mount, service_off
from vedette.agent.baseline.mounts import fstab, mounts
from vedette.agent.baseline.search import Kind, search
from vedette.agent.baseline.tree import Directory

_INFO = Severity.INFORMATIONAL


def _needed(kind: str, where: str) -> Mapping[Profile, Reason]:
    """Off on a device, which often starts from such a file system, and on a server that has one mounted."""

    def mounted(device: Device) -> str | None:
        point = next((mount.point for mount in mounts(device).values() if mount.kind == kind), None)
        return f"a {kind} file system is mounted at {point}" if point else None

    return {Profile.DEVICE: f"{kind} is at home in {where}", Profile.SERVER: mounted}


for number, module, sentence, off in (
    ("1.1.1.1", "cramfs", "The compressed read-only file system cramfs", {}),
    ("1.1.1.2", "freevxfs", "The Veritas file system freevxfs", {}),
    ("1.1.1.3", "jffs2", "The flash file system jffs2", _needed("jffs2", "raw flash")),
    ("1.1.1.4", "hfs", "The Mac OS file system hfs", {}),
    ("1.1.1.5", "hfsplus", "The macOS file system hfsplus", {}),
    ("1.1.1.6", "squashfs", "The image file system squashfs", _needed("squashfs", "device images")),
    ("1.1.1.7", "udf", "The DVD file system udf", {}),
    ("1.1.1.8", "vfat", "The FAT file system", _needed("vfat", "boot partitions")),
):
    module_blocked(
        number,
        module,
        f"{sentence} cannot be loaded: code that parses foreign media stays out of the kernel unless needed.",
        severity=_INFO,
        off=off,
    )

_PARTITIONS = on_device("a device image rarely has partitions for single directories")

for number, point, why in (
    ("1.1.2", "/tmp", "what everybody may fill cannot fill the system, and has mount options of its own"),
    ("1.1.6", "/var", "data that grows cannot fill the root file system"),
    ("1.1.7", "/var/tmp", "temporary files that outlive a restart cannot fill /var"),
    ("1.1.11", "/var/log", "logs cannot fill /var, nor other data crowd them out"),
    ("1.1.12", "/var/log/audit", "audit records keep their room whatever else is logged"),
    ("1.1.13", "/home", "users cannot fill the system, and have mount options of their own"),
):
    own_mount(number, point, f"{point} is a file system of its own: {why}.", off=_PARTITIONS)

_WHY = {
    "nodev": "no device node in it opens a way around permissions",
    "nosuid": "no program in it takes its owner's rights",
    "noexec": "nothing that was put there can be run",
}

for first, point, options in (
    (3, "/tmp", ("nodev", "nosuid", "noexec")),
    (8, "/var/tmp", ("nodev", "nosuid", "noexec")),
    (14, "/home", ("nodev",)),
    (15, "/dev/shm", ("nodev", "nosuid", "noexec")),
):
    for place, option in enumerate(options):
        description = f"{point} is mounted {option}, so that {_WHY[option]}."
        mount_option(f"1.1.{first + place}", point, option, description)

_REMOVABLE_SOURCES = ("/dev/cdrom", "/dev/fd", "/dev/sr", "/dev/dvd")
_REMOVABLE_POINTS = ("/media/", "/run/media/", "/mnt/usb", "/mnt/cdrom", "/cdrom", "/floppy")


def _removable(number: str, option: str) -> None:
    @check(
        number,
        f"Removable media are mounted {option}, so that {_WHY[option]}.",
        f"Add `{option}` to the options of every removable medium in /etc/fstab.",
        passing={"/etc/fstab": "/dev/sr0 /media/cdrom udf ro,noauto,nodev,nosuid,noexec 0 0\n"},
        failing={"/etc/fstab": "/dev/sr0 /media/cdrom udf user,noauto 0 0\n"},
        skipping={"/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n"},
    )
    def probe(device: Device) -> Finding:
        tally = Tally()
        for mount in [*fstab(device), *mounts(device).values()]:
            if mount.source.startswith(_REMOVABLE_SOURCES) or mount.point.startswith(_REMOVABLE_POINTS):
                tally.add(option in mount.options, mount.line)
        return tally.finding("no removable medium in /etc/fstab or mounted")


for number, option in (("1.1.18", "nodev"), ("1.1.19", "nosuid"), ("1.1.20", "noexec")):
    _removable(number, option)


@check(
    "1.1.21",
    "In directories where everybody may write, only owners may delete or rename (sticky bit).",
    "Run `chmod +t` on each directory named.",
    severity=Severity.IMPORTANT,
    passing={"/tmp": Directory(0o1777), "/etc/passwd": "root:x:0:0::/root:/bin/sh"},
    failing={"/tmp": Directory(0o1777), "/srv/drop": Directory(0o777)},
    searches=True,
)
def _sticky(device: Device) -> Finding:
    paths, count = search(device).found(Kind.NOT_STICKY)
    return failed(f"{count} found", *paths) if paths else passed("every such directory has the sticky bit")


service_off(
    "1.1.22",
    ["autofs", "udisks2", "usbmount"],
    "Media are not mounted by themselves when somebody plugs them in.",
)


def _usb_disk(device: Device) -> str | None:
    """Why USB storage must stay: a disk on USB is mounted."""
    for mount in mounts(device).values():
        disk = mount.source.removeprefix("/dev/").rstrip("0123456789")
        if mount.source.startswith("/dev/") and "/usb" in (device.link(f"/sys/block/{disk}") or ""):
            return f"a USB disk is mounted at {mount.point}"
    return None


module_blocked(
    "1.1.23",
    "usb-storage",
    "USB mass storage cannot be used: a stick is the simplest way in and out for data.",
    severity=_INFO,
    off=on_device(_usb_disk),
)
