"""Notifications: who is told of findings, how each route does, and what became of every message."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.notification_form import new_route
from vedette.hub.console.parts import Column, Tone, at, count
from vedette.hub.notify import probe
from vedette.hub.notify.deliveries import LISTED, Deliveries, Delivery
from vedette.hub.notify.notifier import deliver
from vedette.hub.notify.routes import Routes, RouteState
from vedette.hub.notify.ways import Undelivered
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.users import Role

PAGE = 50
"""Messages a page."""

TONES: dict[str, Tone] = {"sent": "good", "pending": "warn", "dead": "bad"}
_STATES = {"All": "", "Pending": "pending", "Sent": "sent", "Dead": "dead"}


class _Wanted(msgspec.Struct, frozen=True):
    """Which messages the address asks for."""

    route: str
    state: str
    page: int

    def at(self, **changed: str | int) -> str:
        return at("/notifications", **{"route": self.route, "state": self.state, **changed})


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/notifications", response_timeout=30)
    async def notifications(request: Request, route: str = "", state: str = "", page: int = 1) -> None:
        with parts.frame(request, "Notifications", "/notifications") as beside:
            if not parts.may(request, Role.OPERATOR):
                parts.text("Notifications need the role operator.", "empty")
                return
            desk = _Desk(backend, request)
            if desk.admin:
                with beside:
                    new_route(backend, request, desk.routes)
            with parts.block("stack"):
                with parts.panel("Routes", "Each is told of the findings that it wants."):
                    desk.show_routes(await call(desk.routes.list))
                wanted = _Wanted(route, state if state in TONES else "", max(1, page))
                with parts.panel("Messages", "What was sent, is to be sent, or was given up."):
                    await desk.show_messages(wanted)


class _Desk:
    """Routes and messages, and what is done with those that are marked."""

    def __init__(self, backend: Backend, request: Request) -> None:
        self._backend = backend
        self._request = request
        self.admin = parts.may(request, Role.ADMIN)
        self.routes = Routes(backend.database.read, backend.database.write)
        self._deliveries = Deliveries(backend.database)

    def show_routes(self, states: Sequence[RouteState]) -> None:
        """Every route, how it does, and for admins what can be done with it."""
        columns = [
            Column("name", "Route", "link"),
            Column("state", "State", "badge"),
            Column("to", "Leads to", "wrap"),
            Column("wanted", "Is told of", "wrap"),
            Column("form", "Form"),
            Column("waiting", "Waiting", "number"),
            Column("dead", "Dead", "number"),
        ]
        if any(one.error for one in states):
            columns.append(Column("error", "Why the latest did not arrive", "wrap"))
        empty = "No route yet: nobody is told of alerts, they stand on the page Alerts alone."
        table = parts.table(columns, [_route_row(one) for one in states], empty=empty, selectable=self.admin)
        if table is not None and self.admin:
            with parts.block("row actions"):
                self._route_actions(table)

    def _route_actions(self, table: ui.table) -> None:
        async def test(name: str, _: str) -> None:
            route = await call(lambda: self.routes.get(name))
            try:
                await deliver(route, probe.message(route))
            except Undelivered as error:
                ui.notify(f"{name}: {error.reason}", type="negative", multi_line=True)
            else:
                ui.notify(f"{name}: the test alert arrived.", type="positive")

        def switch(enabled: bool) -> Callable[[str, str], Any]:
            async def switched(name: str, who: str) -> None:
                with acting_as(who):
                    await call(lambda: self.routes.set_enabled(name, enabled))

            return switched

        async def remove(name: str, who: str) -> None:
            with acting_as(who):
                await call(lambda: self.routes.remove(name))

        self._action(table, "Test", test, Role.ADMIN, reload=False)
        self._action(table, "Enable", switch(True), Role.ADMIN)
        self._action(table, "Disable", switch(False), Role.ADMIN)
        self._action(table, "Remove", remove, Role.ADMIN, "The routes and all that waits for them are gone.")

    async def show_messages(self, wanted: _Wanted) -> None:
        """A page of messages, and for dead ones a way to send them again."""
        first = (wanted.page - 1) * PAGE
        upto = min(first + PAGE + 1, LISTED)
        found = await call(lambda: self._deliveries.list(wanted.route, wanted.state, upto))
        with parts.block("row"):
            states = {name: wanted.at(state=value) for name, value in _STATES.items()}
            parts.segments(states, next(name for name, value in _STATES.items() if value == wanted.state))
            if wanted.route:
                parts.badge(wanted.route, "note")
                parts.link("all routes", wanted.at(route=""))
        rows = [_message_row(one) for one in found[first : first + PAGE]]
        columns = [
            Column("created", "Made, UTC"),
            Column("route", "Route"),
            Column("state", "State", "badge"),
            Column("severity", "Severity", "badge"),
            Column("title", "Message", "wrap"),
            Column("findings", "Findings", "number"),
            Column("attempts", "Attempts", "number"),
            Column("then", "Then"),
        ]
        if any(row["error"] for row in rows):
            columns.append(Column("error", "Why not", "wrap"))
        table = parts.table(columns, rows, empty="No message fits.", selectable=wanted.state == "dead")
        if table is not None and wanted.state == "dead":
            with parts.block("row actions"):
                self._action(table, "Send again", self._again, Role.OPERATOR)
        parts.pages(wanted.page, len(found) > first + PAGE, lambda number: wanted.at(page=number))

    async def _again(self, identifier: str, _: str) -> None:
        await call(lambda: self._deliveries.again(identifier))

    def _action(
        self,
        table: ui.table,
        name: str,
        act: Callable[[str, str], Any],
        role: Role,
        warning: str = "",
        *,
        reload: bool = True,
    ) -> None:
        """A button that does something with every marked row: act(its key, who)."""

        async def acting(*_: object) -> None:
            user = await self._backend.demand(self._request, role)
            for row in list(table.selected):
                await act(str(row["key"]), f"user:{user.name}")
            if reload:
                ui.navigate.reload()

        parts.marked_button(table, name, acting, warning)


def _route_row(state: RouteState) -> dict[str, Any]:
    route = state.route
    return {
        "key": route.name,
        "name": route.name,
        "name_href": at("/notifications", route=route.name),
        "state": "on" if route.enabled else "off",
        "state_tone": "good" if route.enabled else "",
        "to": route.target.shown,
        "wanted": _told(state),
        "form": route.form,
        "waiting": count(state.waiting + state.pending),
        "dead": count(state.dead),
        "error": state.error,
    }


def _told(state: RouteState) -> str:
    """What a route wants, in words."""
    wanted = state.route.wanted
    words: list[str] = ["alerts and recommendations" if wanted.about == "all" else wanted.about]
    if wanted.severity != "Informational":
        words.append(f"from {wanted.severity} up")
    if wanted.types:
        words.append(f"of {', '.join(wanted.types)}")
    if wanted.where:
        words.append(f"where {wanted.where}")
    if wanted.changes:
        words.append("and their changes")
    lost = f"; {count(state.route.dropped)} did not fit into the outbox" if state.route.dropped else ""
    return " ".join(words) + lost


def _message_row(one: Delivery) -> dict[str, Any]:
    next_try = f"next attempt {parts.moment(one.due)[11:]}" if one.due > time.time() else "being sent"
    return {
        "key": one.id,
        "created": parts.moment(one.created),
        "route": one.route,
        "state": one.state,
        "state_tone": TONES.get(one.state, ""),
        "severity": one.severity,
        "severity_tone": parts.SEVERITY_TONE.get(one.severity, ""),
        "title": one.title,
        "findings": count(one.findings),
        "attempts": count(one.attempts),
        "then": f"ended {parts.moment(one.finished)[11:]}" if one.finished else next_try,
        "error": one.error,
    }
