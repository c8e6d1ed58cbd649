"""How a device stands: its baseline, its ports, users and packet filter, its alerts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.alert_table import alert_table
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.device_query import Asked
from vedette.hub.console.parts import RESULT_TONE, SEVERITY_TONE, Column
from vedette.hub.console.questions import Row, listed

RESULTS = {"Failed": "FAIL", "Errors": "ERROR", "Passed": "PASS", "Skipped": "SKIP"}

_SCAN = """SELECT BaselineCheckId AS Id, BaselineCheckResult AS Result,
BaselineCheckDescription AS Description,
BaselineCheckRemediation AS Remediation, BaselineCheckSeverity AS Severity, BaselineCheckError AS Error,
coalesce(nullif(BaselineCheckGroup, ''), 'Other') AS "Group", BaselineCheckEvidence AS Evidence, TimeStamp
FROM Baseline WHERE {where} AND TimeStamp = (SELECT max(TimeStamp) FROM Baseline WHERE {where})"""


async def baseline(backend: Backend, asked: Asked) -> None:
    """The latest scan, by group."""
    checks = await backend.questions.ask(_SCAN.format(where=asked.where))
    if not checks:
        with parts.panel():
            parts.text("No scan has come yet.", "empty")
        return
    wanted = asked.choice if asked.choice in RESULTS.values() else "FAIL"
    numbers = {word: sum(check["Result"] == word for check in checks) for word in RESULTS.values()}
    with parts.block("row"):
        choices = {f"{name} {numbers[word]}": asked.at(choice=word) for name, word in RESULTS.items()}
        parts.segments(choices, next(f"{n} {numbers[w]}" for n, w in RESULTS.items() if w == wanted))
        parts.text(f"scan of {parts.moment(checks[0]['TimeStamp'])} UTC, {len(checks)} checks", "dim")
    groups: dict[str, list[Row]] = {}
    for check in checks:
        groups.setdefault(str(check["Group"]), []).append(check)
    for group, members in groups.items():
        if shown := [check for check in members if check["Result"] == wanted]:
            passed = sum(check["Result"] == "PASS" for check in members)
            judged = passed + sum(check["Result"] == "FAIL" for check in members)
            with parts.panel(group, f"{passed} of {judged} passed"):
                for check in shown:
                    _check(check)


def _check(check: Row) -> None:
    number = str(check["Id"]).rpartition("-")[2]
    with ui.expansion().classes("full-width") as opened:
        with opened.add_slot("header"), parts.block("checked"):
            parts.badge(str(check["Severity"]), SEVERITY_TONE.get(str(check["Severity"]), ""))
            parts.text(number, "mono dim")
            parts.text(str(check["Description"])).style("flex: 1; min-width: 240px")
            parts.badge(str(check["Result"]), RESULT_TONE.get(str(check["Result"]), ""))
        evidence = msgspec.json.decode(check["Evidence"] or "[]")
        parts.facts(
            [
                ("Check", str(check["Id"])),
                ("Why no verdict", str(check["Error"] or "")),
                ("What to do", str(check["Remediation"] or "")),
            ]
        )
        if evidence:
            parts.text("\n".join(str(line) for line in evidence), "code").style("margin-top: 8px")


async def system(backend: Backend, asked: Asked) -> None:
    """The latest snapshots of ports, users, packet filter and hardware."""
    ports, users, rules, hardware = [
        await _snapshot(backend, asked, table, column)
        for table, column in (
            ("ListeningPorts", "Ports"),
            ("LocalUsers", "Users"),
            ("FirewallConfiguration", "Rules"),
            ("ConnectedHardware", "Devices"),
        )
    ]
    with parts.panel("Listening ports"):
        _fields(ports, "Protocol LocalAddress LocalPort UserName ProcessId Executable", "No port listens.")
    with parts.panel("Local users"):
        for user in users:
            user["GroupNames"] = ", ".join(user.get("GroupNames", []))
        _fields(users, "UserName UserId GroupNames Home Shell Password", "Not told yet.")
    with parts.panel("Packet filter"):
        names = "Table Chain Direction Action Protocol SourceAddress DestinationAddress DestinationPort Text"
        _fields(rules, names, "No rules: nothing is filtered, or it was not told yet.")
    with parts.panel("Hardware"):
        _fields(hardware, "Bus Address Vendor Product VendorId ProductId Driver", "Not told yet.")


async def _snapshot(backend: Backend, asked: Asked, table: str, column: str) -> list[dict[str, Any]]:
    rows = await backend.questions.ask(
        f"SELECT {column} AS Listed FROM {table} WHERE {asked.where} AND SnapshotId = "  # noqa: S608
        f"(SELECT arg_max(SnapshotId, TimeGenerated) FROM {table} WHERE {asked.where}) "
        "QUALIFY row_number() OVER (PARTITION BY Part ORDER BY TimeGenerated DESC) = 1 ORDER BY Part"
    )
    return [entry for row in rows for entry in listed(row["Listed"])]


def _fields(rows: Sequence[Row], names: str, empty: str) -> None:
    mono = {"LocalAddress", "Executable", "Address", "Text", "SourceAddress", "DestinationAddress"}
    columns = [Column(name, name, "mono" if name in mono else "text") for name in names.split()]
    parts.table(columns, [{c.key: row.get(c.key) for c in columns} for row in rows], empty=empty, page=25)


async def alerts(backend: Backend, asked: Asked) -> None:
    """Alerts of the device."""
    found = await call(lambda: backend.alerts.list(device=asked.device_id, limit=100))
    with parts.panel("Alerts", "The newest 100."):
        alert_table(found)
