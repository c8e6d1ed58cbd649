"""What is known to be wrong with the software of the fleet: by advisory, with the devices that have it."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend
from vedette.hub.console.intelligence import places
from vedette.hub.console.parts import SEVERITY_TONE, Column, at, count
from vedette.hub.console.questions import Row, containing, kql_quoted, quoted
from vedette.hub.registry.users import Role

PAGE = 50
"""Advisories a page."""

_SEVERITIES = ("Critical", "High", "Medium", "Low")

_ADVISORIES = """SELECT Advisory, any_value(Cves) AS Cves, any_value(Severity) AS Severity,
max(Score) AS Score, any_value(Package) AS Package, any_value(FixedVersion) AS Fixed,
any_value(Summary) AS Summary,
count(DISTINCT DeviceId) AS Devices, min(DeviceId) AS Device,
count(*) OVER () AS Total
FROM SoftwareVulnerability WHERE {where} GROUP BY Advisory
ORDER BY Score DESC NULLS LAST, Devices DESC, Advisory LIMIT {limit} OFFSET {offset}"""


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/vulnerabilities", response_timeout=30)
    async def vulnerabilities(request: Request, q: str = "", severity: str = "", page: int = 1) -> None:
        q, page = q[:128], max(1, page)
        severity = severity if severity in _SEVERITIES else ""

        def here(**changed: str | int) -> str:
            return at("/vulnerabilities", **{"q": q, "severity": severity, **changed})

        with parts.frame(request, "Vulnerabilities", "/intelligence") as beside:
            if not parts.may(request, Role.ANALYST):
                parts.text("Vulnerabilities need the role analyst.", "empty")
                return
            with beside:
                places("Vulnerabilities")
            found = await backend.questions.ask(_query(q, severity, page))
            total = int(found[0]["Total"]) if found else 0
            about = f"{count(total)} advisories fit what devices have installed, the worst first."
            with parts.panel("", about):
                with parts.block("row"):
                    parts.search("Package, CVE or text", q, lambda text: here(q=text))
                    severities = {"Any severity": here(severity="")} | {
                        name: here(severity=name) for name in _SEVERITIES
                    }
                    parts.segments(severities, severity or "Any severity")
                _table(found)
                parts.pages(page, total > page * PAGE, lambda number: here(page=number))


def _query(q: str, severity: str, page: int) -> str:
    conditions = ["TRUE"]
    if q:
        columns = ("Package", "Advisory", "Cves", "Summary")
        conditions.append(f"({' OR '.join(containing(column, q) for column in columns)})")
    if severity:
        conditions.append(f"Severity = {quoted(severity)}")
    return _ADVISORIES.format(where=" AND ".join(conditions), limit=PAGE, offset=(page - 1) * PAGE)


def _table(found: list[Row]) -> None:
    columns = (
        Column("severity", "Severity", "badge"),
        Column("score", "CVSS", "number"),
        Column("advisory", "Advisory", "mono"),
        Column("cves", "CVE", "code"),
        Column("package", "Package"),
        Column("fixed", "Fixed in", "mono"),
        Column("devices", "Devices", "link"),
        Column("summary", "What it is", "wrap"),
    )
    empty = (
        "None is known. Import advisories under Lists; they are compared with what devices have installed."
    )
    parts.table(columns, [_row(row) for row in found], empty=empty)


def _row(row: Row) -> dict[str, Any]:
    advisory, devices = str(row["Advisory"]), int(row["Devices"])
    mine = f"where Advisory == {kql_quoted(advisory)}"
    query = f"SoftwareVulnerability | {mine} | project DeviceId, Package, Version"
    one = parts.device_at(str(row["Device"]), tab="software", q=str(row["Package"]))
    cves = msgspec.json.decode(row["Cves"] or "[]", type=list[str])
    return {
        "severity": row["Severity"],
        "severity_tone": SEVERITY_TONE.get(str(row["Severity"]), ""),
        "score": "" if row["Score"] is None else f"{row['Score']:.1f}",
        "advisory": advisory,
        "cves": ", ".join(cve for cve in cves if cve != advisory),
        "package": row["Package"],
        "fixed": row["Fixed"] or "no fix yet",
        "devices": str(row["Device"]) if devices == 1 else f"{count(devices)} devices",
        "devices_href": one if devices == 1 else parts.investigate_at(query),
        "summary": row["Summary"],
    }
