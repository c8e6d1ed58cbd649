"""The fields of ECS 8.17 that our documents use, with their types, and the allowed values of its keywords.

Taken from the field reference and the categorization pages of the Elastic documentation.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
OWN = "vedette"

FIELDS = {
    **dict.fromkeys(("@timestamp", "event.created", "event.start", "event.end"), "date"),
    **dict.fromkeys(
        (
            *("agent.type", "agent.version", "device.id", "device.manufacturer", "device.model.name"),
            *("destination.address", "destination.domain", "dns.answers.data", "dns.question.name"),
            *("dns.question.type", "dns.response_code", "dns.type", "ecs.version", "event.action"),
            *("event.category", "event.code", "event.id", "event.kind", "event.module", "event.original"),
            *("event.outcome", "event.provider", "event.type", "file.directory", "file.name", "file.path"),
            *("host.architecture", "host.id", "host.mac", "host.name", "host.os.full", "host.os.kernel"),
            *("host.os.name", "host.os.type", "network.direction", "network.protocol"),
            *("network.transport", "network.type", "observer.product", "observer.type"),
            *("observer.vendor", "observer.version", "process.command_line", "process.executable"),
            *("process.name", "rule.category", "rule.description", "rule.id", "rule.name", "rule.ruleset"),
            *("source.address", "source.domain", "threat.framework", "threat.tactic.name"),
            *("threat.technique.id", "threat.technique.subtechnique.id", "user.id", "user.name", "message"),
        ),
        "keyword",
    ),
    **dict.fromkeys(
        (
            *("destination.bytes", "destination.port", "event.severity", "network.bytes"),
            *("network.packets", "process.exit_code", "process.parent.pid", "process.pid"),
            *("source.bytes", "source.port"),
        ),
        "long",
    ),
    **dict.fromkeys(("destination.ip", "dns.resolved_ip", "host.ip", "source.ip"), "ip"),
}

ARRAYS = {
    *("event.category", "event.type", "host.ip", "host.mac", "dns.resolved_ip", "dns.answers"),
    *("threat.tactic.name", "threat.technique.id", "threat.technique.subtechnique.id"),
}

KINDS = {"alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"}
OUTCOMES = {"failure", "success", "unknown"}
DIRECTIONS = {"ingress", "egress", "inbound", "outbound", "internal", "external", "unknown"}
EXPECTED_TYPES = {
    "authentication": {"end", "info", "start"},
    "configuration": {"access", "change", "creation", "deletion", "info"},
    "file": {"access", "change", "creation", "deletion", "info"},
    "host": {"access", "change", "end", "info", "start"},
    "intrusion_detection": {"allowed", "denied", "info"},
    "network": {"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"},
    "package": {"access", "change", "deletion", "info", "installation", "start"},
    "process": {"access", "change", "end", "info", "start"},
}
"""`event.category` → the `event.type`s that are expected with it."""


def problems(document: dict[str, Any]) -> list[str]:
    """What is wrong with a document; empty if nothing is."""
    found = [text for key, value in document.items() if key != OWN for text in _field(key, value)]
    event = document["event"]
    found += [f"{name}: missing" for name in ("@timestamp", "ecs", "event") if name not in document]
    if event["kind"] not in KINDS:
        found.append(f"event.kind: {event['kind']}")
    if event.get("outcome", "unknown") not in OUTCOMES:
        found.append(f"event.outcome: {event['outcome']}")
    if document.get("network", {}).get("direction", "unknown") not in DIRECTIONS:
        found.append("network.direction")
    for category in event["category"]:
        unexpected = set(event["type"]) - EXPECTED_TYPES.get(category, set())
        found += [f"event.type: {kind} is not expected with {category}" for kind in unexpected]
    return found


def _field(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _field(f"{path}.{key}", inner)
    elif isinstance(value, list):
        if path not in ARRAYS:
            yield f"{path}: a list"
        for item in value:
            if isinstance(item, dict):
                yield from _field(path, item)
            else:
                yield from _scalar(path, item)
    else:
        yield from _scalar(path, value)


def _scalar(path: str, value: Any) -> Iterator[str]:
    kind = FIELDS.get(path)
    if kind is None:
        yield f"{path}: not a field of ECS"
    elif kind == "long":
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"{path}: {value!r} is no number"
    elif not isinstance(value, str):
        yield f"{path}: {value!r} is no text"
    elif kind == "date" and not DATE.fullmatch(value):
        yield f"{path}: {value!r} is no time"
    elif kind == "ip":
        ipaddress.ip_address(value)
