"""Chapters 1.6 and 1.7: mandatory access control, and warning banners."""

from __future__ import annotations

import re

from vedette.agent.baseline.declare import (
    Finding,
    Severity,
    Tally,
    check,
    failed,
    on_device,
    passed,
    skipped,
    verdict,
)
from vedette.agent.baseline.device import Device, os_release
from vedette.agent.baseline.families import file_mode, not_installed
from vedette.agent.baseline.kernel import command_line
from vedette.agent.baseline.services import installed

_SELINUX = "/etc/selinux/config"
_APPARMOR = "/etc/apparmor.d"
_NO_SELINUX = "SELinux is not installed"
_NO_APPARMOR = "AppArmor is not installed"


@check(
    "1.6.1.1",
    "A mandatory access control system (SELinux, AppArmor, SMACK, TOMOYO) bounds what services may do.",
    "Install AppArmor or SELinux and start the kernel with it.",
    passing={"/sys/kernel/security/lsm": "lockdown,capability,apparmor"},
    failing={"/sys/kernel/security/lsm": "capability,yama"},
)
def _access_control(device: Device) -> Finding:
    active = device.value("/sys/kernel/security/lsm")
    if active is not None:
        known = {"selinux", "apparmor", "smack", "tomoyo"} & set(active.split(","))
        return verdict(bool(known), f"/sys/kernel/security/lsm: {active}")
    sign = installed(device, "apparmor", "apparmor_parser", "selinux-policy", "selinux-basics", "getenforce")
    return passed(sign) if sign else failed("neither SELinux nor AppArmor is installed")


def _not_switched_off(number: str, system: str, words: set[str], present: str, absent: str) -> None:
    @check(
        number,
        f"The kernel's command line does not switch {system} off.",
        f"Remove {' and '.join(sorted(words))} from the boot loader's configuration.",
        passing={f"{present}": "", "/proc/cmdline": "root=/dev/sda1 quiet"},
        failing={f"{present}": "", "/proc/cmdline": f"root=/dev/sda1 {min(words)}"},
        skipping={},
    )
    def probe(device: Device) -> Finding:
        if not device.exists(present):
            return skipped(absent)
        wrong = [word for word in command_line(device) if word in words]
        return verdict(not wrong, f"kernel command line: {' '.join(wrong) or f'none of {sorted(words)}'}")


_not_switched_off("1.6.2.1", "SELinux", {"selinux=0", "enforcing=0"}, _SELINUX, _NO_SELINUX)
_not_switched_off("1.6.3.1", "AppArmor", {"apparmor=0"}, _APPARMOR, _NO_APPARMOR)


@check(
    "1.6.2.2",
    "SELinux enforces its policy, now and after the next start.",
    "Set SELINUX=enforcing in /etc/selinux/config and run `setenforce 1`.",
    passing={_SELINUX: "SELINUX=enforcing\n", "/sys/fs/selinux/enforce": "1"},
    failing={_SELINUX: "SELINUX=permissive\n", "/sys/fs/selinux/enforce": "0"},
    skipping={},
)
def _selinux_enforcing(device: Device) -> Finding:
    tally = Tally()
    for line in device.lines(_SELINUX):
        if line.text.startswith("SELINUX="):
            tally.add(line.text == "SELINUX=enforcing", line)
    now = device.value("/sys/fs/selinux/enforce")
    if now is not None:
        tally.add(now == "1", f"/sys/fs/selinux/enforce: {now}")
    return tally.finding(_NO_SELINUX)


@check(
    "1.6.2.3",
    "SELinux has a policy that distributions maintain.",
    "Set SELINUXTYPE=targeted (or default, mls) in /etc/selinux/config.",
    passing={_SELINUX: "SELINUXTYPE=targeted\n"},
    failing={_SELINUX: "SELINUXTYPE=\n"},
    skipping={},
)
def _selinux_policy(device: Device) -> Finding:
    if not device.exists(_SELINUX):
        return skipped(_NO_SELINUX)
    lines = [line for line in device.lines(_SELINUX) if line.text.startswith("SELINUXTYPE=")]
    known = {"targeted", "default", "mls", "strict", "minimum"}
    good = [line for line in lines if line.text.partition("=")[2].strip() in known]
    return passed(*good) if good else failed(f"{_SELINUX}: no known SELINUXTYPE", *lines)


not_installed(
    "1.6.2.4",
    ["setroubleshoot", "setroubleshootd", "sealert"],
    "The desktop tool setroubleshoot, one more service with rights, is not installed.",
    severity=Severity.INFORMATIONAL,
)
not_installed(
    "1.6.2.5",
    ["mcstrans", "mcstransd"],
    "The label translation service mcstrans, rarely used, is not installed.",
    severity=Severity.INFORMATIONAL,
)


