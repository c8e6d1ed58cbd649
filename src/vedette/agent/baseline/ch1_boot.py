"""Chapters 1.4 and 1.5: boot settings, and the hardening of processes."""

from __future__ import annotations

import re

from vedette.agent.baseline.accounts import secrets
from vedette.agent.baseline.declare import (
    Finding,
    Severity,
    Tally,
    check,
    failed,
    passed,
    skipped,
    verdict,
)
from vedette.agent.baseline.device import Device, Line
from vedette.agent.baseline.families import file_mode, not_installed, parameters, sysctl
from vedette.agent.baseline.kernel import command_line
from vedette.agent.baseline.services import installed

_GRUB = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/grub2/user.cfg", "/boot/efi/EFI/*/grub.cfg")

file_mode(
    "1.4.1",
    (*_GRUB, "/boot/extlinux/extlinux.conf", "/boot/loader/loader.conf", "/boot/syslinux/syslinux.cfg"),
    0o600,
    "Only root reads and changes the boot loader's configuration, which decides what kernel runs and how.",
)


@check(
    "1.4.2",
    "GRUB asks for a password before it lets anybody change what is started.",
    "Make a hash with `grub-mkpasswd-pbkdf2` and set superusers and password_pbkdf2 in /etc/grub.d.",
    passing={"/boot/grub/grub.cfg": 'set superusers="root"\npassword_pbkdf2 root grub.pbkdf2.sha512.1.A\n'},
    failing={"/boot/grub/grub.cfg": "menuentry 'Linux' {\n"},
    skipping={},
)
def _grub_password(device: Device) -> Finding:
    files = [path for pattern in _GRUB for path in device.glob(pattern)]
    if not files:
        return skipped("the device does not start with GRUB")
    words = re.compile(r"(password|password_pbkdf2|GRUB2_PASSWORD)\b")
    found = [(line.path, words.match(line.text)) for path in files for line in device.lines(path)]
    secret = [f"{path}: {match[1]} is set" for path, match in found if match]
    return passed(*secret) if secret else failed(*(f"{path}: no password" for path in files))


_FORCED = re.compile(r"SYSTEMD_SULOGIN_FORCE=[1yt]|sulogin.*(--force|-e)\b")
_OPEN_CONSOLE = re.compile(r"^[^:]*:[^:]*:(respawn|askfirst|sysinit|wait):-?(/usr)?/bin/(a|ba|da)?sh\b")
_RESCUE = ("/etc/systemd/system/rescue.service.d/*.conf", "/etc/systemd/system/emergency.service.d/*.conf")


@check(
    "1.4.3",
    "A console gives no shell without a password, in single-user mode too. (A locked root counts as safe:"
    " sulogin then refuses, unless it is forced.)",
    "Set a password for root, or use sulogin or getty instead of a shell in inittab and rescue units.",
    severity=Severity.IMPORTANT,
    passing={"/etc/shadow": "root:!:19000:0:99999:7:::\n", "/etc/inittab": "::respawn:/sbin/getty 0 tty1\n"},
    failing={"/etc/shadow": "root:!:19000:0:99999:7:::\n", "/etc/inittab": "::askfirst:-/bin/ash\n"},
    skipping={},
)
def _single_user(device: Device) -> Finding:
    open_doors = [line for line in device.lines("/etc/inittab") if _OPEN_CONSOLE.match(line.text)]
    open_doors += [line for line in device.lines_of(*_RESCUE) if _FORCED.search(line.text)]
    root = secrets(device).get("root")
    if root and root.state == "empty":
        open_doors.append(Line("/etc/shadow", "root has an empty password"))
    if open_doors:
        return failed(*open_doors)
    return passed(f"{root}: password {root.state}") if root else skipped("there is no root in /etc/shadow")


@check(
    "1.4.4",
    "Services are not confirmed one by one at a keyboard while the system starts.",
    "Set PROMPT=no in /etc/sysconfig/init, PROMPT_FOR_CONFIRM=no in /etc/sysconfig/boot, and remove"
    " rc_interactive=YES from /etc/rc.conf.",
    passing={"/etc/rc.conf": 'rc_interactive="NO"\n'},
    failing={"/etc/sysconfig/boot": 'PROMPT_FOR_CONFIRM="yes"\n'},
    skipping={},
)
def _interactive(device: Device) -> Finding:
    tally = Tally()
    for line in device.lines_of("/etc/sysconfig/init", "/etc/sysconfig/boot", "/etc/rc.conf"):
        key, _, value = line.text.partition("=")
        if key in {"PROMPT", "PROMPT_FOR_CONFIRM", "rc_interactive"}:
            tally.add(value.strip("\"' ").lower() == "no", line)
    return tally.finding("this init system has no interactive start")


@check(
    "1.5.1",
    "Programs leave no core dumps, which hold what they had in memory, secrets included.",
    "Write `* hard core 0` to /etc/security/limits.d/core.conf and fs.suid_dumpable = 0 to sysctl.d; with"
    " systemd-coredump set Storage=none and ProcessSizeMax=0.",
    passing={
        "/etc/security/limits.d/core.conf": "* hard core 0\n",
        "/etc/sysctl.d/60-core.conf": "fs.suid_dumpable = 0\n",
        "/proc/sys/fs/suid_dumpable": "0",
    },
    failing={"/etc/security/limits.conf": "# none\n", "/proc/sys/fs/suid_dumpable": "2"},
)
def _core_dumps(device: Device) -> Finding:
    kernel = parameters(device, {"fs.suid_dumpable": "0"})
    limits = device.lines_of("/etc/security/limits.conf", "/etc/security/limits.d/*.conf")
    hard = [line for line in limits if re.match(r"\*\s+(hard|-)\s+core\s+0\b", line.text)]
    if device.exists("/etc/security") and not hard:
        return failed("no `* hard core 0` in /etc/security/limits.conf or limits.d", *kernel.evidence)
    if installed(device, "systemd-coredump") or device.exists("/lib/systemd/systemd-coredump"):
        lines = device.lines_of("/etc/systemd/coredump.conf", "/etc/systemd/coredump.conf.d/*.conf")
        if not any(re.match(r"Storage\s*=\s*none", line.text) for line in lines):
            return failed("systemd-coredump keeps dumps: no Storage=none", *kernel.evidence)
    return Finding(kernel.result, (*map(str, hard), *kernel.evidence), kernel.reason)


@check(
    "1.5.2",
    "The processor refuses to execute data (NX, XN), and the kernel uses that.",
    "Turn the feature on in the firmware and remove noexec=off from the kernel's command line.",
    severity=Severity.IMPORTANT,
    passing={"/proc/cpuinfo": "flags\t\t: fpu pae nx lm\n"},
    failing={"/proc/cpuinfo": "flags\t\t: fpu pae\n"},
    skipping={"/proc/cpuinfo": "Processor\t: ARMv5\n"},
)
def _no_execute(device: Device) -> Finding:
    off = [word for word in command_line(device) if word in {"noexec=off", "noexec32=off"}]
    if off:
        return failed(f"kernel command line: {off[0]}")
    for line in device.lines("/proc/cpuinfo"):
        key, _, value = (part.strip() for part in line.text.partition(":"))
        if key == "flags":
            has = "nx" in value.split()
            return verdict(has, f"/proc/cpuinfo: flags {'with' if has else 'without'} nx")
        if key == "CPU architecture" and value in {"7", "8", "AArch64"}:
            return passed(f"{line} (has XN)")
    return skipped("this processor's /proc/cpuinfo does not tell")


sysctl(
    "1.5.3",
    {"kernel.randomize_va_space": "2"},
    "The kernel puts code, stack and heap at random addresses, so that an attack cannot know them.",
    severity=Severity.IMPORTANT,
)

not_installed(
    "1.5.4",
    ["prelink"],
    "Programs are not rewritten by prelink, which undoes random addresses and confuses integrity tools.",
)
