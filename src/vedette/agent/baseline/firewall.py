"""Facts about packet filters: the rules of nftables and iptables as one list, asked or from files.

The running system is asked (`nft list ruleset`, `iptables -S`); an image has /etc/nftables.conf and the
files of iptables-persistent. Both tools may hold rules at once: what either drops is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from vedette.agent.baseline.device import Device, fact

HOOKS = ("input", "forward", "output")

_NFT_FILES = (
    "/etc/nftables.conf",
    "/etc/nftables/*.nft",
    "/etc/nftables.d/*.nft",
    "/etc/sysconfig/nftables.conf",
)
_IPTABLES_FILES = {
    4: ("/etc/iptables/rules.v4", "/etc/sysconfig/iptables", "/etc/iptables/rules-save"),
    6: ("/etc/iptables/rules.v6", "/etc/sysconfig/ip6tables", "/etc/iptables/rules6-save"),
}


class Rule(NamedTuple):
    """One rule of a chain that filters at `hook`, or (verdict `policy`) what the chain ends with."""

    hook: str
    text: str
    policy: str = ""
    """`accept`, `drop` or `reject`, for the chain's last word."""

    def __str__(self) -> str:
        return f"{self.hook}: {self.text[:200]}"


@fact
def _nftables(device: Device) -> str:
    """The ruleset in nft's language; empty where there is none."""
    asked = device.run("nft", "list", "ruleset")
    if asked is not None:
        return asked
    return "\n".join(line.text for line in device.lines_of(*_NFT_FILES))


def _iptables(device: Device, version: int) -> list[str]:
    """Rules as `iptables -S` or iptables-save print them."""
    asked = device.run("iptables" if version == 4 else "ip6tables", "-S")
    if asked is not None:
        return asked.splitlines()
    return [line.text for line in device.lines_of(*_IPTABLES_FILES[version])]


@fact
def port_names(device: Device) -> dict[str, int]:
    """Names that rules may use for ports."""
    rows = (line.text.split() for line in device.lines("/etc/services"))
    return {row[0]: int(row[1].partition("/")[0]) for row in rows if len(row) > 1 and row[1][0].isdigit()}


@fact
def rules4(device: Device) -> list[Rule]:
    """What filters IPv4."""
    return [*_nft_rules(_nftables(device), {"ip", "inet"}), *_chain_rules(_iptables(device, 4))]


@fact
def rules6(device: Device) -> list[Rule]:
    """What filters IPv6."""
    return [*_nft_rules(_nftables(device), {"ip6", "inet"}), *_chain_rules(_iptables(device, 6))]


class _Table:
    """A table of nftables: the statements of its chains, and which of them filter at a hook."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.bodies: dict[str, list[str]] = {}
        self.hooks: dict[str, str] = {}


_SET = re.compile(r"( [\w!=]+) \{([^{}]*)\}")
"""An anonymous set within a rule: `tcp dport { 22, 80 }`, told from the braces of `chain\tinput {`."""


def _nft_tables(text: str) -> list[_Table]:
    """What a ruleset holds. Sets are rewritten with ( ) first, so that braces are blocks only."""
    text = re.sub(r"(chain|table) ", r"\1\t", text)
    text = _SET.sub(lambda found: f"{found[1]} ({' '.join(found[2].split())})", text)
    tables = [_Table("")]
    chain = ""
    for line in re.split(r"[\n;]|(?<=\{)|(?=\})", text):
        words = line.split()
        if words[:1] == ["table"]:
            tables.append(_Table("ip" if words[2:3] in (["{"], []) else words[1]))
        elif words[:1] == ["chain"] and len(words) > 1:
            chain = words[1]
            tables[-1].bodies.setdefault(chain, [])
        elif words[:1] == ["}"]:
            chain = ""
        elif chain and words[:1] == ["type"]:
            tables[-1].hooks.update((chain, hook) for hook in HOOKS if {"filter", hook} <= set(words))
        elif chain and words:
            tables[-1].bodies[chain].append(" ".join(words))
    return tables


def _nft_rules(text: str, families: set[str]) -> Iterator[Rule]:
    """Rules of the base chains of these families; rules of chains jumped to count for their hook."""
    for table in _nft_tables(text):
        for name, hook in table.hooks.items() if table.family in families else ():
            yield from _flattened(hook, name, table.bodies)


def _flattened(hook: str, chain: str, bodies: dict[str, list[str]]) -> Iterator[Rule]:
    """A base chain's rules with those of the chains it jumps to, and its last word."""
    last = "accept"
    for text in bodies.get(chain, []):
        policy = re.fullmatch(r"policy (accept|drop|reject)", text)
        if policy:
            last = policy[1]
        elif re.fullmatch(r"(counter( packets \d+ bytes \d+)? )?(drop|reject.*)", text):
            last = "drop"
    yield from _jumped(hook, chain, bodies, set())
    yield Rule(hook, f"chain {chain} ends with {last}", last)


def _jumped(hook: str, chain: str, bodies: dict[str, list[str]], seen: set[str]) -> Iterator[Rule]:
    seen.add(chain)
    for text in bodies.get(chain, []):
        if text.startswith("policy "):
            continue
        yield Rule(hook, text)
        jump = re.search(r"\b(?:jump|goto) (\S+)|-[jg] (\S+)$", text)
        target = (jump[1] or jump[2]) if jump else ""
        if target in bodies and target not in seen:
            yield from _jumped(hook, target, bodies, seen)


def _chain_rules(lines: list[str]) -> Iterator[Rule]:
    """Rules of the filter table's built-in chains, and of those that they jump to."""
    bodies: dict[str, list[str]] = {}
    table = "filter"
    for line in lines:
        words = line.split()
        if line.startswith("*"):
            table = line[1:]
        elif table == "filter" and words[0] in {"-A", "-P", "-N"} and len(words) > 1:
            body = bodies.setdefault(words[1], [])
            if words[0] == "-P":
                body.append(f"policy {words[2].lower()}")
            elif words[0] == "-A":
                body.append(
                    "drop" if words[2:] in (["-j", "DROP"], ["-j", "REJECT"]) else " ".join(words[2:])
                )
        elif table == "filter" and line.startswith(":"):
            bodies.setdefault(words[0][1:], []).append(f"policy {words[1].lower()}")
    for hook in HOOKS:
        if hook.upper() in bodies:
            yield from _flattened(hook, hook.upper(), bodies)
