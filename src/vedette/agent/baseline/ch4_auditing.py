"""Chapter 4.1: what the kernel's audit records. Rules are those in force, or for an image its files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
from vedette.agent.baseline.device import Device, Line, fact
from vedette.agent.baseline.families import service_example
from vedette.agent.baseline.kernel import command_line
from vedette.agent.baseline.search import Kind, search
from vedette.agent.baseline.services import enabled, installed
from vedette.agent.baseline.tree import Example, File

_CONF = "/etc/audit/auditd.conf"
_RULES = "/etc/audit/rules.d/baseline.rules"
_INSTALLED: Example = {"/usr/sbin/auditd": File("", 0o755)}


def _auditd(device: Device) -> str | None:
    return installed(device, "auditd")


_OFF = on_device(lambda device: None if _auditd(device) else "auditd is not installed")


class AuditRule(NamedTuple):
    """One rule: the paths it watches, or the calls it records, and under which conditions."""

    line: Line
    paths: frozenset[str]
    permissions: str
    calls: frozenset[str]
    conditions: frozenset[str]


@fact
def audit_rules(device: Device) -> list[AuditRule]:
    """The rules in force (`auditctl -l`), or those that files would load."""
    asked = device.run("auditctl", "-l")
    if asked is not None:
        lines = [Line("auditctl -l", line) for line in asked.splitlines() if line.startswith("-")]
    else:
        lines = device.lines_of("/etc/audit/rules.d/*.rules") or device.lines("/etc/audit/audit.rules")
    return [_rule(line) for line in lines]


def _rule(line: Line) -> AuditRule:
    options = re.findall(r"-(\w)\s+(\S+)", line.text)
    conditions = {value for option, value in options if option == "F"}
    pairs = [condition.partition("=") for condition in conditions]
    paths = {value for option, value in options if option == "w"}
    paths |= {value for key, _, value in pairs if key in {"path", "dir"}}
    permissions = [value for option, value in options if option == "p"]
    permissions += [value for key, _, value in pairs if key == "perm"]
    calls = {call for option, value in options if option == "S" for call in value.split(",")}
    return AuditRule(
        line,
        frozenset(path.rstrip("/") for path in paths),
        "".join(permissions) or "rwxa",
        frozenset(calls),
        frozenset(conditions),
    )


def _watch(device: Device, path: str) -> AuditRule | None:
    """The rule that records writing and changing attributes of a path."""
    watching = (rule for rule in audit_rules(device) if path in rule.paths)
    return next((rule for rule in watching if {"w", "a"} <= {*rule.permissions}), None)


def _recorded(device: Device, call: str, condition: str) -> AuditRule | None:
    """The rule that records a call under a condition, if one is asked for."""
    return next(
        (
            rule
            for rule in audit_rules(device)
            if call in rule.calls
            and "never" not in rule.line.text
            and (not condition or condition in rule.conditions)
        ),
        None,
    )


def _judge(device: Device, watches: Sequence[str], calls: Sequence[tuple[str, str]]) -> Finding:
    """Whether each path that is there is watched and each call is recorded."""
    if not _auditd(device):
        return failed("auditd is not installed")
    tally = Tally()
    for path in watches:
        if device.exists(path):
            rule = _watch(device, path)
            tally.add(rule is not None, rule.line if rule else f"no rule watches {path}")
    for names, condition in calls:
        for call in names.split():
            rule = _recorded(device, call, condition)
            under = f" with {condition}" if condition else ""
            tally.add(rule is not None, rule.line if rule else f"no rule records {call}{under}")
    return tally.finding("none of the files to watch is here")


def _events(
    number: str, what: str, watches: Sequence[str] = (), calls: Sequence[tuple[str, str]] = ()
) -> None:
    """Rules for files and calls; with each group of calls the condition under which they are recorded."""
    lines = [f"-w {path} -p wa -k baseline" for path in watches]
    for names, condition in calls:
        under = f" -F {condition}" if condition else ""
        options = " ".join(f"-S {call}" for call in names.split()) + under
        lines += [f"-a always,exit -F arch={arch} {options} -k baseline" for arch in ("b64", "b32")]
    files: Example = dict.fromkeys(watches, "")

    @check(
        number,
        f"The audit records {what}.",
        f"Write to {_RULES}: {'; '.join(f'`{line}`' for line in lines)}. Load it with `augenrules --load`.",
        off=_OFF,
        passing={**_INSTALLED, **files, _RULES: "\n".join(lines)},
        failing={**_INSTALLED, **files, _RULES: "-D\n-b 8192\n"},
    )
    def probe(device: Device) -> Finding:
        return _judge(device, watches, calls)


def _setting(number: str, wanted: Mapping[str, Sequence[str]], sentence: str) -> None:
    """Keywords of auditd.conf have one of these values; no value stands for any number."""
    good = "".join(f"{key} = {values[0] if values else 8}\n" for key, values in wanted.items())

    @check(
        number,
        sentence,
        f"Set {', '.join(f'`{line}`' for line in good.splitlines())} in {_CONF}.",
        severity=Severity.INFORMATIONAL,
        off=_OFF,
        passing={_CONF: good},
        failing={_CONF: "".join(f"{key} = ignore\n" for key in wanted)},
        skipping={},
    )
    def probe(device: Device) -> Finding:
        lines = {line.text.partition("=")[0].strip(): line for line in device.lines(_CONF)}
        if not lines:
            return skipped(f"there is no {_CONF}")
        tally = Tally()
        for key, values in wanted.items():
            line = lines.get(key)
            value = line.text.partition("=")[2].strip().lower() if line else ""
            good = value in values if values else value.isdigit() and int(value) > 0
            tally.add(good, line or f"{_CONF}: no {key}")
        return tally.finding("")


_setting("4.1.1.1", {"max_log_file": ()}, "The size of the audit's log is set to what the disk can hold.")
_setting(
    "4.1.1.2",
    {"space_left_action": ("email", "exec", "single", "halt"), "admin_space_left_action": ("halt", "single")},
    "Where audit must be complete, the system stops when its log is full.",
)
_setting("4.1.1.3", {"max_log_file_action": ("keep_logs",)}, "Full audit logs are kept, not overwritten.")


@check(
    "4.1.2",
    "The audit daemon is installed.",
    "Install auditd (package audit or auditd).",
    off=_OFF,
    passing=_INSTALLED,
    failing={"/usr/bin/env": ""},
)
def _is_installed(device: Device) -> Finding:
    sign = _auditd(device)
    return passed(sign) if sign else failed("auditd is not installed")


@check(
    "4.1.3",
    "The audit daemon starts with the system.",
    "Run `systemctl enable --now auditd`.",
    off=_OFF,
    passing=service_example("auditd"),
    failing=service_example("auditd", started=False),
)
def _is_enabled(device: Device) -> Finding:
    sign = enabled(device, "auditd")
    return passed(sign) if sign else failed("nothing starts auditd")


@check(
    "4.1.4",
    "Processes that start before the audit daemon are audited too.",
    "Add audit=1 to the kernel's command line.",
    off=_OFF,
    passing={"/proc/cmdline": "root=/dev/sda1 audit=1"},
    failing={"/proc/cmdline": "root=/dev/sda1 quiet"},
)
def _from_the_start(device: Device) -> Finding:
    found = [word for word in command_line(device) if word.startswith("audit=")]
    return verdict("audit=1" in found, f"kernel command line: {' '.join(found) or 'no audit=1'}")


_PERSON = "auid>=1000"

_events(
    "4.1.5",
    "changes of the clock",
    ["/etc/localtime"],
    [("adjtimex settimeofday clock_settime", "")],
)
_events(
    "4.1.6",
    "changes of users and groups",
    ["/etc/group", "/etc/passwd", "/etc/gshadow", "/etc/shadow", "/etc/security/opasswd"],
)
_events(
    "4.1.7",
    "changes of the network's configuration",
    ["/etc/issue", "/etc/issue.net", "/etc/hosts", "/etc/network", "/etc/sysconfig/network"],
    [("sethostname setdomainname", "")],
)
_events(
    "4.1.8",
    "changes of the mandatory access control's policy",
    ["/etc/selinux", "/usr/share/selinux", "/etc/apparmor", "/etc/apparmor.d"],
)
_events(
    "4.1.9", "sign-ins and failed sign-ins", ["/var/log/faillog", "/var/log/lastlog", "/var/run/faillock"]
)
_events("4.1.10", "the start of sessions", ["/var/run/utmp", "/var/log/wtmp", "/var/log/btmp"])
_events(
    "4.1.11",
    "changes of permissions and owners by people",
    calls=[
        ("chmod fchmod fchmodat chown fchown fchownat lchown", _PERSON),
        ("setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr", _PERSON),
    ],
)
_events(
    "4.1.12",
    "files that people tried to open or change and might not",
    calls=[
        ("creat open openat truncate ftruncate", "exit=-EACCES"),
        ("creat open openat truncate ftruncate", "exit=-EPERM"),
    ],
)
_events("4.1.14", "what people mount", calls=[("mount", _PERSON)])
_events("4.1.15", "files that people delete or rename", calls=[("unlink unlinkat rename renameat", _PERSON)])
_events("4.1.16", "changes of who may use sudo", ["/etc/sudoers", "/etc/sudoers.d"])
_events("4.1.17", "changes of sudo's own log", ["/var/log/sudo.log"])
_events(
    "4.1.18",
    "kernel modules that are loaded or removed",
    calls=[("init_module delete_module", "")],
)


@check(
    "4.1.13",
    "The audit records every use of a program that gives rights (SUID, SGID).",
    f"For each program named, write to {_RULES}: `-a always,exit -F path=<program> -F perm=x"
    " -F auid>=1000 -F auid!=unset -k privileged`.",
    off=_OFF,
    passing={
        **_INSTALLED,
        "/usr/bin/passwd": File("", 0o4755),
        _RULES: "-a always,exit -F path=/usr/bin/passwd -F perm=x -F auid>=1000 -k privileged\n",
    },
    failing={**_INSTALLED, "/usr/bin/passwd": File("", 0o4755), _RULES: "-D\n"},
    searches=True,
)
def _privileged(device: Device) -> Finding:
    if not _auditd(device):
        return failed("auditd is not installed")
    tally = Tally()
    for path in sorted({path for kind in (Kind.SUID, Kind.SGID) for path in search(device).found(kind)[0]}):
        rules = [rule for rule in audit_rules(device) if path in rule.paths and "x" in rule.permissions]
        tally.add(bool(rules), rules[0].line if rules else f"no rule records the use of {path}")
    return tally.finding("no program has SUID or SGID")


@check(
    "4.1.19",
    "The audit's rules cannot be changed until the next start.",
    "Write `-e 2` as the last line to /etc/audit/rules.d/99-finalize.rules.",
    off=_OFF,
    passing={**_INSTALLED, "/etc/audit/rules.d/99-finalize.rules": "-e 2\n"},
    failing={**_INSTALLED, "/etc/audit/rules.d/audit.rules": "-D\n"},
)
def _immutable(device: Device) -> Finding:
    if not _auditd(device):
        return failed("auditd is not installed")
    lines = device.lines_of("/etc/audit/rules.d/*.rules") or device.lines("/etc/audit/audit.rules")
    switches = [line for line in lines if line.text.startswith("-e")]
    last = switches[-1] if switches else None
    return verdict(last is not None and last.text.split() == ["-e", "2"], last or "no rule file has `-e 2`")
