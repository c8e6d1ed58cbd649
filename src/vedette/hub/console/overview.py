"""The first page: how the fleet is, and what counting saves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import Column, at, count
from vedette.hub.console.questions import Row
from vedette.hub.console.roll import Totals
from vedette.hub.detect.alerts import Status

WINDOWS = {"1h": ("1 hour", 1, 60), "24h": ("24 hours", 24, 900), "7d": ("7 days", 168, 7_200)}
"""Window → its name, its hours, and the seconds that one bar of the chart stands for."""

OPEN_ALERTS = 1_000
"""Open alerts that are looked at for the picture; more than that is "1,000" in it."""

SEVERITIES = ("High", "Medium", "Low", "Informational")


class View(msgspec.Struct, frozen=True):
    """What the page shows at a moment."""

    hours: int
    totals: Totals
    types: Sequence[Row]
    messages: Row
    timeline: Sequence[Row]
    checks: Row
    failing: Sequence[Row]
    losses: Sequence[Row]
    alerts: Mapping[str, int]


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/", response_timeout=30)
    async def overview(request: Request, window: str = "24h") -> None:
        window = window if window in WINDOWS else "24h"
        with parts.frame(request, "Overview", "/") as beside:
            with beside:
                parts.segments(
                    {name: at("/", window=key) for key, (name, *_) in WINDOWS.items()}, WINDOWS[window][0]
                )
            body = parts.block("stack")
        view = await look(backend, window)
        with body:
            shown = _Overview(view)

        async def refresh() -> None:
            shown.show(await look(backend, window))

        parts.live(refresh)


async def look(backend: Backend, window: str) -> View:
    """Ask everything that the page shows. Raises QueryError."""
    _, hours, seconds = WINDOWS[window]
    since = _SINCE.format(hours=hours)
    totals, alerts = await asyncio.gather(
        call(backend.roll.totals),
        call(lambda: backend.alerts.list(status=(Status.ACTIVE, Status.IN_PROGRESS), limit=OPEN_ALERTS)),
    )
    types, messages, timeline, checks, failing, losses = await asyncio.gather(
        *map(
            backend.questions.ask,
            (
                _TYPES.format(since=since),
                _MESSAGES.format(since=since),
                _TIMELINE.format(since=since, seconds=seconds),
                f"{LATEST_SCAN} {_CHECKS}",
                f"{LATEST_SCAN} {_FAILING}",
                _LOSSES.format(since=since),
            ),
        )
    )
    severities = [alert.severity for alert in alerts]
    by_severity = {severity: severities.count(severity) for severity in SEVERITIES}
    return View(hours, totals, types, messages[0], timeline, checks[0], failing, losses, by_severity)


_SINCE = """EventDate >= (now() - INTERVAL {hours} HOUR)::DATE
AND TimeGenerated > now()::TIMESTAMP - INTERVAL {hours} HOUR"""

_TYPES = """SELECT RawEventName AS Type, count(*) AS Events, sum(HitCount) AS Hits
FROM raw_events WHERE {since} GROUP BY ALL ORDER BY Hits DESC"""

_MESSAGES = """SELECT count(DISTINCT (DeviceId, ModuleId, MessageId)) AS Messages, count(*) AS Events,
sum(HitCount) AS Hits FROM raw_events WHERE {since}"""

_TIMELINE = """SELECT time_bucket(INTERVAL {seconds} SECOND, TimeGenerated) AS Moment, RawEventName AS Series,
count(*) AS Value FROM raw_events WHERE {since} GROUP BY ALL ORDER BY Moment"""

LATEST_SCAN = """WITH scans AS (SELECT DeviceId, max(TimeStamp) AS TimeStamp FROM Baseline
WHERE TimeGenerated > now()::TIMESTAMP - INTERVAL 30 DAY GROUP BY 1),
results AS (SELECT b.* FROM Baseline b JOIN scans USING (DeviceId, TimeStamp))"""
"""The latest scan of every device: its events have one time."""

_CHECKS = """SELECT count(*) FILTER (BaselineCheckResult = 'PASS') AS Passed,
count(*) FILTER (BaselineCheckResult = 'FAIL') AS Failed, count(DISTINCT DeviceId) AS Devices FROM results"""

_FAILING = """SELECT any_value(BaselineCheckId) AS CheckId, any_value(BaselineCheckSeverity) AS Severity,
any_value(BaselineCheckGroup) AS "Group", any_value(BaselineCheckDescription) AS Description,
count(DISTINCT DeviceId) AS Devices FROM results WHERE BaselineCheckResult = 'FAIL'
GROUP BY regexp_extract(BaselineCheckId, '[^-]*$')
ORDER BY Devices DESC, list_position(['Critical', 'Important', 'Warning', 'Informational'], Severity), CheckId
LIMIT 8"""

_LOSSES = """WITH outcomes AS (SELECT DeviceId, Name, unnest(from_json(Events,
'[{{"Description": "VARCHAR", "HitCount": "BIGINT", "Events": "BIGINT"}}]')) AS o
FROM Statistics WHERE {since})
SELECT Name, o.Description AS Reason, sum(o.HitCount) AS Hits, count(DISTINCT DeviceId) AS Devices
FROM outcomes WHERE o.Description <> 'sent' GROUP BY ALL ORDER BY Hits DESC LIMIT 8""".replace(
    "FROM Statistics WHERE {since}",
    "FROM (SELECT *, TimeGenerated::DATE AS EventDate FROM Statistics) WHERE {since}",
)


class _Overview:
    """The page's parts that change. The chart is kept and given new data; the rest is made anew."""

    def __init__(self, view: View) -> None:
        self._tiles = parts.block("cols tiles")
        with parts.block("cols two"):
            with parts.panel(
                "What counting saves", "Identical observations travel as one event with a hit count."
            ):
                self._funnel = parts.block("")
            with parts.panel("Alerts by severity", "Open alerts."):
                self._alerts = parts.block("")
        with parts.panel("Events by type over time", "As the hub received them."):
            self._chart = parts.time_chart(view.timeline, view.hours)
        with parts.block("cols two"):
            with parts.panel("Failing checks", "Security baseline: the latest scan of every device."):
                self._failing = parts.block("")
            with parts.block("stack"):
                with parts.panel("Event types"):
                    self._types = parts.block("")
                with parts.panel("Losses", "What devices could not keep, counted by them with the reason."):
                    self._losses = parts.block("")
        self._fill(view)

    def show(self, view: View) -> None:
        """Show another moment."""
        self._chart.options.clear()
        self._chart.options.update(parts.time_options(view.timeline, view.hours))
        self._chart.update()
        self._fill(view)

    def _fill(self, view: View) -> None:
        for element, fill in (
            (self._tiles, _tiles),
            (self._funnel, _funnel),
            (self._alerts, _alerts),
            (self._failing, _failing),
            (self._types, _types),
            (self._losses, _losses),
        ):
            element.clear()
            with element:
                fill(view)