@check(
    "1.6.2.6",
    "No service runs outside SELinux' confinement for want of a policy (unconfined_service_t, initrc_t).",
    "Write a policy for each program named, or label it as the distribution's policy expects.",
    passing={"/sys/fs/selinux/enforce": "1", "/proc/7/attr/current": "system_u:system_r:sshd_t:s0"},
    failing={"/sys/fs/selinux/enforce": "1", "/proc/7/attr/current": "system_u:system_r:initrc_t:s0"},
    skipping={},
)
def _unconfined(device: Device) -> Finding:
    if not device.exists("/sys/fs/selinux/enforce"):
        return skipped("SELinux is not at work")
    unconfined = re.compile(r":(initrc|unconfined_service)_t\b")
    labels = [(path, device.value(path) or "") for path in device.glob("/proc/[1-9]*/attr/current")]
    wrong = [f"{path}: {label}" for path, label in labels if unconfined.search(label)]
    return failed(*wrong) if wrong else passed("no process is labelled initrc_t or unconfined_service_t")


@check(
    "1.6.3.2",
    "Every AppArmor profile that is loaded enforces.",
    "Run `aa-enforce` on the profiles named.",
    passing={"/sys/kernel/security/apparmor/profiles": "sshd (enforce)\n"},
    failing={"/sys/kernel/security/apparmor/profiles": "sshd (complain)\n"},
    skipping={},
)
def _apparmor_enforcing(device: Device) -> Finding:
    tally = Tally()
    for line in device.lines("/sys/kernel/security/apparmor/profiles"):
        tally.add(not line.text.endswith("(complain)"), line)
    for path in device.glob("/etc/apparmor.d/force-complain/*"):
        tally.add(False, path)
    return tally.finding("no AppArmor profile is loaded")


def _banner(number: str, path: str, sentence: str, *, needed: bool) -> None:
    @check(
        number,
        sentence,
        f"Write a warning of your own to {path}, without \\m, \\r, \\s, \\v and the system's name.",
        severity=Severity.INFORMATIONAL,
        passing={path: "Authorised use only. All activity is recorded.\n"},
        failing={path: "Debian GNU/Linux 12 \\n \\l\n", "/etc/os-release": "ID=debian\n"},
    )
    def probe(device: Device) -> Finding:
        lines = device.lines(path, "")
        name = re.escape(os_release(device).get("ID", "gnu/linux"))
        telling = re.compile(rf"\\[mrsv]|\b{name}\b", re.IGNORECASE)
        wrong = [line for line in lines if telling.search(line.text)]
        if wrong:
            return failed(*wrong)
        if needed and not lines:
            return failed(f"{path} is missing or empty")
        return passed(*lines) if lines else passed(f"{path} says nothing")


_banner("1.7.1.1", "/etc/motd", "After sign-in, users are not told the system's version.", needed=False)
_banner("1.7.1.2", "/etc/issue", "Before sign-in, the console warns and tells no version.", needed=True)
_banner("1.7.1.3", "/etc/issue.net", "Before sign-in, remote users are warned, told no version.", needed=True)

for number, path in (("1.7.1.4", "/etc/motd"), ("1.7.1.5", "/etc/issue"), ("1.7.1.6", "/etc/issue.net")):
    file_mode(number, [path], 0o644, f"Only root changes {path}.", severity=Severity.WARNING)

_GREETER = ("/etc/dconf/db/gdm.d/*", "/etc/gdm3/greeter.dconf-defaults")


@check(
    "1.7.2",
    "The graphical sign-in (GDM) shows a warning and no list of users.",
    "Set banner-message-enable=true, banner-message-text and disable-user-list=true for gdm in dconf.",
    severity=Severity.INFORMATIONAL,
    off=on_device("devices rarely have a graphical sign-in"),
    passing={
        "/usr/sbin/gdm3": "",
        "/etc/gdm3/greeter.dconf-defaults": "banner-message-enable=true\ndisable-user-list=true\n",
    },
    failing={"/usr/sbin/gdm3": "", "/etc/gdm3/greeter.dconf-defaults": "# disable-user-list=true\n"},
    skipping={},
)
def _greeter(device: Device) -> Finding:
    if not installed(device, "gdm3", "gdm"):
        return skipped("GDM is not installed")
    lines = {line.text.replace(" ", ""): line for line in device.lines_of(*_GREETER)}
    tally = Tally()
    for setting in ("banner-message-enable=true", "disable-user-list=true"):
        tally.add(setting in lines, lines.get(setting, f"no {setting} in {' or '.join(_GREETER)}"))
    return tally.finding("")
