"""The questions that lead from an alert to what the lake holds of it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from vedette.hub.console.questions import kql_quoted
from vedette.hub.detect.alerts import Alert

AROUND = "5m"
"""What is shown before and after an alert's events."""


def evidence_query(alert: Alert) -> str:
    """The events that the alert shows as evidence; those of its device at its time where it shows none."""
    ids = [str(seen["IoTRawEventId"]) for seen in alert.evidence if seen.get("IoTRawEventId")]
    if not ids:
        return around_query(alert)
    listed = ", ".join(map(kql_quoted, dict.fromkeys(ids)))
    return (
        f"SecurityIoTRawEvent\n| where DeviceId == {kql_quoted(alert.device_id)}"
        f" and IoTRawEventId in ({listed})\n| order by TimeStamp asc"
    )


def around_query(alert: Alert) -> str:
    """What else the device did about that time."""
    return (
        f"SecurityIoTRawEvent\n| where DeviceId == {kql_quoted(alert.device_id)} and TimeStamp between"
        f" ({_time(alert.start)} - {AROUND} .. {_time(alert.end)} + {AROUND})\n| order by TimeStamp asc"
    )


def _time(at: float) -> str:
    return f"datetime({datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ})"