def _tiles(view: View) -> None:
    totals, checks = view.totals, view.checks
    judged = (checks["Passed"] or 0) + (checks["Failed"] or 0)
    passed = f"{100 * checks['Passed'] / judged:.0f} %" if judged else "n/a"
    lost = sum(int(row["Hits"]) for row in view.losses)
    hits = int(view.messages["Hits"] or 0)
    parts.tile("Devices", count(totals.devices), f"{count(totals.new)} new today", at("/devices"))
    parts.tile("Online", count(totals.online), "connected now", at("/devices", state="online"))
    parts.tile(
        "Silent", count(totals.silent), f"{count(totals.never)} never seen", at("/devices", state="silent")
    )
    high = view.alerts["High"]
    parts.tile("Open alerts", count(sum(view.alerts.values())), f"{count(high)} high", at("/alerts"))
    note = f"{count(checks['Failed'])} checks failed"
    parts.tile("Baseline passed", passed, note, at("/recommendations"))
    parts.tile(
        "Lost", count(lost), f"{100 * lost / (hits + lost):.2f} % of observations" if hits + lost else ""
    )


def _funnel(view: View) -> None:
    """Bars in true proportion: that the last ones are hardly to be seen is the point."""
    hits, events, messages = (int(view.messages[name] or 0) for name in ("Hits", "Events", "Messages"))
    if not events:
        parts.text("No events in this window.", "empty")
        return
    with parts.block("funnel"):
        for name, number, kind in (
            ("observations", hits, "seen"),
            ("events", events, "sent"),
            ("messages", messages, ""),
        ):
            parts.text(name, "name")
            with parts.block("track"), parts.block(f"fill {kind}") as fill:
                fill.style(f"width: {100 * number / max(hits, events):.2f}%")
            parts.text(count(number), "count")
    parts.text(
        f"{hits / events:.1f} observations an event, {events / max(messages, 1):.1f} events a message:"
        f" {hits / max(messages, 1):,.0f} observations for every message sent.",
        "saying",
    )


def _alerts(view: View) -> None:
    worst = max(view.alerts.values(), default=0)
    if not worst:
        parts.text("No open alerts.", "empty")
        return
    with parts.block("funnel"):
        for severity, number in view.alerts.items():
            parts.link(severity, at("/alerts", severity=severity))
            with parts.block("track"), parts.block("fill") as fill:
                tone = parts.SEVERITY_TONE[severity] or "dim"
                fill.style(f"width: {100 * number / worst:.2f}%; background: var(--{tone})")
                fill.set_visibility(number > 0)
            parts.text(count(number), "count")


def _failing(view: View) -> None:
    rows = [
        {**row, "Severity_tone": parts.SEVERITY_TONE.get(str(row["Severity"]), "")} for row in view.failing
    ]
    columns = (
        Column("Severity", "Severity", "badge"),
        Column("Description", "Check", "wrap"),
        Column("Devices", "Devices", "number"),
    )
    parts.table(columns, rows, empty="No scan has come yet, or every check passed.")


def _types(view: View) -> None:
    most = max((int(row["Hits"]) for row in view.types), default=1)
    rows: list[dict[str, Any]] = [
        {
            "Type": row["Type"],
            "Type_href": parts.investigate_at(f"{row['Type']} | where TimeGenerated > ago(1d) | take 100"),
            "Hits": count(row["Hits"]),
            "Hits_share": 100 * int(row["Hits"]) / most,
            "Events": count(row["Events"]),
            "Ratio": f"{int(row['Hits']) / int(row['Events']):.1f}",
        }
        for row in view.types
    ]
    columns = (
        Column("Type", "Type", "link"),
        Column("Hits", "Observations", "share"),
        Column("Events", "Events", "number"),
        Column("Ratio", "an event", "number"),
    )
    parts.table(columns, rows, empty="No events in this window.")


def _losses(view: View) -> None:
    rows = [{**row, "Hits": count(row["Hits"])} for row in view.losses]
    columns = (
        Column("Name", "Collector"),
        Column("Reason", "Reason", "wrap"),
        Column("Hits", "Observations", "number"),
        Column("Devices", "Devices", "number"),
    )
    parts.table(columns, rows, empty="Nothing was lost.")
