"""What others can reach: open ports, and a packet filter that lets everything pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.orm import Session

from vedette.hub.detect.taxonomy import Observed
from vedette.hub.posture.assess import Assessment, Weakness, of_event
from vedette.hub.posture.snapshots import whole

OPEN_PORTS = Weakness(
    "IoT_OpenPorts",
    "Medium",
    "Open ports on the device",
    "The device waits for connections on addresses that others can reach.",
    "Stop services that are not needed, and bind the others to the loopback or to one interface.",
)
PERMISSIVE_POLICY = Weakness(
    "IoT_PermissiveFirewallPolicy",
    "Medium",
    "The packet filter accepts what no rule decides on",
    "A chain for incoming packets has the policy accept, or there is no packet filter at all.",
    "Set the policy to drop, and allow what is needed by rules.",
)
PERMISSIVE_INPUT = Weakness(
    "IoT_PermissiveInputFirewallRules",
    "Medium",
    "A rule for incoming packets accepts everything",
    "A rule accepts incoming packets from anywhere to any port.",
    "Limit the rule to the addresses, protocols and ports that are needed.",
)
PERMISSIVE_OUTPUT = Weakness(
    "IoT_PermissiveOutputFirewallRules",
    "Medium",
    "A rule for outgoing packets accepts everything",
    "A rule accepts outgoing packets to anywhere and any port.",
    "Limit the rule to the addresses, protocols and ports that are needed.",
)

_LOOPBACK = ("127.", "::1", "::ffff:127.")


def ports(session: Session, event: Observed, now: float) -> Iterator[Assessment]:
    """Whether others can reach a port: all parts of a snapshot together; loopback does not count."""
    ports = event.details.get("Ports") or ()
    reachable = [
        {name: port.get(name) for name in ("Protocol", "LocalAddress", "LocalPort", "Executable")}
        for port in ports
        if not str(port.get("LocalAddress", "")).startswith(_LOOPBACK)
    ]
    parts = whole(session, event, {"ports": reachable}, now)
    if parts is not None:
        yield of_event(OPEN_PORTS, event, "Ports", [port for part in parts for port in part["ports"]])


def firewall(session: Session, event: Observed, now: float) -> Iterator[Assessment]:
    """Whether policies, and rules that ask for nothing, let everything in or out."""
    rules = event.details.get("Rules") or ()
    own = {
        "rules": len(rules),
        "policy": [rule for rule in rules if rule.get("Policy") and _accepts(rule, "In")],
        "input": [rule for rule in rules if _accepts_all(rule, "In")],
        "output": [rule for rule in rules if _accepts_all(rule, "Out")],
    }
    parts = whole(session, event, own, now)
    if parts is None:
        return
    policies = [rule for part in parts for rule in part["policy"]]
    if not sum(part["rules"] for part in parts):
        policies = [{"Chain": "", "Action": "no packet filter"}]
    yield of_event(PERMISSIVE_POLICY, event, "Chains", policies)
    yield of_event(PERMISSIVE_INPUT, event, "Rules", [rule for part in parts for rule in part["input"]])
    yield of_event(PERMISSIVE_OUTPUT, event, "Rules", [rule for part in parts for rule in part["output"]])


def _accepts(rule: Mapping[str, Any], direction: str) -> bool:
    return rule.get("Direction") == direction and rule.get("Action") == "accept"


_MATCHES = (*("Protocol", "SourceAddress", "SourcePort", "DestinationAddress", "DestinationPort"), "Text")


def _accepts_all(rule: Mapping[str, Any], direction: str) -> bool:
    """Whether a rule (no policy) accepts whatever there is: it has nothing to match."""
    return (
        not rule.get("Policy")
        and _accepts(rule, direction)
        and all(rule.get(name) in (None, "", "any", "all", "0.0.0.0/0", "::/0") for name in _MATCHES)
    )
