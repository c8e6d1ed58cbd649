"""Chapter 5.2: the SSH server. Other servers (dropbear) have no such options: Skip."""

from __future__ import annotations

from collections.abc import Callable

from vedette.agent.baseline.declare import Finding, Severity, Tally, check, failed, passed, skipped, verdict
from vedette.agent.baseline.device import Device, Line
from vedette.agent.baseline.families import modes
from vedette.agent.baseline.sshd import CONFIGURATION, algorithms, options, server, value
from vedette.agent.baseline.tree import File

_ABSENT = "OpenSSH's server is not installed"


def _keys(number: str, pattern: str, most: int, sentence: str, severity: Severity) -> None:
    path = pattern.replace("*", "host_ed25519")

    @check(
        number,
        sentence,
        f"Run `chown root:root {pattern}` and `chmod {most:o} {pattern}`.",
        severity=severity,
        passing={path: File("", most)},
        failing={path: File("", 0o666)},
        skipping={},
    )
    def probe(device: Device) -> Finding:
        return modes(device, [pattern], most, ("root", "ssh_keys"))


_keys("5.2.1", CONFIGURATION, 0o600, "Only root reads and changes sshd_config.", Severity.IMPORTANT)
_keys(
    "5.2.2",
    "/etc/ssh/ssh_host_*_key",
    0o600,
    "Only root reads the host's private keys: who has them can pose as this device.",
    Severity.CRITICAL,
)
_keys("5.2.3", "/etc/ssh/ssh_host_*_key.pub", 0o644, "Only root changes the host's keys.", Severity.WARNING)

Judge = Callable[[Line], bool]


def _is(*values: str) -> Judge:
    return lambda line: value(line) in values


def _from_to(low: int, high: int) -> Judge:
    return lambda line: value(line).isdigit() and low <= int(value(line)) <= high


def _none_of(weak: str) -> Judge:
    return lambda line: not set(algorithms(line)) & set(weak.split())


