"""One device: its head, and the choice between what is known of it, each under an address of its own."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import (
    device_activity,
    device_events,
    device_posture,
    device_software,
    device_summary,
    parts,
    tags,
)
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.device_query import Asked
from vedette.hub.console.parts import at
from vedette.hub.console.questions import kql_quoted
from vedette.hub.lake import QueryError
from vedette.hub.registry.users import Role

TABS: dict[str, tuple[str, Callable[[Backend, Asked], Awaitable[None]]]] = {
    "": ("Summary", device_summary.show),
    "processes": ("Processes", device_activity.processes),
    "network": ("Network", device_activity.network),
    "logins": ("Logins", device_activity.logins),
    "files": ("Files and peripherals", device_activity.files),
    "baseline": ("Baseline", device_posture.baseline),
    "software": ("Software", device_software.software),
    "system": ("Ports, users, firewall", device_posture.system),
    "alerts": ("Alerts", device_posture.alerts),
    "statistics": ("Statistics", device_events.statistics),
    "events": ("Events", device_events.events),
}
"""Tab → its name and what shows it."""


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/device/{device_id}", response_timeout=30)
    async def device(
        request: Request, device_id: str, tab: str = "", q: str = "", choice: str = "", page: int = 1
    ) -> None:
        tab = tab if tab in TABS else ""
        asked = Asked(device_id, tab, q[:256], choice[:64], max(1, page))
        entry = next(iter(await call(lambda: backend.roll.entries([device_id]))), None)
        marks = (await call(lambda: backend.roll.tags([device_id]))).get(device_id, {})
        with parts.frame(request, device_id, "/devices") as beside:
            if entry is None:
                parts.text("There is no device of this name.", "empty")
                return
            with beside:
                parts.badge(entry.state, parts.STATE_TONE[entry.state])
                parts.text(f"last seen {parts.ago(entry.seen, time.time())}", "dim")
                for mark in tags.told(marks):
                    parts.badge(mark, "note")
                if parts.may(request, Role.OPERATOR):
                    tags.edit_button(backend, request, device_id, marks)
                parts.link("Configuration", at(f"/twin/{parts.path_part(device_id)}"))
                where = f"DeviceId == {kql_quoted(device_id)} and TimeGenerated > ago(1d)"
                parts.link(
                    "Investigate", parts.investigate_at(f"SecurityIoTRawEvent | where {where} | take 100")
                )
            with parts.block("stack"):
                with parts.block("row"):
                    parts.segments({name: asked.at(tab=key) for key, (name, _) in TABS.items()}, TABS[tab][0])
                with parts.block("stack"):
                    try:
                        await TABS[tab][1](backend, asked)
                    except (QueryError, msgspec.DecodeError) as error:
                        parts.text(str(error), "error-line")
