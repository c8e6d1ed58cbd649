"""The first page: how the fleet is, and what counting saves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from nicegui import ui

from vedette.hub.console import health, parts
from vedette.hub.console.backend import Backend
from vedette.hub.console.overview_query import ALERT_DAYS, DAY_S, SCORE_HOURS, WINDOWS, View, look
from vedette.hub.console.parts import Column, at, count
from vedette.hub.console.questions import Row
from vedette.hub.posture.trend import Score


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


_COLOURS = {"High": "#cf4a41", "Medium": "#d98e2b", "Low": "#4f7fd9", "Informational": "#7d8b99"}


class _Overview:
    """The page's parts that change. The chart is kept and given new data; the rest is made anew."""

    def __init__(self, view: View) -> None:
        self._tiles = parts.block("cols tiles")
        with parts.block("cols two"):
            with parts.panel(
                "What counting saves", "Identical observations travel as one event with a hit count."
            ):
                self._funnel = parts.block("")
            with parts.panel("Alerts by severity", f"Open now; and raised in the last {ALERT_DAYS} days."):
                self._alerts = parts.block("")
                self._raised = parts.time_chart(view.raised, ALERT_DAYS * 24, height=120, colors=_COLOURS)
        with parts.panel("Events by type over time", "As the hub received them."):
            self._chart = parts.time_chart(view.timeline, view.hours)
        with parts.block("cols two"):
            with parts.panel("Secure score", "What passes in percent of all that was assessed, by weight."):
                self._score = parts.time_chart(_score_points(view), SCORE_HOURS, bars=False, height=150)
            with parts.panel("This hub"):
                self._signs = parts.block("")
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
        for chart, options in (
            (self._chart, parts.time_options(view.timeline, view.hours)),
            (self._raised, parts.time_options(view.raised, ALERT_DAYS * 24, colors=_COLOURS)),
            (self._score, parts.time_options(_score_points(view), SCORE_HOURS, bars=False)),
        ):
            chart.options.clear()
            chart.options.update(options)
            chart.update()
        self._fill(view)

    def _fill(self, view: View) -> None:
        for element, fill in (
            (self._tiles, _tiles),
            (self._funnel, _funnel),
            (self._alerts, _alerts),
            (self._failing, _failing),
            (self._types, _types),
            (self._losses, _losses),
            (self._signs, lambda view: health.show(view.signs)),
        ):
            element.clear()
            with element:
                fill(view)


def _score_points(view: View) -> Sequence[Row]:
    return [
        {"Moment": datetime.fromtimestamp(one.at, UTC), "Series": "score", "Value": one.score}
        for one in view.scores
    ]


def _score(scores: Sequence[Score]) -> tuple[str, str]:
    """The score now, and how it has changed since the first that is known of the last day."""
    if not scores:
        return "n/a", "nothing assessed yet"
    latest = scores[-1]
    before = next(one for one in scores if one.at >= latest.at - DAY_S)
    change = latest.score - before.score
    return f"{latest.score:.0f}", f"{change:+.1f} in a day" if change else parts.number_of(
        latest.devices, "device"
    )


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
    parts.tile("Secure score", *_score(view.scores), at("/recommendations"))
    note = f"{parts.number_of(checks['Failed'] or 0, 'check')} failed"
    parts.tile("Baseline passed", passed, note, at("/recommendations"))
    parts.tile("Lost", count(lost), f"{100 * lost / (hits + lost):.2f} % of all" if hits + lost else "")


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
    units, uncounted = (int(view.messages[name] or 0) for name in ("Units", "UnitsUncounted"))
    parts.text(
        f"About {count(units)} metered units of 4 KB; without counting, as densely packed,"
        f" {count(uncounted)}: {100 * (1 - units / max(uncounted, 1)):.1f} % saved.",
        "dim",
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
