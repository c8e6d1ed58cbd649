"""Chapters 1.2, 1.3 and 1.8: where software comes from, and whether it is current and unchanged."""

from __future__ import annotations

import re

from vedette.agent.baseline.declare import Finding, Severity, check, failed, on_device, passed, skipped
from vedette.agent.baseline.device import CannotTell, Device, Line
from vedette.agent.baseline.services import enabled, installed, program

_REPOSITORIES = {
    "apt": ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*"),
    "dnf": ("/etc/yum.repos.d/*.repo", "/etc/dnf/repos.d/*.repo"),
    "zypper": ("/etc/zypp/repos.d/*.repo",),
    "apk": ("/etc/apk/repositories",),
    "opkg": ("/etc/opkg/*.conf", "/etc/opkg.conf"),
}
_REPOSITORY_FILES = [pattern for patterns in _REPOSITORIES.values() for pattern in patterns]
_SOURCE = re.compile(r"^(deb |URIs:|baseurl|mirrorlist|metalink|src/gz|src |https?://|/)", re.IGNORECASE)
_IMAGE = "this system has no package manager: it is updated as an image"


def _sources(device: Device) -> list[Line]:
    return [line for line in device.lines_of(*_REPOSITORY_FILES) if _SOURCE.match(line.text)]


def _managed(device: Device) -> bool:
    return program(device, "apt-get", "dnf", "yum", "zypper", "apk", "opkg") is not None


@check(
    "1.2.1",
    "Package repositories are configured, so that updates have somewhere to come from.",
    "Name the distribution's repositories in the package manager's configuration.",
    passing={"/etc/apt/sources.list": "deb http://mirror.example/debian bookworm main\n"},
    failing={"/usr/bin/apt-get": "", "/etc/apt/sources.list": "# none\n"},
    skipping={},
)
def _repositories(device: Device) -> Finding:
    sources = _sources(device)
    if sources:
        return passed(*sources)
    return failed("no repository is configured") if _managed(device) else skipped(_IMAGE)


_UNCHECKED = re.compile(
    r"trusted\s*[=:]\s*yes|^gpgcheck\s*=\s*0|(allowunauthenticated|allowinsecurerepositories)\W+true",
    re.IGNORECASE,
)
_KEYS = (
    "/etc/apt/trusted.gpg",
    "/etc/apt/trusted.gpg.d/*",
    "/usr/share/keyrings/*",
    "/etc/pki/rpm-gpg/*",
    "/usr/lib/rpm/gnupg/keys/*",
    "/etc/apk/keys/*",
    "/etc/opkg/keys/*",
)


@check(
    "1.2.2",
    "Packages are only taken with a signature of a known key.",
    "Install the distribution's keys; remove `trusted=yes`, `gpgcheck=0` and the like.",
    severity=Severity.IMPORTANT,
    passing={
        "/etc/apt/sources.list": "deb http://mirror.example/debian bookworm main\n",
        "/usr/share/keyrings/debian-archive-keyring.gpg": "",
    },
    failing={
        "/etc/apt/sources.list": "deb [trusted=yes] http://example.org/debian ./\n",
        "/usr/share/keyrings/debian-archive-keyring.gpg": "",
    },
    skipping={},
)
def _keys(device: Device) -> Finding:
    lines = device.lines_of(*_REPOSITORY_FILES, "/etc/apt/apt.conf.d/*", "/etc/yum.conf", "/etc/dnf/dnf.conf")
    unchecked = [line for line in lines if _UNCHECKED.search(line.text)]
    if unchecked:
        return failed(*unchecked)
    keys = [path for pattern in _KEYS for path in device.glob(pattern)]
    if keys:
        return passed(*keys)
    return failed("no key of a repository is installed") if _sources(device) else skipped(_IMAGE)


_PENDING = (
    (("apt-get", "-s", "-o", "Debug::NoLocking=true", "upgrade"), re.compile(r"^Inst ")),
    (("dnf", "-q", "-C", "list", "--upgrades"), re.compile(r"^\S+\.\S+ +\S+ +\S+$")),
    (("apk", "list", "--upgradable"), re.compile(r"\[upgradable from")),
    (("opkg", "list-upgradable"), re.compile(r"^\S+ - \S+ - \S+")),
)


@check(
    "1.8",
    "No update of an installed package is waiting, as far as the local package lists know.",
    "Install the updates: `apt-get upgrade`, `dnf upgrade`, `apk upgrade`, or a new image.",
    severity=Severity.IMPORTANT,
    passing={"$ apt-get -s -o Debug::NoLocking=true upgrade": "0 upgraded, 0 newly installed\n"},
    failing={"$ apt-get -s -o Debug::NoLocking=true upgrade": "Inst openssl [3.0.1] (3.0.2 Debian)\n"},
    skipping={},
)
def _patches(device: Device) -> Finding:
    for argv, pending in _PENDING:
        output = device.run(*argv)
        if output is not None:
            waiting = [line for line in output.splitlines() if pending.search(line)]
            found = f"{argv[0]}: {len(waiting)} updates are waiting"
            return failed(found, *waiting) if waiting else passed(found)
    if _managed(device):
        raise CannotTell("the package manager gave no answer; only a running system can be asked")
    return skipped(_IMAGE)


_INTEGRITY = ("aide", "tripwire", "samhain", "ossec-syscheckd", "afick", "integrit")
_OFF = on_device("the integrity of a device is its image's (verified boot), not a tool's")


@check(
    "1.3.1",
    "A tool that notices changed system files is installed.",
    "Install aide and make its database: `aideinit`.",
    off=_OFF,
    passing={"/usr/bin/aide": ""},
    failing={"/usr/bin/env": ""},
)
def _integrity_tool(device: Device) -> Finding:
    sign = installed(device, *_INTEGRITY)
    return passed(sign) if sign else failed(f"none of {', '.join(_INTEGRITY)} is installed")


_TIMETABLES = (
    "/etc/crontab",
    "/etc/cron.d/*",
    "/etc/cron.daily/*",
    "/etc/cron.weekly/*",
    "/var/spool/cron/*",
    "/var/spool/cron/crontabs/*",
)


@check(
    "1.3.2",
    "That tool looks regularly.",
    "Run the check daily from cron or a systemd timer.",
    off=_OFF,
    passing={"/etc/cron.daily/dailyaidecheck": "aide --check\n"},
    failing={"/etc/crontab": "17 * * * * root run-parts /etc/cron.hourly\n"},
)
def _integrity_schedule(device: Device) -> Finding:
    timer = enabled(device, "aidecheck", "dailyaidecheck", "tripwire-check", "samhain")
    if timer:
        return passed(timer)
    tools = re.compile(rf"\b({'|'.join(_INTEGRITY)})\b")
    jobs = [line for line in device.lines_of(*_TIMETABLES) if tools.search(line.text)]
    return passed(*jobs) if jobs else failed("no timer and no cron job runs such a tool")
