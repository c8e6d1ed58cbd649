"""The hub itself: what is wrong, its processes, who holds which lease, the tables of the lake, the disk."""

from __future__ import annotations

import time

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import Column, Tone, count
from vedette.hub.registry.users import Role
from vedette.hub.status import SILENT_S, HubStatus, look

PERIOD_S = 10.0
"""How often an open page looks again: it asks every part of the hub, its own process by HTTPS included."""


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/hub", response_timeout=30)
    async def hub(request: Request) -> None:
        with parts.frame(request, "Hub", "/hub"):
            if not parts.may(request, Role.OPERATOR):
                parts.text("The hub's status needs the role operator.", "empty")
                return
            body = parts.block("stack")

        async def show() -> None:
            status = await call(lambda: look(backend.state, backend.database))
            body.clear()
            with body:
                _show(status)

        await show()
        parts.live(show, PERIOD_S)


def _show(status: HubStatus) -> None:
    _verdict(status)
    _tiles(status)
    with parts.block("cols two"):
        with parts.panel("Processes", "Hubs on this registry, by their signs of life."):
            _processes(status)
        with parts.panel("Leases", "Work that only one process does at a time, and which one."):
            _leases(status)
    with parts.panel("Lake", status.lake.location):
        _tables(status)
    with parts.panel("Where it lives"):
        parts.facts([("State", status.state), ("Registry", status.registry.location)])


def _verdict(status: HubStatus) -> None:
    with parts.panel("What needs attention" if status.problems else ""):
        if not status.problems:
            with parts.block("row"):
                parts.badge("ok", "good")
                parts.text("All parts answer and keep up.")
        for problem in status.problems:
            parts.text(problem, "error-line")


def _tiles(status: HubStatus) -> None:
    local, disk, now = status.local, status.disk, time.time()
    with parts.block("cols tiles"):
        commit = f"newest commit {parts.ago(local.committed, now)}" if local.committed else "no commit yet"
        parts.tile("Rows that wait", count(local.waiting), commit)
        parts.tile("Connected here", count(local.connected), f"{count(status.registry.connected)} in all")
        behind = "n/a" if status.behind is None else count(status.behind)
        parts.tile("Detection behind", behind, "commits not judged yet")
        free = f"{100 * disk.free / disk.total:.0f} % of {parts.size(disk.total)}"
        parts.tile("Disk free", parts.size(disk.free), free)
        ends = status.certificate_expires
        until = parts.moment(ends)[:10] if ends else "none that can be read"
        parts.tile("Certificate", f"{(ends - now) / 86_400:.0f} d" if ends else "n/a", f"until {until}")


def _sign(age: float) -> tuple[str, Tone]:
    """How somebody is who was last heard of so many seconds ago."""
    return ("silent", "bad") if age > SILENT_S else ("alive", "good")


def _processes(status: HubStatus) -> None:
    rows = []
    for hub in status.registry.hubs:
        state, tone = _sign(hub.age)
        rows.append(
            {
                "name": hub.name,
                "state": state,
                "state_tone": tone,
                "role": hub.role,
                "version": hub.version,
                "started": parts.moment(hub.started),
            }
        )
    columns = (
        Column("name", "Process", "wrap"),
        Column("state", "State", "badge"),
        Column("role", "Role"),
        Column("version", "Version"),
        Column("started", "Since, UTC"),
    )
    parts.table(columns, rows, empty="No process has entered the registry.", page=20)


def _leases(status: HubStatus) -> None:
    rows = []
    for lease in status.registry.leases:
        state, tone = _sign(lease.age)
        age = f"{lease.age:.0f} s ago"
        rows.append(
            {"work": lease.work, "state": state, "state_tone": tone, "holder": lease.holder, "age": age}
        )
    columns = (
        Column("work", "Work"),
        Column("state", "State", "badge"),
        Column("holder", "Holder", "wrap"),
        Column("age", "Renewed"),
    )
    parts.table(columns, rows, empty="Nobody holds a lease.")


def _tables(status: HubStatus) -> None:
    if status.lake.fault:
        parts.text(status.lake.fault, "error-line")
    rows = [
        {
            "name": table.name,
            "rows": count(table.rows),
            "files": count(table.files),
            "bytes": parts.size(table.bytes),
            "version": "" if table.version < 0 else count(table.version),
            "committed": parts.moment(table.committed),
        }
        for table in status.lake.tables
    ]
    columns = (
        Column("name", "Table", "mono"),
        Column("rows", "Rows", "number"),
        Column("files", "Files", "number"),
        Column("bytes", "Size", "number"),
        Column("version", "Version", "number"),
        Column("committed", "Latest commit, UTC"),
    )
    parts.table(columns, rows, empty="The lake has no tables yet.")
