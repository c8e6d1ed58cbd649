"""OCSF, the Open Cybersecurity Schema Framework, version 1.7.0: findings.

An alert is a Detection Finding (2004), a recommendation a Compliance Finding (2003). Ids of classes and
enumerations are the schema's; tests hold every rule's alerts against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vedette import __version__
from vedette.hub.detect.alerts import Alert
from vedette.hub.formats.values import PRODUCT, address, base_name, known, millis, number
from vedette.hub.posture import ACTIVE

if TYPE_CHECKING:
    from vedette.hub.formats import Notable
    from vedette.hub.posture import Recommendation

VERSION = "1.7.0"
IOT = 7
"""Type of a device: IOT."""

SEVERITIES = {"High": 4, "Medium": 3, "Low": 2, "Informational": 1}
_CREATE, _UPDATE, _CLOSE = 1, 2, 3
_STATUSES = {"Active": (1, "New"), "InProgress": (2, "In Progress")}
_STATUSES |= {"Dismissed": (3, "Suppressed"), "Resolved": (4, "Resolved")}
_RULE = 1


def finding(one: Notable) -> dict[str, Any]:
    """An alert or recommendation as a finding."""
    return _detection(one) if isinstance(one, Alert) else _compliance(one)


def base(class_uid: int, activity: int, *, time: float, uid: str, device: str, **more: Any) -> dict[str, Any]:
    """What every event of OCSF has; `more` is added where it is known."""
    return {
        "class_uid": class_uid,
        "category_uid": class_uid // 1000,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "time": millis(time),
        "metadata": metadata(uid),
        "device": {"type_id": IOT, "type": "IOT", "uid": device},
        **known(**more),
    }


def metadata(uid: str) -> dict[str, Any]:
    """`metadata`: the schema's version, who made it, and the id of the event."""
    product = {"name": PRODUCT, "vendor_name": PRODUCT, "version": __version__}
    return {"version": VERSION, "product": product, "profiles": ["host"], **known(uid=uid)}


def _detection(alert: Alert) -> dict[str, Any]:
    status_id, status = _STATUSES[alert.status]
    activity = {1: _CREATE, 2: _UPDATE}.get(status_id, _CLOSE)
    return base(
        2004,
        activity,
        time=alert.updated,
        uid=f"{alert.id}:{millis(alert.updated)}",
        device=alert.device_id,
        severity_id=SEVERITIES.get(alert.severity, 0),
        severity=alert.severity,
        status_id=status_id,
        status=status,
        message=f"{alert.title} on {alert.device_id}",
        count=alert.hits,
        start_time=millis(alert.start),
        end_time=millis(alert.end),
        is_alert=True,
        finding_info=_info(alert),
        evidences=[_evidence(seen) for seen in alert.evidence],
        remediation=known(desc="\n".join(alert.remediation)),
        resources=[known(uid=alert.device_id, type="Device", name=alert.entity)],
    )


def _info(alert: Alert) -> dict[str, Any]:
    return known(
        uid=alert.id,
        title=alert.title,
        desc=alert.description,
        types=[alert.type],
        created_time=millis(alert.created),
        modified_time=millis(alert.updated),
        first_seen_time=millis(alert.start),
        last_seen_time=millis(alert.end),
        analytic={"type_id": _RULE, "type": "Rule", "name": alert.title, "uid": alert.rule_id},
        attacks=list(_attacks(alert)),
        related_events_count=alert.count,
    )


def _attacks(alert: Alert) -> list[dict[str, Any]]:
    """Techniques one each with all tactics: a rule does not say which belongs to which."""
    tactics = [{"name": tactic} for tactic in alert.tactics]
    told = [{"technique": {"uid": uid}} for uid in alert.techniques]
    told += [
        {"technique": {"uid": uid.partition(".")[0]}, "sub_technique": {"uid": uid}}
        for uid in alert.subtechniques
    ]
    if not told:
        return [{"tactic": tactic} for tactic in tactics]
    return [known(**one, tactics=tactics) for one in told]


def _evidence(seen: Mapping[str, Any]) -> dict[str, Any]:
    """What was seen, as it is (`data`), and what of it the schema has words for."""
    line = str(seen.get("CommandLine") or "")
    path = str(seen.get("TargetFilename") or "")
    query = str(seen.get("QueryName") or "")
    return known(
        data=dict(seen),
        process=known(cmd_line=line, uid=str(seen.get("IoTRawEventId") or "")) if line else None,
        user=known(name=str(seen.get("User") or "")),
        src_endpoint=endpoint(seen.get("SourceIp"), seen.get("SourcePort")),
        dst_endpoint=endpoint(seen.get("DestinationIp"), seen.get("DestinationPort")),
        file={"path": path, "name": base_name(path), "type_id": 0} if path else None,
        query={"hostname": query} if query else None,
    )


def endpoint(ip: Any, port: Any = None, hostname: Any = None) -> dict[str, Any]:
    """An end of a connection; empty if neither its address nor its name is known."""
    ip = address(ip)
    return known(ip=ip, port=number(port), hostname=hostname) if ip or hostname else {}


def _compliance(one: Recommendation) -> dict[str, Any]:
    active = one.state == ACTIVE
    return base(
        2003,
        _CREATE if active else _CLOSE,
        time=one.changed,
        uid=f"{one.device_id}/{one.name}:{millis(one.changed)}",
        device=one.device_id,
        severity_id=SEVERITIES.get(one.severity, 0),
        severity=one.severity,
        status_id=1 if active else 4,
        status="New" if active else "Resolved",
        message=f"{one.title} on {one.device_id}",
        finding_info=known(
            uid=f"{one.device_id}/{one.name}",
            title=one.title,
            desc=one.description,
            types=[one.name],
            created_time=millis(one.first),
            modified_time=millis(one.changed),
            first_seen_time=millis(one.discovered),
            last_seen_time=millis(one.evaluated),
        ),
        compliance=known(
            control=one.name,
            status_id=3 if active else 1,
            status="Fail" if active else "Pass",
            standards=["CIS Distribution Independent Linux"] if "CISBenchmarks" in one.name else [],
        ),
        remediation=known(desc=one.remediation),
        resources=[{"uid": one.device_id, "type": "Device"}],
        unmapped=one.data,
    )
