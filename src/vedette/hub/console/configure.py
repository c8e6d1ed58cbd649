"""Settings for a group of devices: edit, see who would change, apply, and follow what the devices say."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import Column, Tone, at, count
from vedette.hub.console.rollout import Member, Outcome, Rollout
from vedette.hub.console.twin_sheet import Sheet
from vedette.hub.registry.users import Role

SHOWN = 100
"""Devices that are shown one by one."""

LOOK_S = 1.0
"""How often the pages look how far it is."""

TONES: dict[Outcome, Tone] = {
    "waits": "",
    "same": "",
    "failed": "bad",
    "pending": "warn",
    "in force": "good",
    "refused": "bad",
}

_running: set[asyncio.Task[None]] = set()
"""Rollouts go on when nobody watches; the loop itself holds tasks weakly."""


def routes(backend: Backend) -> None:
    """Add the pages."""

    @ui.page("/configure", response_timeout=30)
    async def configure(request: Request, where: str = "", patch: str = "") -> None:
        with parts.frame(request, "Configure a group", "/devices"):
            if not parts.may(request, Role.OPERATOR):
                parts.text("Configuring devices needs the role operator.", "empty")
                return
            groups = await call(backend.shelf.groups)
            choices = {group.condition: group.name for group in groups}
            _Desk(backend, request, choices, where, _document(patch))

    @ui.page("/rollout/{rollout_id}", response_timeout=30)
    async def rollout(request: Request, rollout_id: str) -> None:
        found = backend.rollouts.get(rollout_id)
        with parts.frame(request, "Rollout", "/devices"):
            if found is None:
                parts.text("This hub does not know it; it remembers the latest since its start.", "empty")
                return
            watch = _Watch(backend, request, found)
        parts.live(watch.look, LOOK_S)


def _document(patch: str) -> dict[str, Any]:
    """A change that came by an address; nothing if it is none."""
    try:
        return msgspec.json.decode(patch, type=dict[str, Any]) if patch else {}
    except msgspec.DecodeError:
        return {}


class _Desk:
    """What is to change, for whom, and the preview."""

    def __init__(
        self,
        backend: Backend,
        request: Request,
        groups: dict[str, str],
        where: str,
        document: dict[str, Any],
    ) -> None:
        self._backend = backend
        self._request = request
        self._rollout: Rollout | None = None
        self._where: ui.input
        self._sheet = Sheet(document, may=True, edited=self._edited)
        with parts.block("cols even"):
            with parts.panel(
                "Settings", "What is set here is changed; all else stays as each device has it."
            ):
                self._sheet.form()
            with parts.block("stack"):
                with parts.panel("Devices", "Those that a condition on their twins holds for."):
                    if groups:
                        chosen = ui.select(groups, label="Group").props("outlined dense options-dense")
                        chosen.classes("full-width").style("margin-bottom: 8px")
                        chosen.on_value_change(lambda event: self._where.set_value(event.value or ""))
                    self._where = ui.input("Condition, as in tags.site = 'north'", value=where)
                    self._where.props("outlined dense").classes("full-width")
                    self._where.on_value_change(self._edited)
                with parts.panel("Change", "The same as JSON; null takes a setting back to its default."):
                    self._sheet.json(150)
                    with parts.block("row").style("margin-top: 8px"):
                        self._preview = ui.button("Preview", icon="preview").props("outline dense")
                        self._apply = ui.button("Apply", icon="check").props("unelevated dense")
                        for button in (self._preview, self._apply):
                            button.classes("small")
                        self._said = parts.text("", "dim")
        with parts.panel("Who changes, and what"):
            self._result = parts.block("")
        self._preview.on_click(parts.guarded(self._look))
        self._apply.on_click(parts.guarded(self._go))
        self._edited()

    def _edited(self, *_: object) -> None:
        self._rollout = None
        ready = self._sheet.right and bool(self._sheet.document) and bool((self._where.value or "").strip())
        self._preview.set_enabled(ready)
        self._apply.set_enabled(False)
        self._said.text = "" if ready else "Choose devices, and what to change."
        self._result.clear()
        with self._result:
            parts.text("The preview shows it before anything is written.", "empty")

    async def _look(self, *_: object) -> None:
        user = await self._backend.demand(self._request, Role.OPERATOR)
        condition = self._where.value.strip()
        rollout = Rollout(
            self._backend.registry, self._backend.roll, condition, self._sheet.document, user.name
        )
        ui.context.client.on_disconnect(lambda: self._abandon(rollout))
        self._preview.disable()
        timer = ui.timer(LOOK_S, lambda: self._say(f"{count(len(rollout.members))} looked at …"))
        try:
            await call(rollout.look)
        finally:
            timer.cancel()
            self._preview.enable()
        counts = rollout.counts()
        waiting = counts.get("waits", 0)
        self._say(f"{count(waiting)} of {count(len(rollout.members))} devices change.")
        self._rollout = rollout
        self._apply.set_enabled(waiting > 0)
        self._result.clear()
        with self._result:
            members_table(sorted(rollout.members[:SHOWN], key=lambda member: member.outcome == "same"))
            if len(rollout.members) > SHOWN:
                parts.text(f"The first {SHOWN} are shown.", "dim")

    def _abandon(self, rollout: Rollout) -> None:
        """The page was left: nobody waits for the preview. What was begun goes on."""
        if self._backend.rollouts.get(rollout.id) is None:
            rollout.cancel()

    def _say(self, text: str) -> None:
        self._said.text = text

    async def _go(self, *_: object) -> None:
        await self._backend.demand(self._request, Role.OPERATOR)
        rollout = self._rollout
        if rollout is None:
            raise ValueError("The change was edited meanwhile; look at the preview again.")
        self._backend.rollouts.keep(rollout)
        task = asyncio.create_task(call(rollout.run))
        _running.add(task)
        task.add_done_callback(_running.discard)
        parts.go(at(f"/rollout/{rollout.id}"))


class _Watch:
    """A rollout as it goes on."""

    def __init__(self, backend: Backend, request: Request, rollout: Rollout) -> None:
        self._rollout = rollout
        with parts.block("stack"):
            with parts.panel("", f"For {rollout.condition}, by {rollout.who}."):
                parts.text(msgspec.json.encode(rollout.patch).decode(), "code")
                with parts.block("row").style("margin-top: 10px"):
                    self._tallies = parts.block("row")
                    self._stop = ui.button("Cancel").props("outline dense").classes("small")
                self._bar = ui.linear_progress(0, show_value=False, size="4px").style("margin-top: 10px")
                self._bar.props('aria-label="Progress"')
            with parts.panel("Devices", "What each says of the change."):
                self._table = parts.block("")

        async def cancel(*_: object) -> None:
            await backend.demand(request, Role.OPERATOR)
            rollout.cancel()

        self._stop.on_click(parts.guarded(cancel))
        self._seen: object = None
        self._show()

    async def look(self) -> None:
        """Ask the devices on, and show what is new."""
        await call(self._rollout.settle)
        if self._rollout.counts() != self._seen:
            self._show()

    def _show(self) -> None:
        rollout = self._rollout
        counts = self._seen = rollout.counts()
        self._bar.value = rollout.done / max(1, len(rollout.members))
        over = rollout.done >= len(rollout.members) or rollout.cancelled
        self._stop.set_visibility(not over)
        self._tallies.clear()
        with self._tallies:
            for outcome, tone in TONES.items():
                if number := counts.get(outcome, 0):
                    parts.badge(f"{count(number)} {outcome}", tone)
        order: dict[Outcome, int] = {"failed": 0, "refused": 0, "pending": 1, "waits": 2}
        shown = sorted(rollout.members, key=lambda m: (order.get(m.outcome, 3), m.identity.device_id))
        self._table.clear()
        with self._table:
            members_table(shown[:SHOWN])


def members_table(members: list[Member]) -> None:
    """Devices of a rollout."""
    rows = [
        {
            "device": member.identity.device_id,
            "device_href": at(f"/twin/{parts.path_part(member.identity.device_id)}"),
            "module": member.identity.module_id,
            "state": {"waits": "changes", "same": "has it already"}.get(member.outcome, member.outcome),
            "state_tone": TONES[member.outcome],
            "changes": "\n".join(member.changes),
            "why": member.why,
        }
        for member in members
    ]
    columns = [
        Column("device", "Device", "link"),
        Column("module", "Module"),
        Column("state", "State", "badge"),
        Column("changes", "What changes", "code"),
    ]
    if any(member.why for member in members):
        columns.append(Column("why", "Why", "wrap"))
    parts.table(columns, rows, empty="The condition holds for no device.", page=50)
