"""Recommendations: what is weak and where; and the latest scan of each device, by check and by device."""

from __future__ import annotations

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.overview_query import LATEST_SCAN
from vedette.hub.console.parts import SEVERITY_TONE, Column, at, count
from vedette.hub.console.questions import containing, quoted

_VIEWS = {"What to improve": "cause", "Checks": "check", "Devices": "device"}

SHOWN = 400
"""Checks or devices of one page: there are 237 checks."""

_BY_CHECK = """SELECT regexp_extract(BaselineCheckId, '[^-]*$') AS Number,
any_value(BaselineCheckSeverity) AS Severity, any_value(BaselineCheckDescription) AS Description,
any_value(BaselineCheckRemediation) AS Remediation,
count(DISTINCT DeviceId) AS Devices, min(DeviceId) AS Example
FROM results WHERE BaselineCheckResult = 'FAIL' AND {where} GROUP BY Number
ORDER BY list_position(['Critical', 'Important', 'Warning', 'Informational'], Severity), Devices DESC, Number
LIMIT {shown}"""

_BY_DEVICE = """SELECT DeviceId, count(*) FILTER (BaselineCheckResult = 'PASS') AS Passed,
count(*) FILTER (BaselineCheckResult = 'FAIL') AS Failed, count(*) FILTER (
BaselineCheckResult = 'FAIL' AND BaselineCheckSeverity IN ('Critical', 'Important')) AS Grave,
max(TimeStamp) AS Scanned FROM results WHERE {where} GROUP BY DeviceId
ORDER BY Grave DESC, Failed DESC LIMIT {shown}"""


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/recommendations", response_timeout=30)
    async def recommendations(
        request: Request, by: str = "cause", q: str = "", severity: str = "", name: str = ""
    ) -> None:
        by = by if by in _VIEWS.values() else "cause"

        def here(**changed: str) -> str:
            return at("/recommendations", **{"by": by, "q": q, "severity": severity, **changed})

        with parts.frame(request, "Recommendations", "/recommendations") as beside:
            with beside:
                views = {label: at("/recommendations", by=view) for label, view in _VIEWS.items()}
                parts.segments(views, next(label for label, view in _VIEWS.items() if view == by))
            if name:
                await _one(backend, name[:256])
                return
            if by == "cause":
                await _causes(backend)
                return
            with parts.panel("", "Security baseline: the latest scan of every device."):
                with parts.block("row"):
                    parts.search("Search", q, lambda text: here(q=text))
                    if by == "check":
                        names = ("", "Critical", "Important", "Warning", "Informational")
                        parts.segments({n or "All": here(severity=n) for n in names}, severity or "All")
                await (_checks if by == "check" else _devices)(backend, q[:128], severity)


async def _causes(backend: Backend) -> None:
    found = await call(backend.recommendations.fleet)
    rows = [
        {
            "severity": one.severity,
            "severity_tone": SEVERITY_TONE.get(one.severity, ""),
            "title": one.title,
            "title_href": at("/recommendations", name=one.name),
            "devices": one.devices,
            "since": parts.moment(one.since),
        }
        for one in sorted(found, key=lambda one: _GRAVITY.get(one.severity, 3))[:SHOWN]
    ]
    columns = (
        Column("severity", "Severity", "badge"),
        Column("title", "Recommendation", "link"),
        Column("devices", "Devices", "number"),
        Column("since", "Since, UTC"),
    )
    with parts.panel(
        "", "What the hub found weak on devices and is so still; it resolves when its cause does."
    ):
        parts.table(columns, rows, empty="Nothing to improve is known.", page=50)


_GRAVITY = {"High": 0, "Medium": 1, "Low": 2}


async def _one(backend: Backend, name: str) -> None:
    found = await call(lambda: backend.recommendations.list(name=name, limit=SHOWN))
    if not found:
        parts.text("There is no recommendation of this name.", "empty")
        return
    with parts.block("stack"):
        with parts.panel(found[0].title, found[0].description):
            parts.facts([("What to do", found[0].remediation), ("Name", name)])
        rows = [
            {
                "device": one.device_id,
                "device_href": parts.device_at(one.device_id),
                "state": one.state,
                "state_tone": "good" if one.state == "Resolved" else "warn",
                "evidence": msgspec.json.encode(one.data).decode(),
                "since": parts.moment(one.discovered),
                "changed": parts.moment(one.changed),
            }
            for one in found
        ]
        columns = (
            Column("device", "Device", "link"),
            Column("state", "State", "badge"),
            Column("evidence", "Evidence", "code"),
            Column("since", "Found, UTC"),
            Column("changed", "Changed, UTC"),
        )
        with parts.panel("Devices", "Those that changed last first."):
            parts.table(columns, rows, empty="", page=50)


async def _checks(backend: Backend, search: str, severity: str) -> None:
    where = containing("BaselineCheckDescription || BaselineCheckId", search)
    if severity:
        where += f" AND BaselineCheckSeverity = {quoted(severity)}"
    rows = await backend.questions.ask(f"{LATEST_SCAN} {_BY_CHECK.format(where=where, shown=SHOWN)}")
    shown = [
        {
            **row,
            "Severity_tone": SEVERITY_TONE.get(str(row["Severity"]), ""),
            "Example_href": parts.device_at(str(row["Example"]), tab="baseline"),
        }
        for row in rows
    ]
    columns = (
        Column("Severity", "Severity", "badge"),
        Column("Number", "Check", "mono"),
        Column("Description", "What is expected, and why", "wrap"),
        Column("Remediation", "What to do", "wrap"),
        Column("Devices", "Devices", "number"),
        Column("Example", "For example", "link"),
    )
    parts.table(columns, shown, empty="No scan has come yet, or every check passed.", page=50)


async def _devices(backend: Backend, search: str, severity: str) -> None:
    where = containing("DeviceId", search)
    rows = await backend.questions.ask(f"{LATEST_SCAN} {_BY_DEVICE.format(where=where, shown=SHOWN)}")
    shown = []
    for row in rows:
        share = 100 * row["Passed"] / max(1, row["Passed"] + row["Failed"])
        shown.append(
            {
                **row,
                "DeviceId_href": parts.device_at(str(row["DeviceId"]), tab="baseline"),
                "Share": f"{share:.0f} %",
                "Share_share": share,
                "Failed": count(row["Failed"]),
            }
        )
    columns = (
        Column("DeviceId", "Device", "link"),
        Column("Share", "Passed", "share"),
        Column("Failed", "Failed", "number"),
        Column("Grave", "Critical or important", "number"),
        Column("Scanned", "Scanned, UTC"),
    )
    parts.table(columns, shown, empty="No scan has come yet.", page=50)
