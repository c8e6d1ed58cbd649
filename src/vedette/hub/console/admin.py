"""Administration: who may sign in, as what; and who changed what."""

from __future__ import annotations

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import Column, at
from vedette.hub.registry import RegistryError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.users import Role

AUDIT_PAGE = 50
"""Entries of the audit log on a page."""

ROLES = {role.value: role.name.lower() for role in Role}


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/admin", response_timeout=30)
    async def admin(request: Request, before: int = 0) -> None:
        with parts.frame(request, "Administration", "/admin"):
            if not parts.may(request, Role.ADMIN):
                parts.text("Administration needs the role admin.", "empty")
                return
            with parts.block("stack"):
                with parts.panel("Users"):
                    await _users(backend, request)
                with parts.panel("Audit log", "Who changed what, the newest first."):
                    await _audit(backend, before)


async def _users(backend: Backend, request: Request) -> None:
    users = await call(backend.users.list)
    names = [user.name for user in users]
    rows = [
        {
            "name": user.name,
            "role": user.role.name.lower(),
            "password": "to be chosen" if user.must_change else "chosen",
        }
        for user in users
    ]
    columns = (Column("name", "User"), Column("role", "Role"), Column("password", "Password"))
    parts.table(columns, rows, empty="")
    with parts.block("row").style("margin-top: 10px"):
        name = ui.input("New user").props("outlined dense maxlength=64")
        role = ui.select(ROLES, value=Role.VIEWER.value, label="Role").props("outlined dense options-dense")
        add = ui.button("Add").props("unelevated dense").style("padding: 3px 14px")
        gone = (
            ui.select(names, label="User to remove")
            .props("outlined dense options-dense")
            .style("width: 180px")
        )
        remove = ui.button("Remove").props("outline dense").style("padding: 3px 14px")
    said = parts.block("")

    async def make(*_: object) -> None:
        user = await backend.demand(request, Role.ADMIN)
        wanted, as_role = (name.value or "").strip(), Role(role.value)
        try:
            with acting_as(f"user:{user.name}"):
                password = await call(lambda: backend.users.add(wanted, as_role))
        except RegistryError as error:
            raise ValueError(str(error)) from None
        said.clear()
        with said:
            parts.text(
                f"{wanted} signs in with the one-time password {password}; it is shown here only.", "code"
            )

    async def drop(*_: object) -> None:
        user = await backend.demand(request, Role.ADMIN)
        try:
            with acting_as(f"user:{user.name}"):
                await call(lambda: backend.users.remove(str(gone.value or "")))
        except RegistryError as error:
            raise ValueError(str(error)) from None
        ui.navigate.reload()

    add.on_click(parts.guarded(make))
    remove.on_click(parts.guarded(drop))


async def _audit(backend: Backend, before: int) -> None:
    entries = await call(lambda: backend.registry.tokens.audit(AUDIT_PAGE + 1, before or None))
    rows = [
        {
            "time": parts.moment(entry.time),
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "detail": ", ".join(f"{key}: {_plain(value)}" for key, value in entry.detail.items()),
        }
        for entry in entries[:AUDIT_PAGE]
    ]
    columns = (
        Column("time", "Time, UTC"),
        Column("actor", "Who"),
        Column("action", "Did"),
        Column("subject", "To", "mono"),
        Column("detail", "What changed", "code"),
    )
    parts.table(columns, rows, empty="Nothing was changed yet.")
    with parts.block("row"):
        if before:
            parts.link("← Newest", at("/admin"))
        if len(entries) > AUDIT_PAGE:
            parts.link("Older →", at("/admin", before=entries[AUDIT_PAGE - 1].seq))


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
