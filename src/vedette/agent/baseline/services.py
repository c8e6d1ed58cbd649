"""Facts about software: what is installed, what starts by itself, who listens."""

from __future__ import annotations

import re
from typing import NamedTuple

from vedette.agent.baseline.device import Device, fact

PROGRAM_DIRECTORIES = (
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/libexec",
)

MAX_DATABASE_BYTES = 32 << 20
"""Read of a package database: dpkg keeps about 1 KB a package."""


@fact
def packages(device: Device) -> frozenset[str]:
    """Names in the dpkg, apk and opkg databases. For others `installed` goes by the programs."""
    names = set()
    for path in [*device.glob("/var/lib/dpkg/status.d/*"), "/var/lib/dpkg/status", "/usr/lib/opkg/status"]:
        names |= _stanzas(device.text(path, MAX_DATABASE_BYTES) or "")
    apk = device.text("/lib/apk/db/installed", MAX_DATABASE_BYTES) or ""
    return frozenset(names | {line[2:] for line in apk.splitlines() if line.startswith("P:")})


def _stanzas(status: str) -> set[str]:
    names = set()
    for stanza in re.split(r"\n\n+", status):
        name = re.search(r"^Package: *(\S+)", stanza, re.MULTILINE)
        state = re.search(r"^Status: *(.+)", stanza, re.MULTILINE)
        if name and (state is None or state[1].split()[-1:] == ["installed"]):
            names.add(name[1])
    return names


def program(device: Device, *names: str) -> str | None:
    """Path of the first of these programs that is there."""
    return device.first(*(f"{place}/{name}" for name in names for place in PROGRAM_DIRECTORIES))


def installed(device: Device, *names: str) -> str | None:
    """The sign that one of these is installed, by package or program of that name; None if none is."""
    found = program(device, *names)
    if found is None:
        found = next((f"package {name} is installed" for name in names if name in packages(device)), None)
    return found


@fact
def enabled_services(device: Device) -> dict[str, str]:
    """Service → the link or script that starts it: systemd, OpenRC, procd, BusyBox or System V init."""
    started = _systemd(device) | _named(device, "/etc/runlevels/*/*", "")
    if not device.first("/lib/systemd/systemd", "/usr/lib/systemd/systemd"):
        for pattern in ("/etc/rc[2345].d/S[0-9][0-9]*", "/etc/rc.d/S[0-9][0-9]*", "/etc/init.d/S[0-9][0-9]*"):
            started |= _named(device, pattern, r"^S\d\d")
    return started


def _systemd(device: Device) -> dict[str, str]:
    started = {}
    for place in ("/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"):
        for path in device.glob(f"{place}/*.wants/*") + device.glob(f"{place}/*.requires/*"):
            unit = path.rpartition("/")[2]
            name, _, kind = unit.rpartition(".")
            masked = device.link(f"/etc/systemd/system/{unit}") == "/dev/null"
            if kind in {"service", "socket", "timer"} and not masked:
                started[name] = path
    return started


def _named(device: Device, pattern: str, prefix: str) -> dict[str, str]:
    return {re.sub(prefix, "", path.rpartition("/")[2]): path for path in device.glob(pattern)}


def enabled(device: Device, *names: str) -> str | None:
    """What starts one of these services; None if nothing does."""
    services = enabled_services(device)
    return next((services[name] for name in names if name in services), None)


@fact
def internet_services(device: Device) -> dict[str, str]:
    """Service → the line or file by which inetd or xinetd offers it."""
    offered = {
        line.text.split()[0]: str(line) for line in device.lines_of("/etc/inetd.conf", "/etc/inetd.d/*")
    }
    for path in [*device.glob("/etc/xinetd.d/*"), "/etc/xinetd.conf"]:
        for name, body in re.findall(r"service\s+(\S+)\s*\{([^}]*)\}", device.text(path) or ""):
            if not re.search(r"^\s*disable\s*=\s*yes", body, re.MULTILINE):
                offered[name] = f"{path}: service {name}"
    return offered


class Listener(NamedTuple):
    """An open port of the running system."""

    protocol: str
    port: int
    loopback: bool
    version: int

    def __str__(self) -> str:
        return f"{self.protocol} port {self.port} is open"


_TABLES = (("tcp", 4, "0A"), ("tcp6", 6, "0A"), ("udp", 4, "07"), ("udp6", 6, "07"))
"""Table, IP version, and the state of a socket that waits for strangers (linux/net/tcp_states.h)."""

_LOOPBACK = re.compile(r"......7F|0{24}01000000|0{16}FFFF0000......7F")
"""127.0.0.0/8, ::1 and the former mapped, as a little-endian kernel prints them."""


@fact
def listeners(device: Device) -> list[Listener]:
    """Sockets that take packets from anybody, from /proc/net; empty for an image."""
    found = set()
    for table, version, state in _TABLES:
        for line in device.lines(f"/proc/net/{table}"):
            fields = line.text.split()
            if len(fields) > 3 and fields[3] == state:
                address, _, port = fields[1].partition(":")
                loopback = _LOOPBACK.fullmatch(address) is not None
                found.add(Listener(table.rstrip("6"), int(port, 16), loopback, version))
    return sorted(found)
