"""Suppressions: what shall raise no alert, until when, and why."""

from __future__ import annotations

import time

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.decisions import MAX_REASON
from vedette.hub.console.parts import Column, at, count
from vedette.hub.detect.alerts import Alert, Suppression
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.users import Role

SPANS = {1: "1 day", 7: "7 days", 30: "30 days", 90: "90 days", 365: "1 year"}
"""Days → name. None is for ever: a suppression that nobody looks at again hides what it was not meant for."""

_FIELDS = ("Image", "CommandLine", "Commandline", "User", "UserName", "RemoteAddress", "Path")
"""Fields of evidence by which an alert is most likely to be told from others, the first that it has."""


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/suppressions", response_timeout=30)
    async def suppressions(request: Request) -> None:
        found = await call(backend.alerts.suppressions)
        may = parts.may(request, Role.ANALYST)
        with parts.frame(request, "Suppressions", "/alerts") as beside:
            with beside:
                parts.link("Alerts", at("/alerts"))
                if may:
                    _dialog(backend, request, Suppression(until=0, who="", why=""), "New suppression")
            about = "What each covers raises no alert; how often it did is counted. Events are kept as ever."
            with parts.panel("", about):
                table = _table(list(found), selectable=may)
                if table is not None and may:
                    _removal(backend, request, table)


def suppress_button(backend: Backend, request: Request, alert: Alert) -> None:
    """Suppress what is like an alert: its type on its device, by its most telling field."""
    seen = alert.evidence[0] if alert.evidence else {}
    field = next((name for name in _FIELDS if seen.get(name)), "")
    expression = f"{field}={_pattern(str(seen[field]))}" if field else ""
    if " and " in expression:  # which would part two conditions
        expression = expression.partition(" and ")[0] + "*"
    like = Suppression(
        device=alert.device_id, type=alert.type, expression=expression, until=0, who="", why=""
    )
    _dialog(backend, request, like, "Suppress …")


def _pattern(text: str) -> str:
    """A pattern for exactly this text."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


def _dialog(backend: Backend, request: Request, like: Suppression, name: str) -> None:
    with ui.dialog() as dialog, ui.card():
        parts.text("Suppress alerts").style("font-weight: 600")
        parts.text("A part that is empty means all. * stands for any text.", "dim")
        device = _field("Devices, as in pump-*", like.device)
        group = _field("Security group (tag SecurityGroup)", like.group)
        kind = _field("Alert type", like.type)
        expression = _field("Where: Field=pattern [and Field=pattern …]", like.expression)
        days = ui.select(SPANS, value=30, label="For").props("outlined dense options-dense")
        days.classes("full-width")
        why = _field("Why", "")

        async def add(*_: object) -> None:
            user = await backend.demand(request, Role.ANALYST)
            wanted = Suppression(
                device=(device.value or "").strip(),
                group=(group.value or "").strip(),
                type=(kind.value or "").strip(),
                expression=(expression.value or "").strip(),
                until=time.time() + days.value * 86_400.0,
                who=user.name,
                why=(why.value or "").strip(),
            )
            with acting_as(f"user:{user.name}"):
                await call(lambda: backend.alerts.suppress(wanted))
            parts.go(at("/suppressions"))

        with parts.block("row"):
            ui.button("Suppress", on_click=parts.guarded(add)).props("unelevated dense").classes("small")
            ui.button("Cancel", on_click=dialog.close).props("flat dense")
    ui.button(name, on_click=dialog.open).props("outline dense").classes("small")


def _field(label: str, value: str) -> ui.input:
    return ui.input(label, value=value).props(f"outlined dense maxlength={MAX_REASON}").classes("full-width")


def _table(suppressions: list[Suppression], *, selectable: bool) -> ui.table | None:
    now = time.time()
    rows = [
        {
            "suppression": one.id,
            "state": "in force" if one.until > now else "expired",
            "state_tone": "good" if one.until > now else "",
            "device": one.device or "all",
            "group": one.group or "all",
            "type": one.type or "all",
            "expression": one.expression,
            "hits": count(one.hits),
            "until": parts.moment(one.until)[:16],
            "why": f"{one.why} ({one.who})" if one.why else one.who,
        }
        for one in reversed(suppressions)
    ]
    columns = (
        Column("state", "State", "badge"),
        Column("type", "Alert type", "mono"),
        Column("device", "Devices"),
        Column("group", "Group"),
        Column("expression", "Where", "code"),
        Column("hits", "Hits kept quiet", "number"),
        Column("until", "Until, UTC"),
        Column("why", "Why", "wrap"),
    )
    return parts.table(columns, rows, empty="Nothing is suppressed.", page=50, selectable=selectable)


def _removal(backend: Backend, request: Request, table: ui.table) -> None:
    async def remove(*_: object) -> None:
        user = await backend.demand(request, Role.ANALYST)
        ids = [row["suppression"] for row in table.selected]
        with acting_as(f"user:{user.name}"):
            for one in ids:
                await call(lambda one=one: backend.alerts.unsuppress(one))  # type: ignore[misc]
        ui.navigate.reload()

    button = ui.button("Remove", on_click=parts.guarded(remove)).props("outline dense").classes("small")
    button.set_enabled(False)
    table.on_select(lambda _: button.set_enabled(bool(table.selected)))
