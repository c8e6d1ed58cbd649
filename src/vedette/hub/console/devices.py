"""The list of devices: searched, filtered and paged by the server; everything in the address."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast, get_args

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import members, parts, tags
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.groups import group_row
from vedette.hub.console.parts import Column, at, count
from vedette.hub.console.questions import Row, quoted
from vedette.hub.console.roll import Entry, Order, State
from vedette.hub.registry.query import QueryError
from vedette.hub.registry.users import Role

PAGE = 50
"""Devices a page."""

_STATES = {"All": "", "Online": "online", "Silent": "silent", "Never seen": "never", "New": "new"}
_ORDERS = {"Name": ("device", ""), "Last seen": ("seen", "1"), "Newest": ("created", "1")}


class _Wanted(msgspec.Struct, frozen=True):
    """What the address asks for: by name and state, or by a condition on twins."""

    q: str
    state: State
    order: Order
    down: str
    page: int
    where: str
    after: str

    def at(self, **changed: str | int) -> str:
        """The address of the list with something changed, at its beginning."""
        asked = {
            "q": self.q,
            "state": self.state,
            "order": self.order,
            "down": self.down,
            "where": self.where,
        }
        return at("/devices", **{**asked, **changed})


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/devices", response_timeout=30)
    async def devices(
        request: Request,
        q: str = "",
        state: str = "",
        order: str = "device",
        down: str = "",
        page: int = 1,
        where: str = "",
        after: str = "",
    ) -> None:
        chosen = cast("State", state if state in get_args(State) else "")
        sort = cast("Order", order if order in get_args(Order) else "device")
        wanted = _Wanted(q[:128], chosen, sort, down, max(1, page), where, after)
        wrong, entries, total, behind = "", cast("Sequence[Entry]", ()), 0, ""
        try:
            entries, total, behind = await call(lambda: _found(backend, wanted))
        except QueryError as error:
            wrong = str(error)
        groups = await call(backend.shelf.groups)
        known = await _described(backend, entries)
        marks = await call(lambda: backend.roll.tags([entry.device_id for entry in entries]))
        with parts.frame(request, "Devices", "/devices") as beside:
            with beside:
                parts.text(parts.number_of(total, "device"), "dim num")
            with parts.block("stack"), parts.panel():
                group_row(backend, request, groups, where, lambda condition: at("/devices", where=condition))
                if wrong:
                    parts.text(wrong, "error-line")
                if not where:
                    _filters(wanted)
                table = _table(entries, known, marks, selectable=parts.may(request, Role.OPERATOR))
                if table is not None and parts.may(request, Role.OPERATOR):
                    with parts.block("row").style("margin-top: 8px"):
                        tags.mark_button(backend, request, table)
                _turning(wanted, total, behind)


def _filters(wanted: _Wanted) -> None:
    with parts.block("row"):
        parts.search("Search by name", wanted.q, lambda text: wanted.at(q=text))
        states = {name: wanted.at(state=value) for name, value in _STATES.items()}
        parts.segments(states, next(name for name, value in _STATES.items() if value == wanted.state))
        orders = {name: wanted.at(order=by, down=down) for name, (by, down) in _ORDERS.items()}
        parts.segments(orders, next(name for name, (by, _) in _ORDERS.items() if by == wanted.order))


def _turning(wanted: _Wanted, total: int, behind: str) -> None:
    """The ways to other pages: by number, or where a condition is asked for, onwards."""
    if not wanted.where:
        last = max(1, -(-total // PAGE))
        parts.pages(wanted.page, wanted.page < last, lambda number: wanted.at(page=number), f" of {last:,}")
        return
    with parts.block("row"):
        if wanted.after:
            parts.link("← First", wanted.at())
        if behind:
            parts.link("Next →", wanted.at(after=behind))


def _found(backend: Backend, wanted: _Wanted) -> tuple[Sequence[Entry], int, str]:
    """A page of devices, how many there are in all, and where a condition's next page begins."""
    if wanted.where:
        ids, behind = members.page(backend.registry, wanted.where, PAGE, wanted.after)
        return backend.roll.entries(ids), members.counted(backend.registry, wanted.where), behind
    entries, total = backend.roll.page(
        wanted.q,
        wanted.state,
        offset=(wanted.page - 1) * PAGE,
        limit=PAGE,
        order=wanted.order,
        descending=bool(wanted.down),
    )
    return entries, total, ""


async def _described(backend: Backend, entries: Sequence[Entry]) -> dict[str, Row]:
    """What the devices of a page last said of themselves."""
    names = ", ".join(quoted(entry.device_id) for entry in entries)
    if not names:
        return {}
    rows = await backend.questions.ask(_DESCRIBED.format(names=names))
    return {str(row["DeviceId"]): row for row in rows}


_DESCRIBED = """WITH told AS (SELECT DeviceId, arg_max(OsVersion, TimeGenerated) AS Os,
arg_max(OsArch, TimeGenerated) AS Arch, arg_max(AgentVersion, TimeGenerated) AS Agent FROM SystemInformation
WHERE DeviceId IN ({names}) GROUP BY 1),
sent AS (SELECT DeviceId, count(*) AS Events, sum(HitCount) AS Hits FROM raw_events
WHERE DeviceId IN ({names}) AND EventDate >= (now() - INTERVAL 1 DAY)::DATE
AND TimeGenerated > now()::TIMESTAMP - INTERVAL 1 DAY GROUP BY 1)
SELECT * FROM sent FULL JOIN told USING (DeviceId)"""


def _table(
    entries: Sequence[Entry], known: dict[str, Row], marks: Any, *, selectable: bool
) -> ui.table | None:
    now = time.time()
    rows = []
    for entry in entries:
        told = known.get(entry.device_id, {})
        rows.append(
            {
                "device": entry.device_id,
                "device_href": parts.device_at(entry.device_id),
                "state": entry.state,
                "state_tone": parts.STATE_TONE[entry.state],
                "seen": parts.ago(entry.seen, now),
                "tags": ", ".join(tags.told(marks.get(entry.device_id, {}))),
                "os": told.get("Os"),
                "arch": told.get("Arch"),
                "agent": told.get("Agent"),
                "hits": count(told.get("Hits")),
                "events": count(told.get("Events")),
                "created": parts.moment(entry.created)[:10],
            }
        )
    columns = (
        Column("device", "Device", "link"),
        Column("state", "State", "badge"),
        Column("seen", "Last seen"),
        Column("tags", "Tags", "wrap"),
        Column("os", "System"),
        Column("arch", "Machine"),
        Column("agent", "Agent"),
        Column("hits", "Observations, 24 h", "number"),
        Column("events", "Events, 24 h", "number"),
        Column("created", "Registered"),
    )
    return parts.table(
        columns,
        rows,
        empty="No device fits. The first one is added under “Enrol a device”.",
        selectable=selectable,
    )
