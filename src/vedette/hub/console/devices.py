"""The list of devices: searched, filtered and paged by the server; everything in the address."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast, get_args

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import Column, at, count
from vedette.hub.console.questions import Row, quoted
from vedette.hub.console.roll import Entry, Order, State

PAGE = 50
"""Devices a page."""

_STATES = {"All": "", "Online": "online", "Silent": "silent", "Never seen": "never", "New": "new"}
_ORDERS = {"Name": ("device", ""), "Last seen": ("seen", "1"), "Newest": ("created", "1")}


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/devices", response_timeout=30)
    async def devices(
        request: Request, q: str = "", state: str = "", order: str = "device", down: str = "", page: int = 1
    ) -> None:
        chosen = cast("State", state if state in get_args(State) else "")
        sort = cast("Order", order if order in get_args(Order) else "device")
        page = max(1, page)
        entries, total = await call(
            lambda: backend.roll.page(
                q[:128], chosen, offset=(page - 1) * PAGE, limit=PAGE, order=sort, descending=bool(down)
            )
        )
        known = await _described(backend, entries)

        def here(**changed: str | int) -> str:
            asked: dict[str, str | int] = {"q": q, "state": state, "order": sort, "down": down}
            return at("/devices", **{**asked, **changed})

        with parts.frame(request, "Devices", "/devices") as beside:
            with beside:
                parts.text(f"{count(total)} devices", "dim num")
            with parts.block("stack"), parts.panel():
                with parts.block("row"):
                    parts.search("Search by name", q, lambda text: here(q=text))
                    states = {name: here(state=value) for name, value in _STATES.items()}
                    parts.segments(states, next(name for name, value in _STATES.items() if value == chosen))
                    orders = {name: here(order=by, down=down) for name, (by, down) in _ORDERS.items()}
                    parts.segments(orders, next(name for name, (by, _) in _ORDERS.items() if by == sort))
                _table(entries, known)
                last = max(1, -(-total // PAGE))
                parts.pages(page, page < last, lambda number: here(page=number), f" of {last:,}")


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


def _table(entries: Sequence[Entry], known: dict[str, Row]) -> None:
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
        Column("os", "System"),
        Column("arch", "Machine"),
        Column("agent", "Agent"),
        Column("hits", "Observations, 24 h", "number"),
        Column("events", "Events, 24 h", "number"),
        Column("created", "Registered"),
    )
    parts.table(columns, rows, empty="No device fits. The first one is added under “Enrol a device”.")
