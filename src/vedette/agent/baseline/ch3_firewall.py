"""Chapter 3.5: the packet filter, for IPv6 and IPv4 alike, by nftables or iptables."""

from __future__ import annotations

import re
from collections.abc import Callable

from vedette.agent.baseline.declare import Finding, Severity, Tally, check, failed, passed, skipped
from vedette.agent.baseline.device import CannotTell, Device
from vedette.agent.baseline.firewall import HOOKS, Rule, port_names, rules4, rules6
from vedette.agent.baseline.services import Listener, listeners, program
from vedette.agent.baseline.tree import Example

EPHEMERAL = 32_768
"""From this port on a UDP socket that listens is most likely a client's (ip_local_port_range)."""

_OPEN = "table inet f {\n chain i { type filter hook input priority 0; policy accept; }\n}\n"
_CLOSED = """table inet filter {
  chain input { type filter hook input priority 0; policy drop;
    iif "lo" accept
    ip saddr 127.0.0.0/8 drop
    ip6 saddr ::1 drop
    ct state established,related accept
    tcp dport { 22, 443 } accept
  }
  chain forward { type filter hook forward priority 0; policy drop; }
  chain output { type filter hook output priority 0; policy drop;
    oif "lo" accept
    ct state new,established,related accept
  }
}
"""
_SSH4 = {"/proc/net/tcp": "sl local\n0: 00000000:0016 00000000:0000 0A\n"}
_SSH6 = {"/proc/net/tcp6": f"sl local\n0: {'0' * 32}:0016 {'0' * 32}:0000 0A\n"}
_TELNET4 = {"/proc/net/tcp": "sl local\n0: 00000000:0017 00000000:0000 0A\n"}
_TELNET6 = {"/proc/net/tcp6": f"sl local\n0: {'0' * 32}:0017 {'0' * 32}:0000 0A\n"}


def _policy(rules: list[Rule], version: int, device: Device) -> Finding:
    tally = Tally()
    for hook in HOOKS:
        last = [rule for rule in rules if rule.hook == hook and rule.policy]
        closed = [rule for rule in last if rule.policy != "accept"]
        chosen = closed or last
        tally.add(bool(closed), chosen[0] if chosen else f"{hook}: nothing filters IPv{version}")
    return tally.finding("")


def _loopback(rules: list[Rule], version: int, device: Device) -> Finding:
    own = r"127\.0\.0\.0/8" if version == 4 else r"::1(/128)?"
    wanted = (
        ("input", r"(-i lo\b|\biif(name)? \"?lo\"?).*\b(ACCEPT|accept)\b", "what comes from lo is accepted"),
        ("output", r"(-o lo\b|\boif(name)? \"?lo\"?).*\b(ACCEPT|accept)\b", "what goes to lo is accepted"),
        (
            "input",
            rf"(-s|saddr) {own}.*\b(DROP|drop|REJECT|reject)\b",
            "loopback addresses from elsewhere are dropped",
        ),
    )
    return _each(rules, wanted)


def _established(rules: list[Rule], version: int, device: Device) -> Finding:
    state = r"state\b.*{}.*\b(ACCEPT|accept)\b"
    wanted = (
        ("input", state.format("(?i:established)"), "answers come in"),
        ("output", state.format("(?i:established)"), "connections go out"),
    )
    return _each(rules, wanted)


def _each(rules: list[Rule], wanted: tuple[tuple[str, str, str], ...]) -> Finding:
    tally = Tally()
    for hook, pattern, meaning in wanted:
        match = next((rule for rule in rules if rule.hook == hook and re.search(pattern, rule.text)), None)
        tally.add(match is not None, match or f"{hook}: no rule by which {meaning}")
    return tally.finding("")


