"""iptables' rules from what its `save` programs print: format in iptables-save(8) and iptables(8)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from vedette.agent.sources.rule import DIRECTIONS, Rule, filled

FIELDS = {
    "-p": "protocol",
    "-s": "source_address",
    "-d": "destination_address",
    "--sport": "source_port",
    "--sports": "source_port",
    "--dport": "destination_port",
    "--dports": "destination_port",
}
VERDICTS = frozenset(
    {"ACCEPT", "DROP", "REJECT", "RETURN", "QUEUE", "NFQUEUE", "MASQUERADE", "REDIRECT", "DNAT", "SNAT"}
)
UNTOLD = frozenset({"-m", "--comment"})
"""Options that decide nothing by themselves: the name of a match that its own options reveal, a comment."""


def rules(family: str, saved: bytes) -> Iterator[Rule]:
    """The policies and rules of all tables, in their order. family: `ip` or `ip6`."""
    table = ""
    for raw in saved.splitlines():
        line = raw.decode(errors="backslashreplace")
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            yield from _policy(family, table, line[1:].split())
        elif line.startswith("-A "):
            yield _rule(family, table, _words(line))


def _policy(family: str, table: str, words: list[str]) -> Iterator[Rule]:
    """`:INPUT DROP [0:0]`; a user's own chain has `-` in the place of the policy."""
    if len(words) > 1 and words[1] != "-":
        yield _bare(family, table, words[0], policy=True, action=words[1].lower())


def _bare(family: str, table: str, chain: str, *, policy: bool = False, action: str = "") -> Rule:
    return Rule(
        backend="iptables",
        family=family,
        table=table,
        chain=chain,
        direction=DIRECTIONS.get(chain.lower(), "") if chain.isupper() else "",
        policy=policy,
        action=action,
    )


def _rule(family: str, table: str, words: list[str]) -> Rule:
    found: dict[str, str] = {}
    others: list[str] = []
    rest = iter(words[2:])
    negated = ""
    for word in rest:
        if word == "!":
            negated = "!= "
            continue
        if word in FIELDS:
            found[FIELDS[word]] = negated + next(rest, "")
        elif word in {"-j", "-g"}:
            found["action"] = _action(word, next(rest, ""))
        elif word in UNTOLD:
            next(rest, "")
        else:
            others.append(f"! {word}" if negated else word)
        negated = ""
    return filled(_bare(family, table, words[1] if len(words) > 1 else ""), found, others)


def _action(option: str, target: str) -> str:
    """Verdicts in lower case as nftables has them; any other target is a chain or an extension."""
    if target in VERDICTS:
        return target.lower()
    return f"{'goto' if option == '-g' else 'jump'} {target}"


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # an unmatched quote
        return line.split()
