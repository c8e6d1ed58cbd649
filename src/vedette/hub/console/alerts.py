"""Alerts: the list, and one of them with what was seen, why it matters and what to do; and their decision."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.alert_table import STATUS_TONE, alert_table
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import SEVERITY_TONE, at, count
from vedette.hub.detect.alerts import Alert, AlertError, Status
from vedette.hub.registry.users import Role

MAX_ALERTS = 200
"""Alerts that the list shows: the newest. What is older is found by filter, or by query."""

MAX_REASON = 500
"""Characters of the reason for a decision."""

STATUSES = {"Open": "", "Dismissed": "Dismissed", "Resolved": "Resolved", "All": "all"}
SEVERITIES = {"Any severity": "", "High": "High", "Medium": "Medium", "Low": "Low"}

DECISIONS = (
    ("Take up", Status.IN_PROGRESS, "outline"),
    ("Dismiss", Status.DISMISSED, "outline"),
    ("Resolve", Status.RESOLVED, "unelevated"),
)


def routes(backend: Backend) -> None:
    """Add the pages."""

    @ui.page("/alerts", response_timeout=30)
    async def alerts(
        request: Request, status: str = "", severity: str = "", device: str = "", kind: str = ""
    ) -> None:
        wanted = {"": (Status.ACTIVE, Status.IN_PROGRESS), "all": ()}.get(status, (status,))
        found = await call(
            lambda: backend.alerts.list(
                status=wanted, severity=severity, device=device, kind=kind, limit=MAX_ALERTS
            )
        )

        def here(**changed: str) -> str:
            return at(
                "/alerts",
                **{"status": status, "severity": severity, "device": device, "kind": kind, **changed},
            )

        with parts.frame(request, "Alerts", "/alerts") as beside:
            with beside:
                parts.text(f"{count(len(found))} shown", "dim num")
            with parts.panel():
                with parts.block("row"):
                    statuses = {name: here(status=value) for name, value in STATUSES.items()}
                    parts.segments(statuses, next((n for n, v in STATUSES.items() if v == status), ""))
                    severities = {name: here(severity=value) for name, value in SEVERITIES.items()}
                    parts.segments(severities, next((n for n, v in SEVERITIES.items() if v == severity), ""))
                    parts.search("Device", device, lambda text: here(device=text))
                alert_table(found)

    @ui.page("/alert/{alert_id}", response_timeout=30)
    async def alert(request: Request, alert_id: str) -> None:
        try:
            found = await call(lambda: backend.alerts.get(alert_id))
        except AlertError as error:
            with parts.frame(request, "Alert", "/alerts"):
                parts.text(str(error), "empty")
            return
        with parts.frame(request, found.title, "/alerts") as beside:
            with beside:
                parts.badge(found.severity, SEVERITY_TONE.get(found.severity, ""))
                parts.badge(found.status, STATUS_TONE.get(found.status, ""))
                if parts.may(request, Role.ANALYST):
                    for name, decided, look in DECISIONS:
                        if found.status != decided:
                            _decision(backend, request, found, name, decided, look)
            with parts.block("cols wide-left"):
                with parts.block("stack"):
                    _evidence(found)
                with parts.block("stack"):
                    _about(found)


def _decision(
    backend: Backend, request: Request, alert: Alert, name: str, decided: Status, look: str
) -> None:
    with ui.dialog() as dialog, ui.card():
        parts.text(f"{name}: {alert.title}").style("font-weight: 600")
        why = ui.textarea("Why").props(f"outlined dense maxlength={MAX_REASON}").classes("full-width")

        async def decide(*_: object) -> None:
            user = await backend.demand(request, Role.ANALYST)
            reason = (why.value or "").strip()[:MAX_REASON]
            await call(lambda: backend.alerts.set_status(alert.id, decided, who=user.name, why=reason))
            ui.navigate.reload()

        with parts.block("row"):
            ui.button(name, on_click=parts.guarded(decide)).props("unelevated dense").style(
                "padding: 3px 14px"
            )
            ui.button("Cancel", on_click=dialog.close).props("flat dense")
    ui.button(name, on_click=dialog.open).props(f"{look} dense").style("padding: 2px 12px")


def _evidence(alert: Alert) -> None:
    with parts.panel(
        "What was seen", f"The first of {count(alert.count)} events, {count(alert.hits)} observations."
    ):
        for finding in alert.evidence:
            parts.text(_readable(finding), "code").style("margin-bottom: 8px")
        if not alert.evidence:
            parts.text("The rule keeps no facts; see the events.", "empty")
    with parts.panel("What to do"):
        for step in alert.remediation:
            parts.text(step).style("margin-bottom: 6px")


def _readable(finding: dict[str, Any]) -> str:
    return "\n".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in finding.items()
    )


def _about(alert: Alert) -> None:
    with parts.panel("Why it matters"):
        parts.text(alert.description).style("margin-bottom: 10px")
        parts.facts(
            [
                ("Type", alert.type),
                ("On", alert.entity),
                ("First", f"{parts.moment(alert.start)} UTC"),
                ("Last", f"{parts.moment(alert.end)} UTC"),
                ("Tactics", ", ".join(alert.tactics)),
                ("Techniques", ", ".join((*alert.techniques, *alert.subtechniques))),
                ("Alert", alert.id),
            ]
        )
        with parts.block("row").style("margin-top: 10px"):
            parts.link(f"Device {alert.device_id}", parts.device_at(alert.device_id))
            begin, end = (
                parts.moment(alert.start).replace(" ", "T"),
                parts.moment(alert.end).replace(" ", "T"),
            )
            device = alert.device_id.replace("\\", "\\\\").replace("'", "\\'")
            parts.link(
                "Events around it",
                parts.investigate_at(
                    f"SecurityIoTRawEvent\n| where DeviceId == '{device}' and TimeStamp between"
                    f" (datetime({begin}Z) - 5m .. datetime({end}Z) + 5m)\n| order by TimeStamp asc"
                ),
            )
    if alert.changes:
        with parts.panel("History"):
            for change in alert.changes:
                parts.text(f"{parts.moment(change.at)} UTC  {change.who}: {change.status}", "dim")
                if change.why:
                    parts.text(change.why)
