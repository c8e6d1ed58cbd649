"""nftables' rules from its JSON: the format is told in libnftables-json(5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from vedette.agent.sources import Unavailable
from vedette.agent.sources.rule import DIRECTIONS, Rule, filled

PAYLOADS = {
    "saddr": "source_address",
    "daddr": "destination_address",
    "sport": "source_port",
    "dport": "destination_port",
}
PROTOCOL_KEYS = frozenset({"l4proto", "protocol", "nexthdr"})
VERDICTS = frozenset(
    {"accept", "drop", "reject", "return", "queue", "masquerade", "redirect", "dnat", "snat"}
)
SILENT = frozenset({"counter", "comment"})
"""Expressions that decide nothing; counters differ at every look."""

Json = Mapping[str, Any]


class Chain(msgspec.Struct):
    """A chain; hook and policy are empty for one that only others jump to."""

    family: str
    table: str
    name: str
    hook: str = ""
    policy: str = ""


class RuleEntry(msgspec.Struct):
    """A rule: its place and its expressions."""

    family: str
    table: str
    chain: str
    expr: list[dict[str, Any]] = []


class Entry(msgspec.Struct):
    """One object of the list; sets, maps and whatever else there is are passed over."""

    chain: Chain | None = None
    rule: RuleEntry | None = None


class Ruleset(msgspec.Struct):
    """What `nft --json list ruleset` prints."""

    nftables: list[Entry]


def rules(listing: bytes) -> Iterator[Rule]:
    """The policies and rules of a listing, in its order. Raises Unavailable if it is none."""
    try:
        entries = msgspec.json.decode(listing, type=Ruleset).nftables
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable(f"nft: its JSON is not understood: {error}") from None
    chains = {(c.family, c.table, c.name): c for entry in entries if (c := entry.chain)}
    for chain in chains.values():
        if chain.hook:
            yield Rule(
                backend="nftables",
                family=chain.family,
                table=chain.table,
                chain=chain.name,
                direction=DIRECTIONS.get(chain.hook, ""),
                policy=True,
                action=chain.policy or "accept",
            )
    for entry in entries:
        if entry.rule:
            yield _rule(entry.rule, chains.get((entry.rule.family, entry.rule.table, entry.rule.chain)))


def _rule(entry: RuleEntry, chain: Chain | None) -> Rule:
    found: dict[str, str] = {}
    others: list[str] = []
    for expression in entry.expr:
        for kind, value in expression.items():
            _take(kind, value, found, others)
    bare = Rule(
        backend="nftables",
        family=entry.family,
        table=entry.table,
        chain=entry.chain,
        direction=DIRECTIONS.get(chain.hook, "") if chain else "",
    )
    return filled(bare, found, others)


def _take(kind: str, value: Any, found: dict[str, str], others: list[str]) -> None:
    """Put one expression where it belongs."""
    if kind == "match" and isinstance(value, Mapping):
        _match(value, found, others)
    elif kind in {"jump", "goto"} and isinstance(value, Mapping):
        found["action"] = f"{kind} {_text(value.get('target'))}"
    elif kind in VERDICTS:
        found["action"] = kind
    elif kind not in SILENT:
        others.append(f"{kind} {_text(value)}".rstrip())


def _match(match: Json, found: dict[str, str], others: list[str]) -> None:
    right = ("!= " if match.get("op") == "!=" else "") + _text(match.get("right"))
    kind, value = _operand(match.get("left"))
    key = _text(value.get("field") or value.get("key"))
    if kind == "payload" and key in PAYLOADS:
        found[PAYLOADS[key]] = right
        if key.endswith("port"):
            found.setdefault("protocol", _text(value.get("protocol")))
    elif key in PROTOCOL_KEYS:
        found["protocol"] = right
    else:
        others.append(f"{kind} {key or _text(value)} {right}")


def _operand(left: Any) -> tuple[str, Json]:
    """What is looked at: `payload`, `meta`, `ct` …, and which part of it."""
    if isinstance(left, Mapping) and left:
        kind, value = next(iter(left.items()))
        return str(kind), value if isinstance(value, Mapping) else {"key": value}
    return "", {"key": left}


def _text(value: Any) -> str:
    """An operand in nft's own manner: `10.0.0.0/8`, `8000-8080`, `22,80`."""
    match value:
        case {"prefix": {"addr": address, "len": length}}:
            return f"{_text(address)}/{length}"
        case {"range": [low, high]}:
            return f"{_text(low)}-{_text(high)}"
        case {"set": members}:
            return _text(members)
        case list():
            return ",".join(_text(member) for member in value)
        case str() | int() | float():
            return str(value)
        case None:
            return ""
    return msgspec.json.encode(value).decode()
