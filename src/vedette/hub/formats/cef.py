"""ArcSight Common Event Format, version 0 (its specification's revision 25): one line of text a finding.

In the header `|` and `\\` are escaped, in extension values `=`, `\\` and line ends; keys are those of the
extension dictionary, with labelled custom strings for what it does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vedette import __version__
from vedette.hub.detect.alerts import Alert
from vedette.hub.formats.values import PRODUCT, address, millis

if TYPE_CHECKING:
    from vedette.hub.formats import Notable
    from vedette.hub.posture import Recommendation

SEVERITIES = {"High": 8, "Medium": 5, "Low": 3, "Informational": 1}
"""Ours on CEF's scale of 0 to 10, whose bands are Low to 3, Medium to 6, High to 8."""

MAX_MSG = 1_023
"""Characters of `msg`, by the extension dictionary."""

MAX_CUSTOM = 4_000
"""Characters of a custom string, by the extension dictionary."""

_FROM_EVIDENCE = {
    "sproc": "Image",
    "spid": "ProcessId",
    "suser": "User",
    "src": "SourceIp",
    "spt": "SourcePort",
    "dst": "DestinationIp",
    "dpt": "DestinationPort",
    "dhost": "DestinationHostname",
    "proto": "Protocol",
    "filePath": "TargetFilename",
}
_ADDRESSES = frozenset({"src", "dst"})


def finding(one: Notable) -> str:
    """An alert or recommendation as a line."""
    return _alert(one) if isinstance(one, Alert) else _recommendation(one)


def line(signature: str, name: str, severity: str, extension: Mapping[str, object]) -> str:
    """A line; empty values are left out."""
    header = ("CEF:0", PRODUCT, PRODUCT, __version__, signature, name, str(SEVERITIES.get(severity, 0)))
    pairs = [f"{key}={_value(value)}" for key, value in extension.items() if value not in (None, "")]
    return "|".join((header[0], *map(_header, header[1:]), " ".join(pairs)))


def _alert(alert: Alert) -> str:
    seen = alert.evidence[0] if alert.evidence else {}
    known = {key: seen.get(name) for key, name in _FROM_EVIDENCE.items()}
    for key in _ADDRESSES:
        known[key] = address(known[key])
    extension = {
        "externalId": alert.id,
        "cat": "alert",
        "act": alert.status,
        "dvchost": alert.device_id,
        "deviceExternalId": alert.device_id,
        "start": millis(alert.start),
        "end": millis(alert.end),
        "rt": millis(alert.updated),
        "cnt": alert.hits,
        "msg": alert.description[:MAX_MSG],
        **known,
        **_custom(1, "Entity", alert.entity),
        **_custom(2, "ATTACK", ",".join((*alert.techniques, *alert.subtechniques))),
        **_custom(3, "CommandLine", str(seen.get("CommandLine") or "")),
        **_custom(4, "RuleId", alert.rule_id),
    }
    return line(alert.type, alert.title, alert.severity, extension)


def _recommendation(one: Recommendation) -> str:
    extension = {
        "externalId": f"{one.device_id}/{one.name}",
        "cat": "recommendation",
        "act": one.state,
        "dvchost": one.device_id,
        "deviceExternalId": one.device_id,
        "start": millis(one.discovered),
        "rt": millis(one.changed),
        "msg": one.description[:MAX_MSG],
        **_custom(1, "Remediation", one.remediation),
    }
    return line(one.name, one.title, one.severity, extension)


def _custom(place: int, label: str, value: str) -> dict[str, str]:
    return {f"cs{place}Label": label, f"cs{place}": value[:MAX_CUSTOM]} if value else {}


def _header(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


def _value(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace("=", "\\=")
    return "\\n".join(text.splitlines())