def _ports(rules: list[Rule], version: int, device: Device) -> Finding:
    named = [rule for rule in rules if rule.hook == "input" and re.search(r"\bdports?\b", rule.text)]
    names = port_names(device)
    tally = Tally()
    for it in listeners(device):
        ephemeral = it.protocol == "udp" and it.port >= EPHEMERAL
        if it.version == version and not it.loopback and not ephemeral:
            match = next((rule for rule in named if _speaks_of(rule.text, it, names)), None)
            tally.add(match is not None, match or f"{it}, no rule speaks of it")
    return tally.finding(f"no port is open to others over IPv{version}")


def _speaks_of(text: str, it: Listener, names: dict[str, int]) -> bool:
    """True if a rule names a port: as a number or name, in a list, or in a range."""
    if it.protocol not in text and "th dport" not in text:
        return False
    listed = re.search(r"dports? (?:\(([^)]*)\)|(\S+))", text)
    for part in re.split(r"[,\s]+", (listed[1] or listed[2]).strip()) if listed else ():
        span = re.fullmatch(r"(\d+)[:-](\d+)", part)
        low = int(span[1]) if span else int(part) if part.isdigit() else names.get(part, -1)
        if low <= it.port <= (int(span[2]) if span else low):
            return True
    return False


Judge = Callable[[list[Rule], int, Device], Finding]

_TABLE: tuple[tuple[str, Judge, str, str, Severity], ...] = (
    (
        "1",
        _policy,
        "Whatever no rule allows is dropped: coming in, going out, and passing through.",
        "Set the policy of input, forward and output to drop, after allowing what is needed.",
        Severity.IMPORTANT,
    ),
    (
        "2",
        _loopback,
        "The loopback interface is free, and its addresses are refused from anywhere else.",
        "Accept iif lo and oif lo; drop loopback source addresses of other interfaces.",
        Severity.WARNING,
    ),
    (
        "3",
        _established,
        "Connections that the device makes, and their answers, are allowed by state.",
        "Accept `ct state established,related` on input and `new,established,related` on output.",
        Severity.WARNING,
    ),
    (
        "4",
        _ports,
        "For every open port there is a rule that was written for it.",
        "Write a rule for each port named, or stop the service that listens there.",
        Severity.IMPORTANT,
    ),
)


def _declare(prefix: str, version: int) -> None:
    for last, judge, sentence, remedy, severity in _TABLE:
        _firewall(f"{prefix}.{last}", version, judge, f"IPv{version}: {sentence}", remedy, severity)


def _firewall(
    number: str, version: int, judge: Judge, sentence: str, remedy: str, severity: Severity
) -> None:
    ports: tuple[Example, Example] = ({}, {})
    if judge is _ports:
        ports = (_SSH4, _TELNET4) if version == 4 else (_SSH6, _TELNET6)

    @check(
        number,
        sentence,
        remedy,
        severity=severity,
        passing={"$ nft list ruleset": _CLOSED, "/proc/net/if_inet6": "", **ports[0]},
        failing={"$ nft list ruleset": _OPEN, "/proc/net/if_inet6": "", **ports[1]},
    )
    def probe(device: Device) -> Finding:
        if version == 6 and device.exists("/proc/net/dev") and not device.exists("/proc/net/if_inet6"):
            return skipped("this kernel has no IPv6")
        rules = rules4(device) if version == 4 else rules6(device)
        if not rules and program(device, "nft", "iptables") and _unasked(device):
            raise CannotTell("the packet filter gave no answer; root may ask it")
        return judge(rules, version, device)


def _unasked(device: Device) -> bool:
    """True on a running system whose packet filter could not be asked."""
    answers = (device.run("nft", "list", "ruleset"), device.run("iptables", "-S"))
    return device.exists("/proc/net/dev") and answers == (None, None)


_declare("3.5.1", 6)
_declare("3.5.2", 4)


@check(
    "3.5.3",
    "A tool for the packet filter is installed: nftables or iptables.",
    "Install nftables.",
    passing={"/usr/sbin/nft": ""},
    failing={"/usr/bin/env": ""},
)
def _tool(device: Device) -> Finding:
    sign = program(device, "nft", "iptables", "fw4", "fw3")
    return passed(sign) if sign else failed("neither nft nor iptables is installed")
