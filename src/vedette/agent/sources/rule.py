"""What nftables and iptables have in common: a rule, as a value."""

from __future__ import annotations

from typing import Literal

import msgspec

from vedette.agent.sources.files import MAX_TEXT

Direction = Literal["", "In", "Out", "Forward"]

DIRECTIONS: dict[str, Direction] = {
    "ingress": "In",
    "prerouting": "In",
    "input": "In",
    "forward": "Forward",
    "output": "Out",
    "postrouting": "Out",
    "egress": "Out",
}
"""By netfilter hook, in lower case: so iptables names its chains, too."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, or (policy) what a chain does with packets that no rule decided on.

    A text is empty where the rule does not look at that. action: `accept`, `drop`, `reject`, `jump NAME`,
    or another verdict's name. text: the matches that have no field of their own.
    """

    backend: Literal["nftables", "iptables"]
    family: str
    table: str
    chain: str
    direction: Direction = ""
    policy: bool = False
    action: str = ""
    protocol: str = ""
    source_address: str = ""
    source_port: str = ""
    destination_address: str = ""
    destination_port: str = ""
    text: str = ""


MATCHED = frozenset(
    {"action", "protocol", "source_address", "source_port", "destination_address", "destination_port"}
)
"""Fields that a rule's expressions fill."""


def filled(rule: Rule, found: dict[str, str], others: list[str]) -> Rule:
    """A rule with what its expressions say; each text is cut at MAX_TEXT."""
    fields = {name: value[:MAX_TEXT] for name, value in found.items() if name in MATCHED}
    return msgspec.structs.replace(rule, **fields, text=" ".join(others)[: 2 * MAX_TEXT])