def _seconds(text: str) -> int:
    """A time of sshd: `90`, `1m30s`, `2h`."""
    total, number = 0, ""
    for sign in text:
        if sign.isdigit():
            number += sign
        else:
            total += int(number or "0") * {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(sign, 1)
            number = ""
    return total + int(number or "0")


def _startups(line: Line) -> bool:
    """`10:30:60`: random refusal starts at 10 waiting connections, total at 60."""
    parts = [int(part) for part in value(line).split(":") if part.isdigit()]
    return len(parts) == 3 and parts[0] <= 10 and parts[1] >= 30 and parts[2] <= 60


_WEAK_CIPHERS = (
    "3des-cbc aes128-cbc aes192-cbc aes256-cbc arcfour arcfour128 arcfour256 blowfish-cbc cast128-cbc"
    " rijndael-cbc@lysator.liu.se"
)
_WEAK_MACS = (
    "hmac-md5 hmac-md5-96 hmac-ripemd160 hmac-sha1 hmac-sha1-96 umac-64@openssh.com umac-128@openssh.com"
    " hmac-md5-etm@openssh.com hmac-md5-96-etm@openssh.com hmac-ripemd160-etm@openssh.com"
    " hmac-sha1-etm@openssh.com hmac-sha1-96-etm@openssh.com umac-64-etm@openssh.com"
    " umac-128-etm@openssh.com"
)
_WEAK_EXCHANGES = "diffie-hellman-group1-sha1 diffie-hellman-group14-sha1 diffie-hellman-group-exchange-sha1"

_TABLE: tuple[tuple[str, str, Judge, str, str, str, Severity], ...] = (
    (
        "5.2.5",
        "LogLevel",
        _is("info", "verbose"),
        "INFO",
        "QUIET",
        "The server logs sign-ins, and not what users type.",
        Severity.WARNING,
    ),
    (
        "5.2.6",
        "X11Forwarding",
        _is("no"),
        "no",
        "yes",
        "Graphical sessions are not tunnelled: a device has none.",
        Severity.WARNING,
    ),
    (
        "5.2.7",
        "MaxAuthTries",
        _from_to(1, 4),
        "4",
        "6",
        "A connection may try four passwords, and then has to start anew.",
        Severity.WARNING,
    ),
    (
        "5.2.8",
        "IgnoreRhosts",
        _is("yes"),
        "yes",
        "no",
        "Files of users (.rhosts) cannot let other hosts in.",
        Severity.IMPORTANT,
    ),
    (
        "5.2.9",
        "HostbasedAuthentication",
        _is("no"),
        "no",
        "yes",
        "Nobody gets in because of the host he comes from.",
        Severity.IMPORTANT,
    ),
    (
        "5.2.10",
        "PermitRootLogin",
        _is("no"),
        "no",
        "yes",
        "Nobody signs in as root: people sign in as themselves, and then use sudo or su.",
        Severity.IMPORTANT,
    ),
    (
        "5.2.11",
        "PermitEmptyPasswords",
        _is("no"),
        "no",
        "yes",
        "Accounts with an empty password cannot sign in.",
        Severity.CRITICAL,
    ),
    (
        "5.2.12",
        "PermitUserEnvironment",
        _is("no"),
        "no",
        "yes",
        "Users cannot set variables such as LD_PRELOAD before their session starts.",
        Severity.IMPORTANT,
    ),
    (
        "5.2.13",
        "Ciphers",
        _none_of(_WEAK_CIPHERS),
        "aes256-gcm@openssh.com,aes256-ctr",
        "aes256-ctr,aes128-cbc,3des-cbc",
        "Only ciphers without known weakness are offered: no CBC, RC4, 3DES.",
        Severity.IMPORTANT,
    ),
    (
        "5.2.14",
        "MACs",
        _none_of(_WEAK_MACS),
        "hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512,hmac-sha1,hmac-md5",
        "Only strong message checksums are offered: SHA-2, no MD5, SHA-1 or 64 bits.",
        Severity.WARNING,
    ),
    (
        "5.2.15",
        "KexAlgorithms",
        _none_of(_WEAK_EXCHANGES),
        "curve25519-sha256,diffie-hellman-group16-sha512",
        "curve25519-sha256,diffie-hellman-group1-sha1",
        "Keys are exchanged without SHA-1.",
        Severity.IMPORTANT,
    ),
    (
        "5.2.17",
        "LoginGraceTime",
        lambda line: 1 <= _seconds(value(line)) <= 60,
        "60",
        "2m",
        "Who does not sign in within a minute is disconnected.",
        Severity.WARNING,
    ),
    (
        "5.2.19",
        "Banner",
        lambda line: value(line) not in {"", "none"},
        "/etc/issue.net",
        "none",
        "A warning is shown before sign-in.",
        Severity.INFORMATIONAL,
    ),
    (
        "5.2.20",
        "UsePAM",
        _is("yes"),
        "yes",
        "no",
        "Rules of PAM (lock-out, ageing, limits) hold for SSH too.",
        Severity.WARNING,
    ),
    (
        "5.2.21",
        "AllowTcpForwarding",
        _is("no"),
        "no",
        "yes",
        "The device is no tunnel into its network.",
        Severity.WARNING,
    ),
    (
        "5.2.22",
        "MaxStartups",
        _startups,
        "10:30:60",
        "100:30:200",
        "Few connections may wait for sign-in at a time, so that a flood does not fill memory.",
        Severity.WARNING,
    ),
    (
        "5.2.23",
        "MaxSessions",
        _from_to(0, 10),
        "10",
        "100",
        "A connection carries at most ten sessions.",
        Severity.INFORMATIONAL,
    ),
)


def _option(
    number: str, keyword: str, judge: Judge, good: str, bad: str, sentence: str, severity: Severity
) -> None:
    @check(
        number,
        f"SSH: {sentence}",
        f"Set `{keyword} {good}` in {CONFIGURATION} and reload sshd.",
        severity=severity,
        passing={CONFIGURATION: f"{keyword} {good}\nMatch User backup\n{keyword} {bad}\n"},
        failing={
            CONFIGURATION: "Include sshd_config.d/*.conf\n",
            "/etc/ssh/sshd_config.d/x.conf": f"{keyword} {bad}\n",
        },
        skipping={},
    )
    def probe(device: Device) -> Finding:
        if not server(device):
            return skipped(_ABSENT)
        line = options(device)[keyword.lower()]
        return verdict(judge(line), line)


for row in _TABLE:
    _option(*row)


@check(
    "5.2.4",
    "SSH: Protocol version 1, broken for decades, is not offered.",
    f"Remove `Protocol 1` from {CONFIGURATION}; OpenSSH since 7.4 speaks version 2 only.",
    severity=Severity.CRITICAL,
    passing={CONFIGURATION: "Port 22\n"},
    failing={CONFIGURATION: "Protocol 2,1\n"},
    skipping={},
)
def _protocol(device: Device) -> Finding:
    if not server(device):
        return skipped(_ABSENT)
    line = options(device).get("protocol")
    return verdict(
        line is None or value(line) == "2", line or f"{CONFIGURATION}: no Protocol, 2 is the default"
    )


@check(
    "5.2.16",
    "SSH: A connection that has died or is abandoned is closed within five minutes.",
    f"Set `ClientAliveInterval 300` or less and `ClientAliveCountMax 3` or less in {CONFIGURATION}.",
    passing={CONFIGURATION: "ClientAliveInterval 300\nClientAliveCountMax 3\n"},
    failing={CONFIGURATION: "ClientAliveInterval 0\n"},
    skipping={},
)
def _idle(device: Device) -> Finding:
    if not server(device):
        return skipped(_ABSENT)
    tally = Tally()
    interval, most = options(device)["clientaliveinterval"], options(device)["clientalivecountmax"]
    tally.add(1 <= _seconds(value(interval)) <= 300, interval)
    tally.add(_from_to(0, 3)(most), most)
    return tally.finding("")


@check(
    "5.2.18",
    "SSH: Who may sign in is listed, by user or group.",
    f"Set AllowGroups or AllowUsers in {CONFIGURATION}.",
    passing={CONFIGURATION: "AllowGroups ssh-users\n"},
    failing={CONFIGURATION: "Port 22\n"},
    skipping={},
)
def _access(device: Device) -> Finding:
    if not server(device):
        return skipped(_ABSENT)
    lists = ("allowusers", "allowgroups", "denyusers", "denygroups")
    found = [options(device)[key] for key in lists if key in options(device)]
    return passed(*found) if found else failed("no AllowUsers, AllowGroups, DenyUsers or DenyGroups")
