"""Chapter 6.1: owners and permissions of system files, and what a search through all files finds."""

from __future__ import annotations

import stat

from vedette.agent.baseline.accounts import accounts, groups
from vedette.agent.baseline.declare import (
    Finding,
    Severity,
    Tally,
    check,
    failed,
    on_device,
    passed,
    skipped,
)
from vedette.agent.baseline.device import CannotTell, Device
from vedette.agent.baseline.families import file_mode
from vedette.agent.baseline.search import Kind, search
from vedette.agent.baseline.services import program
from vedette.agent.baseline.tree import Directory, File

_VERIFIERS = (("dpkg", "--verify"), ("rpm", "-Va", "--nomtime"), ("apk", "audit", "--system"))

VERIFY_SECONDS = 900.0
"""Patience with them: they read every packaged file, from an SD card perhaps."""


@check(
    "6.1.1",
    "Files of packages are as the packages brought them.",
    "Reinstall the packages whose files are named, and find out who changed them.",
    severity=Severity.IMPORTANT,
    off=on_device("it reads every file of every package; the image's own verification is cheaper"),
    passing={"$ dpkg --verify": ""},
    failing={"$ dpkg --verify": "??5??????   /usr/bin/passwd\n??5?????? c /etc/motd\n"},
    skipping={},
)
def _packages(device: Device) -> Finding:
    for argv in _VERIFIERS:
        output = device.run(*argv, seconds=VERIFY_SECONDS)
        if output is not None:
            # `c` marks configuration, which is there to be changed.
            changed = [line for line in output.splitlines() if line.split()[1:2] != ["c"]]
            return failed(*changed) if changed else passed(f"{' '.join(argv)}: no file has changed")
    if program(device, *(argv[0] for argv in _VERIFIERS)):
        raise CannotTell("the package manager gave no answer in time; only a running system can be asked")
    return skipped("this system has no package manager that can verify files")


for number, name, most, secret in (
    ("6.1.2", "passwd", 0o644, False),
    ("6.1.3", "shadow", 0o640, True),
    ("6.1.4", "group", 0o644, False),
    ("6.1.5", "gshadow", 0o640, True),
    ("6.1.6", "passwd-", 0o644, False),
    ("6.1.7", "shadow-", 0o640, True),
    ("6.1.8", "group-", 0o644, False),
    ("6.1.9", "gshadow-", 0o640, True),
):
    file_mode(
        number,
        [f"/etc/{name}"],
        most,
        f"Only root changes /etc/{name}" + (", and only it and the group shadow read it." if secret else "."),
        severity=Severity.CRITICAL if name in {"passwd", "shadow"} else Severity.IMPORTANT,
        group_names=("root", "shadow") if secret else ("root",),
    )


@check(
    "6.1.10",
    "No file can be written by everybody.",
    "Run `chmod o-w` on each file named.",
    severity=Severity.IMPORTANT,
    passing={"/srv/data": File("", 0o664)},
    failing={"/srv/data": File("", 0o666)},
    searches=True,
)
def _world_writable(device: Device) -> Finding:
    return _none(device, Kind.WORLD_WRITABLE)


_ROOT = {"/etc/passwd": "root:x:0:0::/root:/bin/sh\n", "/etc/group": "root:x:0:\n"}


@check(
    "6.1.11",
    "Every file belongs to an account that exists: who gets a freed number gets its files.",
    "Run `chown` on each file named, or remove it.",
    passing=_ROOT,
    failing={**_ROOT, "/srv/left": File("", uid=1234)},
    skipping={},
    searches=True,
)
def _unowned(device: Device) -> Finding:
    return _none(device, Kind.UNOWNED) if accounts(device) else skipped("there is no /etc/passwd")


