"""ECS, the Elastic Common Schema, version 8.17: alerts and recommendations.

What the schema has no field for stands below `vedette`, as it asks of custom fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vedette import __version__
from vedette.hub.detect.alerts import Alert
from vedette.hub.formats.values import PRODUCT, address, base_name, known, number
from vedette.hub.posture import ACTIVE
from vedette.wire.declare import utc_text

if TYPE_CHECKING:
    from vedette.hub.formats import Notable
    from vedette.hub.posture import Recommendation

VERSION = "8.17.0"

SEVERITIES = {"High": 73, "Medium": 47, "Low": 21, "Informational": 1}
"""Ours as `event.severity`, with the numbers that Elastic's own detections use."""

_CATEGORIES = {
    "Process": ("process",),
    "ProcessCreate": ("process",),
    "NetworkActivity": ("network",),
    "ConnectionCreate": ("network",),
    "DNS": ("network",),
    "Login": ("authentication",),
    "FileSystem": ("file",),
    "Peripheral": ("host",),
}


def finding(one: Notable) -> dict[str, Any]:
    """An alert or recommendation as a document."""
    return _alert(one) if isinstance(one, Alert) else _recommendation(one)


def base(device: str, at: float, event: Mapping[str, Any]) -> dict[str, Any]:
    """What every document has."""
    return {
        "@timestamp": utc_text(at),
        "ecs": {"version": VERSION},
        "event": {"module": "vedette", "provider": PRODUCT, **event},
        "observer": {"vendor": PRODUCT, "product": PRODUCT, "version": __version__, "type": "agent"},
        "host": {"id": device, "name": device},
    }


def end(ip: Any, port: Any = None, **more: Any) -> dict[str, Any]:
    """`source` or `destination`; `address` holds what was given, even if it is no IP address."""
    return known(address=ip and str(ip), ip=address(ip), port=number(port), **more)


def user(name: Any, uid: Any) -> dict[str, Any]:
    """`user`, as far as it is known."""
    return known(name=name, id=None if uid is None else str(uid))


def _alert(alert: Alert) -> dict[str, Any]:
    seen = alert.evidence[0] if alert.evidence else {}
    told = {
        "kind": "alert",
        "id": alert.id,
        "code": alert.type,
        "action": alert.status,
        "severity": SEVERITIES.get(alert.severity, 0),
        "category": list(_CATEGORIES.get(str(seen.get("RawEventName")), ("intrusion_detection",))),
        "type": ["info"],
        "created": utc_text(alert.created),
        "start": utc_text(alert.start),
        "end": utc_text(alert.end),
    }
    threat = known(
        tactic=known(name=list(alert.tactics)),
        technique=known(id=list(alert.techniques), subtechnique=known(id=list(alert.subtechniques))),
    )
    return base(alert.device_id, alert.updated, told) | known(
        message=f"{alert.title} on {alert.device_id}",
        rule=known(
            id=alert.rule_id,
            name=alert.title,
            description=alert.description,
            category=alert.type,
            ruleset=PRODUCT,
        ),
        threat=known(framework="MITRE ATT&CK", **threat) if threat else None,
        **_seen(seen),
        vedette=known(
            severity=alert.severity,
            module_id=alert.module_id,
            entity=alert.entity,
            event_count=alert.count,
            hit_count=alert.hits,
            remediation=list(alert.remediation),
            evidence=list(alert.evidence),
        ),
    )


def _seen(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the first thing that was seen."""
    path = str(seen.get("TargetFilename") or "")
    return known(
        process=known(command_line=seen.get("CommandLine"), executable=seen.get("Image")),
        user=user(seen.get("User"), seen.get("UserId")),
        source=end(seen.get("SourceIp"), seen.get("SourcePort")),
        destination=end(seen.get("DestinationIp"), seen.get("DestinationPort")),
        file=known(path=path, name=base_name(path)) if path else None,
        dns=known(question=known(name=seen.get("QueryName"))),
    )


def _recommendation(one: Recommendation) -> dict[str, Any]:
    told = {
        "kind": "state",
        "id": f"{one.device_id}/{one.name}",
        "code": one.name,
        "action": one.state,
        "severity": SEVERITIES.get(one.severity, 0),
        "category": ["configuration"],
        "type": ["info"],
        "outcome": "failure" if one.state == ACTIVE else "success",
        "created": utc_text(one.first),
        "start": utc_text(one.discovered),
    }
    return base(one.device_id, one.changed, told) | known(
        message=f"{one.title} on {one.device_id}",
        rule=known(name=one.title, description=one.description, category=one.name, ruleset=PRODUCT),
        vedette=known(severity=one.severity, remediation=one.remediation, data=one.data),
    )
