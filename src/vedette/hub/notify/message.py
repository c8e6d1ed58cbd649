"""What a message says: one finding as it is, or a digest of those that gathered, within bounds.

A digest counts all of them, by severity and type, and shows the gravest. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from vedette.hub.detect.alerts import EVIDENCE, Alert
from vedette.hub.formats import FINDINGS, Notable, cef
from vedette.hub.notify.routes import Route, grade
from vedette.wire.declare import utc_text

SHOWN = 50
"""Findings that a digest shows; who wants every one of them asks for no window."""

TYPES_SHOWN = 20

BYTES: Mapping[str, int] = {"webhook": 262_144, "mail": 262_144, "mqtt": 131_072, "syslog": 65_536}
"""Of a body. MQTT: what the large public brokers take; the others: what their servers take unasked."""

UDP_BYTES = 8_000
"""Of a syslog message in a datagram: rsyslog's own limit is 8,192; RFC 5424 asks for 2,048 at least."""


class Item(NamedTuple):
    """A finding by what counts: it need not be there any more. at: Unix seconds."""

    severity: str
    type: str
    device_id: str
    at: float


class Message(msgspec.Struct, frozen=True):
    """A message that is ready to be sent. id: the same each time that it is sent."""

    id: str
    title: str
    severity: str
    body: str


def compose(route: Route, identifier: str, items: Sequence[Item], found: Sequence[Notable]) -> Message:
    """The message of a route about items, of which those in `found` can be shown."""
    target = route.target
    limit = UDP_BYTES if target.kind.udp else BYTES[target.kind.way]
    shown = sorted(found, key=lambda one: -grade(one.severity))[:SHOWN]
    title = _title(items, shown)
    if target.kind.way == "mail":
        body = _mail(title, items, shown)
    elif route.window == 0 and len(items) == 1 and shown:
        body = _single(route, shown[0], limit)
    else:
        body = _digest(route, identifier, items, shown, limit)
    return Message(identifier, title, _worst(items), body)


def _title(items: Sequence[Item], shown: Sequence[Notable]) -> str:
    if len(items) == 1 and shown:
        return f"{shown[0].severity}: {shown[0].title} on {shown[0].device_id}"
    devices = {item.device_id for item in items}
    return f"{len(items)} findings on {len(devices)} device{'s' if len(devices) > 1 else ''}"


def _single(route: Route, one: Notable, limit: int) -> str:
    """A finding, with as much of its evidence as fits."""
    for kept in (EVIDENCE, 1, 0):
        body = _text(FINDINGS[route.form](_reduced(one, kept)))
        if len(body.encode()) <= limit:
            break
    return body


def _reduced(one: Notable, evidence: int) -> Notable:
    if isinstance(one, Alert):
        return msgspec.structs.replace(one, evidence=one.evidence[:evidence])
    return one if evidence else msgspec.structs.replace(one, data={})


def _digest(
    route: Route, identifier: str, items: Sequence[Item], shown: Sequence[Notable], limit: int
) -> str:
    """Counts and findings. As JSON one object; in CEF a line each, behind one that counts."""
    counts = _counts(items)
    if route.form == "cef":
        lines = [cef.line("VedetteDigest", _title(items, ()), _worst(items), _cef_counts(identifier, counts))]
        return "\n".join((*lines, *(_single(route, one, limit) for one in shown)))
    head = {"id": identifier, "route": route.name, **counts}
    findings: list[msgspec.Raw] = []
    room = limit - len(_text(head | {"omitted": len(items), "findings": []}).encode())
    for one in shown:
        text = _text(FINDINGS[route.form](_reduced(one, 1))).encode()
        room -= len(text) + 1
        if room < 0:
            break
        findings.append(msgspec.Raw(text))
    return _text(head | {"omitted": len(items) - len(findings), "findings": findings})


def _counts(items: Sequence[Item]) -> dict[str, Any]:
    times = [item.at for item in items]
    return {
        "count": len(items),
        "devices": len({item.device_id for item in items}),
        "first": utc_text(min(times)),
        "last": utc_text(max(times)),
        "severities": dict(Counter(item.severity for item in items)),
        "types": dict(Counter(item.type for item in items).most_common(TYPES_SHOWN)),
    }


def _worst(items: Sequence[Item]) -> str:
    return max((item.severity for item in items), key=grade)


def _cef_counts(identifier: str, counts: Mapping[str, Any]) -> dict[str, object]:
    return {
        "externalId": identifier,
        "cat": "digest",
        "cnt": counts["count"],
        "msg": ", ".join(f"{kind}: {number}" for kind, number in counts["types"].items()),
        "cs1Label": "Devices",
        "cs1": counts["devices"],
    }


def _mail(title: str, items: Sequence[Item], shown: Sequence[Notable]) -> str:
    """A text for people."""
    lines = [title, ""]
    if len(items) > 1:
        counts = _counts(items)
        for heading in ("severities", "types"):
            lines += [f"{name}: {number}" for name, number in counts[heading].items()] + [""]
    for one in shown:
        lines += [f"{one.severity}: {one.title} on {one.device_id}", f"  {one.description}"]
        lines += _seen(one) if isinstance(one, Alert) else [f"  What to do: {one.remediation}"]
        lines.append("")
    if len(shown) < len(items):
        lines.append(f"{len(items) - len(shown)} more are not shown.")
    return "\n".join(lines)


def _seen(alert: Alert) -> list[str]:
    lines = [f"  {utc_text(alert.start)} to {utc_text(alert.end)}, {alert.hits} times"]
    lines += [f"  Seen: {_text(alert.evidence[0])}"] if alert.evidence else []
    lines += [f"  What to do: {step}" for step in alert.remediation]
    return [*lines, f"  More: vedette alerts show {alert.id}"]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
