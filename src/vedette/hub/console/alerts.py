"""Alerts: the list, and one of them with what was seen, why it matters and what to do; and their decision."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.alert_query import around_query, evidence_query
from vedette.hub.console.alert_table import STATUS_TONE, alert_table
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.decisions import DECISIONS, bulk, decision
from vedette.hub.console.parts import SEVERITY_TONE, at, count
from vedette.hub.console.rules import rule_at
from vedette.hub.console.suppressions import suppress_button
from vedette.hub.detect.alerts import Alert, AlertError, Status
from vedette.hub.registry.users import Role

PAGE = 100
"""Alerts a page."""

STATUSES = {"Open": "", "Dismissed": "Dismissed", "Resolved": "Resolved", "All": "all"}
SEVERITIES = {"Any severity": "", "High": "High", "Medium": "Medium", "Low": "Low"}


def routes(backend: Backend) -> None:
    """Add the pages."""

    @ui.page("/alerts", response_timeout=30)
    async def alerts(
        request: Request,
        status: str = "",
        severity: str = "",
        device: str = "",
        kind: str = "",
        page: int = 1,
    ) -> None:
        wanted = {"": (Status.ACTIVE, Status.IN_PROGRESS), "all": ()}.get(status, (status,))
        page = max(1, page)
        found = await call(
            lambda: backend.alerts.list(
                status=wanted,
                severity=severity,
                device=device,
                kind=kind,
                limit=PAGE + 1,
                offset=(page - 1) * PAGE,
            )
        )

        def here(**changed: str | int) -> str:
            asked = {"status": status, "severity": severity, "device": device, "kind": kind}
            return at("/alerts", **{**asked, **changed})

        with parts.frame(request, "Alerts", "/alerts") as beside:
            with beside:
                parts.link("Suppressions", at("/suppressions"))
            with parts.panel():
                with parts.block("row"):
                    statuses = {name: here(status=value) for name, value in STATUSES.items()}
                    parts.segments(statuses, next((n for n, v in STATUSES.items() if v == status), ""))
                    severities = {name: here(severity=value) for name, value in SEVERITIES.items()}
                    parts.segments(severities, next((n for n, v in SEVERITIES.items() if v == severity), ""))
                    parts.search("Device", device, lambda text: here(device=text))
                    if kind:
                        parts.badge(kind, "note")
                        parts.link("any type", here(kind=""))
                decides = parts.may(request, Role.ANALYST)
                shown = found[:PAGE]
                chosen = alert_table(shown, selectable=decides)
                if chosen is not None and decides:
                    bulk(backend, request, chosen)
                parts.pages(page, len(found) > PAGE, lambda number: here(page=number))

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
                            decision(backend, request, name, decided, look, lambda: [found.id], found.title)
                    suppress_button(backend, request, found)
            with parts.block("cols wide-left"):
                with parts.block("stack"):
                    _evidence(found)
                with parts.block("stack"):
                    _about(found)


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
            parts.link("Rule", rule_at(alert.rule_id))
            parts.link("Query of this evidence", parts.investigate_at(evidence_query(alert)))
            parts.link("Events around it", parts.investigate_at(around_query(alert)))
    if alert.changes:
        with parts.panel("History"):
            for change in alert.changes:
                parts.text(f"{parts.moment(change.at)} UTC  {change.who}: {change.status}", "dim")
                if change.why:
                    parts.text(change.why)
