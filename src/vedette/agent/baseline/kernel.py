"""Facts about the kernel: its parameters, modules and command line, in effect and in configuration."""

from __future__ import annotations

import fnmatch
import re
from typing import NamedTuple

from vedette.agent.baseline.device import Device, Line, fact

_OVERRIDES = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
"""Where sysctl.d and modprobe.d are searched: a file hides the one of the same name further right."""


class Parameter(NamedTuple):
    """One line of sysctl configuration; `key` may be a pattern."""

    key: str
    value: str
    line: Line


def drop_ins(device: Device, directory: str) -> list[str]:
    """The configuration files that count in `<place>/<directory>/*.conf`, in order of application."""
    chosen: dict[str, str] = {}
    for place in _OVERRIDES:
        for path in device.glob(f"{place}/{directory}/*.conf"):
            chosen.setdefault(path.rpartition("/")[2], path)
    return [chosen[name] for name in sorted(chosen)]


@fact
def sysctl_configuration(device: Device) -> list[Parameter]:
    """Every configured parameter, in order of application."""
    parameters = []
    for path in [*drop_ins(device, "sysctl.d"), "/etc/sysctl.conf"]:
        for line in device.lines(path, "#;"):
            key, equals, value = line.text.partition("=")
            if equals:
                name = key.strip().lstrip("-").strip().replace("/", ".")
                parameters.append(Parameter(name, value.strip(), line))
    return parameters


def configured(device: Device, key: str) -> Parameter | None:
    """The line that decides a parameter at the next start: the last exact one, else the last pattern."""
    lines = sysctl_configuration(device)
    exact = [parameter for parameter in lines if parameter.key == key]
    patterns = [parameter for parameter in lines if fnmatch.fnmatchcase(key, parameter.key)]
    chosen = exact or patterns
    return chosen[-1] if chosen else None


def sysctl_path(key: str) -> str:
    """Where the kernel shows a parameter."""
    return "/proc/sys/" + key.replace(".", "/")


@fact
def module_rules(device: Device) -> dict[str, Line]:
    """Module → the `install` line that replaces its loading."""
    rules = {}
    for path in ["/etc/modprobe.conf", *drop_ins(device, "modprobe.d")]:
        for line in device.lines(path):
            fields = line.text.split()
            if len(fields) >= 3 and fields[0] == "install":
                rules[plain_name(fields[1])] = line
    return rules


@fact
def loaded_modules(device: Device) -> frozenset[str]:
    """Modules in the kernel now."""
    return frozenset(plain_name(line.text.split()[0]) for line in device.lines("/proc/modules"))


@fact
def module_files(device: Device) -> dict[str, str]:
    """Module → its file, or the list that names it as built in, for the running kernel or all installed."""
    release = device.value("/proc/sys/kernel/osrelease")
    chosen = release if release and device.exists(f"/lib/modules/{release}") else "*"
    found: dict[str, str] = {}
    for path in device.glob(f"/lib/modules/{chosen}/*"):
        name = path.rpartition("/")[2]
        if name in {"modules.dep", "modules.builtin"}:
            for line in device.lines(path):
                found[_module_of(line.text.partition(":")[0])] = path
        elif ".ko" in name:
            found[_module_of(path)] = path
    return found


@fact
def filesystem_kinds(device: Device) -> frozenset[str]:
    """File systems that the running kernel can mount without loading anything."""
    return frozenset(line.text.split()[-1] for line in device.lines("/proc/filesystems"))


@fact
def command_line(device: Device) -> list[str]:
    """Words of the kernel's command line: of the running kernel, else those that GRUB would give."""
    running = device.value("/proc/cmdline")
    if running is not None:
        return running.split()
    lines = device.lines_of("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/etc/default/grub")
    return [word for line in lines if "linux" in line.text.lower() for word in line.text.strip("\"'").split()]


def plain_name(module: str) -> str:
    """`-` and `_` are one in module names."""
    return module.replace("-", "_")


def _module_of(path: str) -> str:
    return plain_name(re.sub(r"\.ko(\.\w+)?$", "", path.rpartition("/")[2]))
