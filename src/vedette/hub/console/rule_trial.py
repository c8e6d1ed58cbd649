"""The panel that tries a rule over the events that the lake holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import Column, count
from vedette.hub.console.trial import Busy, Trial
from vedette.hub.detect.alerts import Alert
from vedette.hub.detect.rules import RuleSet
from vedette.hub.registry.users import Role

SPANS = {1: "The last hour", 24: "The last day", 168: "The last 7 days", 720: "The last 30 days"}
"""Hours → name."""

LOOK_S = 0.4
"""How often the bar moves."""


def trial_panel(backend: Backend, request: Request, rules: Callable[[], RuleSet]) -> None:
    """Offer a trial. rules: with the one that is tried alone; raises RuleError."""
    with parts.panel("Try over history", "What it would have found; the hub's alerts stay as they are."):
        with parts.block("row"):
            span = ui.select(SPANS, value=24).props("outlined dense options-dense").style("width: 170px")
            span.props('aria-label="How far back"')
            start = ui.button("Try", icon="history").props("unelevated dense").classes("small")
            stop = ui.button("Cancel").props("outline dense").classes("small")
            said = parts.text("", "dim num")
        bar = ui.linear_progress(0, show_value=False, size="4px").style("margin-top: 10px")
        result = parts.block("")
    for element in (stop, bar):
        element.set_visibility(False)

    async def go(*_: object) -> None:
        await backend.demand(request, Role.ANALYST)
        chosen = await call(rules)
        trial = Trial(backend.lake, backend.database, chosen, span.value * 3600.0)
        ui.context.client.on_disconnect(trial.cancel)

        def look() -> None:
            bar.value = trial.share
            said.text = f"{count(trial.events)} events read"

        running = (start.set_enabled, stop.set_visibility, bar.set_visibility)
        for show, during in zip(running, (False, True, True), strict=True):
            show(during)
        stop.on_click(trial.cancel)
        timer = ui.timer(LOOK_S, look)
        try:
            found = await call(trial.run)
        except Busy as error:
            raise ValueError(str(error)) from None
        finally:
            timer.cancel()
            for show, after in zip(running, (True, False, False), strict=True):
                show(after)
        result.clear()
        said.text = f"{count(trial.events)} events read" + (", cancelled" if found is None else "")
        with result:
            _found(found or ())

    start.on_click(parts.guarded(go))


def _found(alerts: Sequence[Alert]) -> None:
    rows = [
        {
            "device": alert.device_id,
            "device_href": parts.device_at(alert.device_id),
            "title": alert.title,
            "entity": alert.entity,
            "hits": count(alert.hits),
            "start": parts.moment(alert.start),
            "end": parts.moment(alert.end),
        }
        for alert in alerts
    ]
    columns = (
        Column("device", "Device", "link"),
        Column("title", "Alert"),
        Column("entity", "On", "cut"),
        Column("hits", "Hits", "number"),
        Column("start", "First, UTC"),
        Column("end", "Last, UTC"),
    )
    parts.table(columns, rows, empty="No alerts.", page=20)
