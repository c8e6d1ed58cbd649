"""Rows of the documented tables `SecurityAlert` and `SecurityRecommendation`, as Microsoft Sentinel has them.

The same rows stand in the hub's own tables (`hub.findings`); there a time is a value, here it is text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.hub.detect.alerts import Alert
from vedette.hub.formats.values import PRODUCT
from vedette.wire.declare import utc_text
from vedette.wire.iothub import Identity

if TYPE_CHECKING:
    from vedette.hub.formats import Notable
    from vedette.hub.posture import Recommendation


def finding(one: Notable) -> dict[str, Any]:
    """A row with its times as text and its table in `Type`."""
    row = security_alert(one) if isinstance(one, Alert) else security_recommendation(one)
    text = {
        name: utc_text(value.replace(tzinfo=UTC).timestamp())
        for name, value in row.items()
        if isinstance(value, datetime)
    }
    return row | text | {"Type": "SecurityAlert" if isinstance(one, Alert) else "SecurityRecommendation"}


def security_alert(alert: Alert) -> dict[str, Any]:
    """A row of `SecurityAlert`."""
    return {
        "AlertLink": f"vedette alerts show {alert.id}",
        "AlertName": alert.title,
        "AlertSeverity": alert.severity,
        "AlertType": alert.type,
        "CompromisedEntity": alert.device_id,
        "ConfidenceLevel": "",
        "ConfidenceScore": None,
        "Description": alert.description,
        "DisplayName": alert.title,
        "EndTime": _time(alert.end),
        "Entities": _json([{"Type": "iotdevice", "DeviceId": alert.device_id, "Entity": alert.entity}]),
        "ExtendedLinks": "",
        "ExtendedProperties": _json(_properties(alert)),
        "IsIncident": False,
        "ProcessingEndTime": _time(alert.updated),
        "ProductComponentName": "Detection",
        "ProductName": PRODUCT,
        "ProviderName": PRODUCT,
        "RemediationSteps": _json(alert.remediation),
        "ResourceId": alert.device_id,
        "SourceComputerId": alert.device_id,
        "StartTime": _time(alert.start),
        "Status": alert.status,
        "SubTechniques": _json(alert.subtechniques),
        "SystemAlertId": alert.id,
        "Tactics": ", ".join(alert.tactics),
        "Techniques": _json(alert.techniques),
        "TimeGenerated": _time(alert.created),
        "VendorName": PRODUCT,
        "VendorOriginalId": alert.rule_id,
        "WorkspaceResourceGroup": "",
        "WorkspaceSubscriptionId": "",
    }


def _properties(alert: Alert) -> dict[str, Any]:
    """ExtendedProperties: who and how often, the window and hit count as ExtraDetails, what was seen."""
    return {
        "DeviceId": alert.device_id,
        "ModuleId": alert.module_id,
        "Entity": alert.entity,
        "Count": alert.count,
        "ExtraDetails": {
            "StartTimeUtc": utc_text(alert.start),
            "EndTimeUtc": utc_text(alert.end),
            "HitCount": alert.hits,
        },
        "Evidence": alert.evidence,
    }


def security_recommendation(one: Recommendation) -> dict[str, Any]:
    """A row of `SecurityRecommendation`."""
    return {
        "AssessedResourceId": Identity(one.device_id, one.module_id).client_id,
        "Description": one.description,
        "DeviceId": one.device_id,
        "DiscoveredTimeUTC": _time(one.discovered),
        "Environment": "IoT",
        "FirstEvaluationDate": _time(one.first),
        "IsSnapshot": False,
        "PolicyDefinitionId": "",
        "Properties": _json({"RemediationSteps": one.remediation}),
        "ProviderName": PRODUCT,
        "RecommendationAdditionalData": _json(one.data),
        "RecommendationDisplayName": one.title,
        "RecommendationId": f"{one.device_id}/{one.name}",
        "RecommendationName": one.name,
        "RecommendationSeverity": one.severity,
        "RecommendationState": one.state,
        "ResolvedTimeUTC": None if one.resolved is None else _time(one.resolved),
        "ResourceRegion": "",
        "StatusChangeDate": _time(one.changed),
        "TimeGenerated": _time(one.updated),
    }


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _time(seconds: float) -> datetime:
    """A time as the query engine has them: UTC without saying so."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
