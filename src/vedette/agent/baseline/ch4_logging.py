"""Chapters 4.2 and 4.3: rsyslog, journald, the log files, and their rotation."""

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
from vedette.agent.baseline.device import Device, Line
from vedette.agent.baseline.families import service_example
from vedette.agent.baseline.services import enabled, installed
from vedette.agent.baseline.tree import Example, File

_RSYSLOG: Example = {"/usr/sbin/rsyslogd": File("", 0o755)}
_RSYSLOG_FILES = ("/etc/rsyslog.conf", "/etc/rsyslog.d/*.conf")
_NO_RSYSLOG = "rsyslog is not installed"


def _rsyslog(device: Device) -> str | None:
    return installed(device, "rsyslogd", "rsyslog")


_OFF = on_device(lambda device: None if _rsyslog(device) else f"{_NO_RSYSLOG}; journald or BusyBox logs")


def _configuration(device: Device) -> list[Line]:
    return device.lines_of(*_RSYSLOG_FILES)


@check(
    "4.2.1.1",
    "rsyslog is installed, to filter and forward logs.",
    "Install rsyslog.",
    severity=Severity.INFORMATIONAL,
    off=_OFF,
    passing=_RSYSLOG,
    failing={"/usr/bin/env": ""},
)
def _is_installed(device: Device) -> Finding:
    sign = _rsyslog(device)
    return passed(sign) if sign else failed(_NO_RSYSLOG)


@check(
    "4.2.1.2",
    "rsyslog starts with the system.",
    "Run `systemctl enable --now rsyslog`.",
    off=_OFF,
    passing={**_RSYSLOG, **service_example("rsyslog")},
    failing={**_RSYSLOG, **service_example("rsyslog", started=False)},
)
def _is_enabled(device: Device) -> Finding:
    sign = enabled(device, "rsyslog", "rsyslogd", "syslog")
    return passed(sign) if sign else failed("nothing starts rsyslog")


_OUTPUT = re.compile(r"^[\w*,;.!=-]+\.[\w*!=,;.-]+\s+(-?/|@|:|action\()|^action\(|\baction\(")


@check(
    "4.2.1.3",
    "rsyslog writes sign-ins (auth, authpriv) and the rest somewhere.",
    "Give selectors and files in /etc/rsyslog.d, such as `auth,authpriv.* /var/log/auth.log`.",
    off=_OFF,
    passing={"/etc/rsyslog.conf": "auth,authpriv.* /var/log/auth.log\n*.*;auth.none -/var/log/syslog\n"},
    failing={"/etc/rsyslog.conf": 'module(load="imuxsock")\n'},
)
def _outputs(device: Device) -> Finding:
    outputs = [line for line in _configuration(device) if _OUTPUT.search(line.text)]
    signed = [line for line in outputs if re.search(r"auth|^\*\.|action\(", line.text)]
    return (
        passed(*signed) if signed else failed("no line of rsyslog's configuration writes sign-ins", *outputs)
    )


@check(
    "4.2.1.4",
    "rsyslog makes log files that others cannot read.",
    "Set `$FileCreateMode 0640` in /etc/rsyslog.conf.",
    off=_OFF,
    passing={"/etc/rsyslog.conf": "$FileCreateMode 0640\n"},
    failing={"/etc/rsyslog.conf": "$FileCreateMode 0644\n"},
)
def _create_mode(device: Device) -> Finding:
    tally = Tally()
    for line in _configuration(device):
        match = re.search(r'FileCreateMode\s*=?\s*"?(0?[0-7]{3})\b', line.text, re.IGNORECASE)
        if match:
            tally.add(not int(match[1], 8) & ~0o640, line)
    finding = tally.finding("")
    return finding if finding.evidence else failed("rsyslog: no $FileCreateMode")


@check(
    "4.2.1.5",
    "rsyslog sends logs to another host, where an intruder on the device cannot change them.",
    "Write `*.* @@<host>` or an omfwd action to /etc/rsyslog.d.",
    severity=Severity.INFORMATIONAL,
    off=_OFF,
    passing={"/etc/rsyslog.d/remote.conf": "*.* @@logs.example.org\n"},
    failing={"/etc/rsyslog.conf": "*.* /var/log/syslog\n"},
)
def _remote(device: Device) -> Finding:
    sent = [line for line in _configuration(device) if re.search(r"\s@@?[\w\[(]|omfwd|omrelp", line.text)]
    return passed(*sent) if sent else failed("no line of rsyslog's configuration sends to a host")


@check(
    "4.2.1.6",
    "rsyslog takes no logs from other hosts: a device is no log host.",
    "Remove imtcp and imudp from rsyslog's configuration.",
    off=_OFF,
    passing={"/etc/rsyslog.conf": 'module(load="imuxsock")\n'},
    failing={"/etc/rsyslog.conf": 'module(load="imtcp")\ninput(type="imtcp" port="514")\n'},
)
def _log_host(device: Device) -> Finding:
    pattern = re.compile(r"\b(imtcp|imudp|imrelp)\b|\$(InputTCPServerRun|UDPServerRun)")
    taken = [line for line in _configuration(device) if pattern.search(line.text)]
    return failed(*taken) if taken else passed("no line of rsyslog's configuration takes logs from hosts")


