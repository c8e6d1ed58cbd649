"""Alerts and recommendations as the documented tables `SecurityAlert` and `SecurityRecommendation`.

They live in the registry database; a query that names one of the tables gets its rows as they are then.
The columns themselves are declared in `lake.duckdb`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from vedette.hub.detect.schema import AlertRow, Database, RecommendationRow
from vedette.wire.iothub import Identity

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 100_000
"""Rows of each table that a query sees, the newest: 100 MB while it runs."""

PRODUCT = "Vedette"

Findings = Mapping[str, Callable[[], "pa.Table"]]
"""Table name → its rows now."""


def findings(database: Database) -> Findings:
    """The tables over a registry database."""
    return {
        "SecurityAlert": partial(_table, database, _alerts),
        "SecurityRecommendation": partial(_table, database, _recommendations),
    }


def _table(database: Database, rows: Callable[[Database], list[dict[str, Any]]]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows(database))


def _alerts(database: Database) -> list[dict[str, Any]]:
    with database.read.begin() as session:
        newest = select(AlertRow).order_by(AlertRow.created.desc()).limit(MAX_ROWS)
        return [_alert(row) for row in session.scalars(newest)]


def _recommendations(database: Database) -> list[dict[str, Any]]:
    with database.read.begin() as session:
        newest = select(RecommendationRow).order_by(RecommendationRow.changed.desc()).limit(MAX_ROWS)
        return [_recommendation(row) for row in session.scalars(newest)]


def _alert(row: AlertRow) -> dict[str, Any]:
    evidence = json.loads(row.evidence)
    return {
        "AlertLink": f"vedette alerts show {row.id}",
        "AlertName": row.title,
        "AlertSeverity": row.severity,
        "AlertType": row.type,
        "CompromisedEntity": row.device_id,
        "ConfidenceLevel": "",
        "ConfidenceScore": None,
        "Description": row.description,
        "DisplayName": row.title,
        "EndTime": _time(row.end),
        "Entities": json.dumps([{"Type": "iotdevice", "DeviceId": row.device_id, "Entity": row.entity}]),
        "ExtendedLinks": "",
        "ExtendedProperties": json.dumps(_properties(row, evidence), ensure_ascii=False),
        "IsIncident": False,
        "ProcessingEndTime": _time(row.updated),
        "ProductComponentName": "Detection",
        "ProductName": PRODUCT,
        "ProviderName": PRODUCT,
        "RemediationSteps": row.remediation,
        "ResourceId": row.device_id,
        "SourceComputerId": row.device_id,
        "StartTime": _time(row.start),
        "Status": row.status,
        "SubTechniques": row.subtechniques,
        "SystemAlertId": row.id,
        "Tactics": ", ".join(json.loads(row.tactics)),
        "Techniques": row.techniques,
        "TimeGenerated": _time(row.created),
        "VendorName": PRODUCT,
        "VendorOriginalId": row.rule_id,
        "WorkspaceResourceGroup": "",
        "WorkspaceSubscriptionId": "",
    }


def _properties(row: AlertRow, evidence: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """ExtendedProperties: who and how often, the window and hit count as ExtraDetails, what was seen."""
    return {
        "DeviceId": row.device_id,
        "ModuleId": row.module_id,
        "Entity": row.entity,
        "Count": row.count,
        "ExtraDetails": {
            "StartTimeUtc": _text(row.start),
            "EndTimeUtc": _text(row.end),
            "HitCount": row.hits,
        },
        "Evidence": evidence,
    }


def _recommendation(row: RecommendationRow) -> dict[str, Any]:
    return {
        "AssessedResourceId": Identity(row.device_id, row.module_id).client_id,
        "Description": row.description,
        "DeviceId": row.device_id,
        "DiscoveredTimeUTC": _time(row.discovered),
        "Environment": "IoT",
        "FirstEvaluationDate": _time(row.first),
        "IsSnapshot": False,
        "PolicyDefinitionId": "",
        "Properties": json.dumps({"RemediationSteps": row.remediation}, ensure_ascii=False),
        "ProviderName": PRODUCT,
        "RecommendationAdditionalData": row.data,
        "RecommendationDisplayName": row.title,
        "RecommendationId": f"{row.device_id}/{row.name}",
        "RecommendationName": row.name,
        "RecommendationSeverity": row.severity,
        "RecommendationState": row.state,
        "ResolvedTimeUTC": None if row.resolved is None else _time(row.resolved),
        "ResourceRegion": "",
        "StatusChangeDate": _time(row.changed),
        "TimeGenerated": _time(row.updated),
    }


def _time(seconds: float) -> datetime:
    """A time as the query engine has them: UTC without saying so."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _text(seconds: float) -> str:
    return _time(seconds).isoformat(timespec="milliseconds") + "Z"