@check(
    "6.1.12",
    "Every file belongs to a group that exists.",
    "Run `chgrp` on each file named, or remove it.",
    passing=_ROOT,
    failing={**_ROOT, "/srv/left": File("", gid=1234)},
    skipping={},
    searches=True,
)
def _ungrouped(device: Device) -> Finding:
    return _none(device, Kind.UNGROUPED) if groups(device) else skipped("there is no /etc/group")


def _none(device: Device, kind: Kind) -> Finding:
    paths, count = search(device).found(kind)
    return failed(f"{count} found", *paths) if paths else passed(f"no {kind}")


_SYSTEM_PLACES = (
    "/bin/",
    "/sbin/",
    "/usr/bin/",
    "/usr/sbin/",
    "/usr/lib/",
    "/usr/lib64/",
    "/usr/libexec/",
    "/lib/",
)

_KNOWN_SUID = frozenset(
    {"at", "bbsuid", "busybox", "chage", "chfn", "chsh", "crontab", "dbus-daemon-launch-helper", "exim4"}
    | {"expiry", "fusermount", "fusermount3", "gpasswd", "mount", "mount.cifs", "mount.nfs", "newgidmap"}
    | {"newgrp", "newuidmap", "ntfs-3g", "pam_timestamp_check", "passwd", "ping", "ping6", "pkexec"}
    | {
        "polkit-agent-helper-1",
        "ping4",
        "pppd",
        "sg",
        "snap-confine",
        "ssh-keysign",
        "su",
        "sudo",
        "sudoedit",
    }
    | {"traceroute6.iputils", "umount", "unix_chkpwd", "usernetctl", "vmware-user-suid-wrapper", "doas"}
)
_KNOWN_SGID = frozenset(
    {
        "at",
        "bsd-write",
        "chage",
        "crontab",
        "dotlockfile",
        "expiry",
        "locate",
        "lockdev",
        "mlocate",
        "plocate",
    }
    | {
        "postdrop",
        "postqueue",
        "screen",
        "ssh-agent",
        "unix_chkpwd",
        "utempter",
        "wall",
        "write",
        "netreport",
    }
    | {"extrausers_chkpwd", "pam_extrausers_chkpwd", "camel-lock-helper-1.2", "mail-lock", "mail-unlock"}
    | {"mail-touchlock", "ssh-keysign", "xorg.wrap", "cockpit-session"}
)


def _giving_rights(device: Device, kind: Kind, known: frozenset[str]) -> Finding:
    """Passed if every such program is one that distributions ship so, in a place of the system, and safe
    from writing by others."""
    paths, count = search(device).found(kind)
    tally = Tally()
    for path in paths:
        found = device.tree.lstat(path)
        expected = path.startswith(_SYSTEM_PLACES) and path.rpartition("/")[2] in known
        safe = found is not None and found.uid == 0 and not found.permissions & (stat.S_IWGRP | stat.S_IWOTH)
        tally.add(expected and safe, path)
    if count > len(paths):
        tally.add(False, f"{count} found, more than can be looked at")
    return tally.finding(f"no {kind}")


@check(
    "6.1.13",
    "Only programs that need it, and that distributions ship so, run as their owner (SUID).",
    "Run `chmod u-s` on each program named, unless you know why it needs the right.",
    severity=Severity.IMPORTANT,
    passing={"/usr/bin/passwd": File("", 0o4755)},
    failing={"/opt/tool/bin/shell": File("", 0o4755)},
    skipping={},
    searches=True,
)
def _suid(device: Device) -> Finding:
    return _giving_rights(device, Kind.SUID, _KNOWN_SUID)


@check(
    "6.1.14",
    "Only programs that need it, and that distributions ship so, run as their group (SGID).",
    "Run `chmod g-s` on each program named, unless you know why it needs the right.",
    passing={"/usr/bin/crontab": File("", 0o2755), "/var/mail": Directory(0o2775)},
    failing={"/home/ann/tool": File("", 0o2755)},
    skipping={},
    searches=True,
)
def _sgid(device: Device) -> Finding:
    return _giving_rights(device, Kind.SGID, _KNOWN_SGID)
