"""Families of checks: what many rows of the chapters' tables have in common, with their examples.

Each function declares one check. A chapter passes the number, the words, and what is looked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vedette.agent.baseline.accounts import groups
from vedette.agent.baseline.declare import (
    Finding,
    Profile,
    Reason,
    Severity,
    Tally,
    check,
    failed,
    passed,
    skipped,
    verdict,
)
from vedette.agent.baseline.device import Device
from vedette.agent.baseline.kernel import (
    configured,
    filesystem_kinds,
    loaded_modules,
    module_files,
    module_rules,
    plain_name,
    sysctl_path,
)
from vedette.agent.baseline.mounts import mounts
from vedette.agent.baseline.services import enabled, installed
from vedette.agent.baseline.tree import File, Link, Node

NOWHERE: Mapping[Profile, Reason] = {}
"""Off in no profile."""


def module_blocked(
    number: str, module: str, description: str, *, severity: Severity, off: Mapping[Profile, Reason] = NOWHERE
) -> None:
    """The kernel cannot come to load a module: replaced in modprobe.d, or not there at all."""
    name = plain_name(module)

    @check(
        number,
        description,
        f"Write `install {module} /bin/false` to /etc/modprobe.d/{module}.conf and run `rmmod {module}`;"
        " or build images without it.",
        severity=severity,
        off=off,
        passing={
            "/lib/modules/6.1/modules.dep": f"kernel/{module}.ko:",
            f"/etc/modprobe.d/{module}.conf": f"install {module} /bin/false",
        },
        failing={"/lib/modules/6.1/modules.dep": f"kernel/fs/{module}.ko.xz:\n"},
    )
    def probe(device: Device) -> Finding:
        if name in loaded_modules(device):
            return failed(f"/proc/modules: {name} is loaded")
        rule = module_rules(device).get(name)
        if rule is not None:
            return verdict(rule.text.split()[2].rpartition("/")[2] in {"true", "false", "nologin"}, rule)
        if module in filesystem_kinds(device):
            return failed(f"/proc/filesystems: {module} is part of the kernel")
        path = module_files(device).get(name)
        if path is not None:
            return failed(f"{path}: {module} can be loaded")
        return passed(f"the kernel has no module {module}")


def sysctl(
    number: str,
    wanted: Mapping[str, str],
    description: str,
    *,
    severity: Severity = Severity.WARNING,
    off: Mapping[Profile, Reason] = NOWHERE,
) -> None:
    """Kernel parameters have their value in effect, and configuration keeps it at the next start."""
    lines = "".join(f"{key} = {value}\n" for key, value in wanted.items())
    spoiled = {key: "0" if value != "0" else "1" for key, value in wanted.items()}

    @check(
        number,
        description,
        f"Write {', '.join(f'`{line}`' for line in lines.splitlines())} to /etc/sysctl.d/60-baseline.conf"
        " and run `sysctl --system`.",
        severity=severity,
        off=off,
        passing={"/etc/sysctl.d/60-baseline.conf": lines}
        | {sysctl_path(key): value for key, value in wanted.items()},
        failing={"/etc/sysctl.d/60-baseline.conf": lines}
        | {sysctl_path(key): value for key, value in spoiled.items()},
        skipping={"/proc/sys/kernel/ostype": "Linux"},
    )
    def probe(device: Device) -> Finding:
        return parameters(device, wanted)


def parameters(device: Device, wanted: Mapping[str, str]) -> Finding:
    """Whether kernel parameters have these values, now and after the next start."""
    tally = Tally()
    running = device.exists("/proc/sys/kernel")
    for key, value in wanted.items():
        path = sysctl_path(key)
        now = device.value(path)
        if running and now is None:
            continue
        if now is not None:
            tally.add(now == value, f"{path}: {now}")
        setting = configured(device, key)
        if setting is None:
            tally.add(False, f"{key} is in no sysctl configuration")
        else:
            tally.add(setting.value == value, setting.line)
    return tally.finding(f"this kernel has no {' and no '.join(wanted)}")


def own_mount(number: str, point: str, description: str, *, off: Mapping[Profile, Reason]) -> None:
    """A directory is a file system of its own."""

    @check(
        number,
        description,
        f"Give {point} a partition or tmpfs of its own in /etc/fstab.",
        severity=Severity.INFORMATIONAL,
        off=off,
        passing={"/proc/mounts": f"/dev/sda1 / ext4 rw 0 0\n/dev/sda2 {point} ext4 rw 0 0\n"},
        failing={"/proc/mounts": "/dev/sda1 / ext4 rw 0 0\n"},
    )
    def probe(device: Device) -> Finding:
        mount = mounts(device).get(point)
        return passed(mount.line) if mount else failed(f"{point} is part of another file system")


def mount_option(number: str, point: str, option: str, description: str) -> None:
    """A file system is mounted with an option."""

    @check(
        number,
        description,
        f"Add `{option}` to the options of {point} in /etc/fstab, then run"
        f" `mount -o remount,{option} {point}`.",
        passing={"/proc/mounts": f"tmpfs {point} tmpfs rw,nosuid,nodev,noexec 0 0\n"},
        failing={"/proc/mounts": f"tmpfs {point} tmpfs rw,relatime 0 0\n"},
        skipping={"/proc/mounts": "/dev/sda1 / ext4 rw 0 0\n"},
    )
    def probe(device: Device) -> Finding:
        mount = mounts(device).get(point)
        if mount is None:
            return skipped(f"{point} is not a file system of its own")
        return verdict(option in mount.options, mount.line)


def service_off(
    number: str,
    services: Sequence[str],
    description: str,
    *,
    severity: Severity = Severity.WARNING,
    off: Mapping[Profile, Reason] = NOWHERE,
) -> None:
    """Nothing starts a service."""
    name = services[0]

    @check(
        number,
        description,
        f"Remove the package, or switch the service off: `systemctl disable --now {name}`,"
        f" `rc-update del {name}` or `/etc/init.d/{name} disable`.",
        severity=severity,
        off=off,
        passing=service_example(name, started=False),
        failing=service_example(name),
    )
    def probe(device: Device) -> Finding:
        sign = enabled(device, *services)
        return failed(f"{sign} starts it") if sign else passed(f"nothing starts {', '.join(services)}")


def service_example(name: str, *, started: bool = True) -> dict[str, Node]:
    """A device that has a service, started by systemd or not."""
    unit = f"/lib/systemd/system/{name}.service"
    wanted: dict[str, Node] = (
        {f"/etc/systemd/system/multi-user.target.wants/{name}.service": Link(unit)} if started else {}
    )
    return {unit: "[Service]\n", **wanted}


def not_installed(
    number: str,
    names: Sequence[str],
    description: str,
    *,
    severity: Severity = Severity.WARNING,
    off: Mapping[Profile, Reason] = NOWHERE,
) -> None:
    """None of these packages or programs is there."""

    @check(
        number,
        description,
        f"Remove the package that brings {names[0]}; on BusyBox, build without the applet.",
        severity=severity,
        off=off,
        passing={"/var/lib/dpkg/status": "Package: base-files\nStatus: install ok installed\n"},
        failing={f"/usr/bin/{names[0]}": File("", 0o755)},
    )
    def probe(device: Device) -> Finding:
        sign = installed(device, *names)
        return failed(sign) if sign else passed(f"no {', '.join(names)}")


def file_mode(
    number: str,
    paths: Sequence[str],
    most: int,
    description: str,
    *,
    severity: Severity = Severity.IMPORTANT,
    group_names: Sequence[str] = ("root",),
    off: Mapping[Profile, Reason] = NOWHERE,
) -> None:
    """Files belong to root and one of some groups, and have no permission beyond `most`."""
    example = paths[0].replace("*", "x")

    @check(
        number,
        description,
        f"Run `chown root:{group_names[-1]} {paths[0]}` and `chmod {most:o} {paths[0]}`.",
        severity=severity,
        off=off,
        passing={example: File("", most)},
        failing={example: File("", 0o777, uid=1000)},
        skipping={},
    )
    def probe(device: Device) -> Finding:
        return modes(device, paths, most, group_names)


def modes(
    device: Device, patterns: Sequence[str], most: int, group_names: Sequence[str] = ("root",)
) -> Finding:
    """Whether files belong to root and one of the groups, and have no permission beyond `most`."""
    allowed = {0} | {group.gid for group in groups(device) if group.name in group_names}
    tally = Tally()
    for path in (path for pattern in patterns for path in device.glob(pattern)):
        found = device.stat(path)
        if found is not None:
            good = found.uid == 0 and found.gid in allowed and not found.permissions & ~most
            tally.add(good, f"{path}: mode {found.permissions:04o}, uid {found.uid}, gid {found.gid}")
    return tally.finding(f"there is no {' or '.join(patterns)}")