_JOURNAL = ("/etc/systemd/journald.conf", "/etc/systemd/journald.conf.d/*.conf")
_SYSTEMD: Example = {"/usr/lib/systemd/systemd-journald": File("", 0o755)}


def _journal(device: Device, key: str) -> Line | None:
    """The line that decides a setting of journald: the last, local drop-ins after the distribution's."""
    lines = device.lines_of("/usr/lib/systemd/journald.conf.d/*.conf", *_JOURNAL)
    chosen = [line for line in lines if line.text.partition("=")[0].strip() == key]
    return chosen[-1] if chosen else None


def _has_journald(device: Device) -> bool:
    return device.first("/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald") is not None


_NO_JOURNALD = "journald is not part of this system"


def _value(line: Line | None) -> str:
    return line.text.partition("=")[2].strip().lower() if line else ""


@check(
    "4.2.2.1",
    "Where rsyslog keeps the logs, journald hands everything to it.",
    "Set ForwardToSyslog=yes in /etc/systemd/journald.conf.",
    off=_OFF,
    passing={**_SYSTEMD, **_RSYSLOG, "/etc/systemd/journald.conf": "ForwardToSyslog=yes\n"},
    failing={**_SYSTEMD, **_RSYSLOG, "/etc/systemd/journald.conf": "ForwardToSyslog=no\n"},
    skipping={},
)
def _forwarding(device: Device) -> Finding:
    if not _has_journald(device) or not _rsyslog(device):
        return skipped(_NO_JOURNALD if _rsyslog(device) else _NO_RSYSLOG)
    line = _journal(device, "ForwardToSyslog")
    if any("imjournal" in line.text for line in _configuration(device)):
        return passed("rsyslog reads the journal itself (imjournal)")
    return verdict(_value(line) in {"yes", "true", "1"}, line or "journald.conf: no ForwardToSyslog")


@check(
    "4.2.2.2",
    "journald compresses what is large, and so keeps more.",
    "Set Compress=yes in /etc/systemd/journald.conf, or leave it out: it is the default.",
    severity=Severity.INFORMATIONAL,
    passing=_SYSTEMD,
    failing={**_SYSTEMD, "/etc/systemd/journald.conf": "Compress=no\n"},
    skipping={},
)
def _compression(device: Device) -> Finding:
    if not _has_journald(device):
        return skipped(_NO_JOURNALD)
    line = _journal(device, "Compress")
    return verdict(
        _value(line) not in {"no", "false", "0"}, line or "journald.conf: Compress is on by default"
    )


@check(
    "4.2.2.3",
    "journald keeps logs over a restart.",
    "Set Storage=persistent in /etc/systemd/journald.conf, or make /var/log/journal.",
    passing={**_SYSTEMD, "/etc/systemd/journald.conf": "Storage=persistent\n"},
    failing={**_SYSTEMD, "/etc/systemd/journald.conf": "Storage=volatile\n"},
    skipping={},
)
def _persistence(device: Device) -> Finding:
    if not _has_journald(device):
        return skipped(_NO_JOURNALD)
    line = _journal(device, "Storage")
    if _value(line) in {"", "auto"}:
        kept = device.exists("/var/log/journal")
        return verdict(kept, f"/var/log/journal {'is there' if kept else 'is not there'}, Storage=auto")
    return verdict(_value(line) == "persistent", line)


_RECORDS = frozenset({"btmp", "lastlog", "wtmp"})
"""Sign-in records belong to the group utmp, which writes them; everybody may ask `last`."""

MAX_LOG_FILES = 2_000
"""Log files looked at: more than rotation keeps."""


@check(
    "4.2.3",
    "Others cannot read logs, nor can a group change them.",
    "Run `chmod g-wx,o-rwx` on the files named, and set the mode where they are made.",
    passing={"/var/log/auth.log": File("", 0o640), "/var/log/wtmp": File("", 0o664)},
    failing={"/var/log/auth.log": File("", 0o644)},
    skipping={},
)
def _log_modes(device: Device) -> Finding:
    patterns = ("/var/log/*", "/var/log/*/*", "/var/log/*/*/*")
    paths = [path for pattern in patterns for path in device.glob(pattern)][:MAX_LOG_FILES]
    files = [(path, found) for path in paths if (found := device.stat(path)) and found.is_file]
    files = [(path, found) for path, found in files if path.rpartition("/")[2].split(".")[0] not in _RECORDS]
    wrong = [f"{path}: mode {found.permissions:04o}" for path, found in files if found.permissions & 0o037]
    if wrong:
        return failed(*wrong)
    return passed(f"{len(files)} files in /var/log") if files else skipped("there are no files in /var/log")


@check(
    "4.3",
    "Logs are rotated before they fill the disk.",
    "Install logrotate and name the log files in /etc/logrotate.d, or bound journald and BusyBox syslogd.",
    severity=Severity.INFORMATIONAL,
    passing={"/etc/logrotate.conf": "weekly\nrotate 4\n"},
    failing={"/var/log/messages": ""},
    skipping={},
)
def _rotation(device: Device) -> Finding:
    lines = device.lines_of("/etc/logrotate.conf", "/etc/logrotate.d/*")
    if lines:
        return passed(*lines)
    if not [path for path in device.glob("/var/log/*") if (found := device.stat(path)) and found.is_file]:
        return skipped("there are no log files to rotate")
    return failed("there is no /etc/logrotate.conf")
