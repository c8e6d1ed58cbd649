"""Alerts as rows of a table, on the page of alerts and on a device's."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.parts import SEVERITY_TONE, Column, Tone, at, count
from vedette.hub.detect.alerts import Alert

STATUS_TONE: dict[str, Tone] = {"Active": "bad", "InProgress": "warn", "Dismissed": "", "Resolved": "good"}


def alert_table(alerts: Sequence[Alert], *, selectable: bool = False) -> ui.table | None:
    """Show alerts; each row has its id as `alert`."""
    rows = [
        {
            "alert": alert.id,
            "severity": alert.severity,
            "severity_tone": SEVERITY_TONE.get(alert.severity, ""),
            "title": alert.title,
            "title_href": at(f"/alert/{alert.id}"),
            "device": alert.device_id,
            "device_href": parts.device_at(alert.device_id),
            "entity": alert.entity,
            "hits": count(alert.hits),
            "status": alert.status,
            "status_tone": STATUS_TONE.get(alert.status, ""),
            "end": parts.moment(alert.end),
        }
        for alert in alerts
    ]
    columns = (
        Column("severity", "Severity", "badge"),
        Column("title", "Alert", "link"),
        Column("device", "Device", "link"),
        Column("entity", "On", "cut"),
        Column("hits", "Hits", "number"),
        Column("status", "Status", "badge"),
        Column("end", "Last, UTC"),
    )
    return parts.table(columns, rows, empty="No alerts.", selectable=selectable)
