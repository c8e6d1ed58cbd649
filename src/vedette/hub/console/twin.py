"""The twin of one device: its settings as a form and as JSON, what the device says, and what was before."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import msgspec
from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import Column, Tone, at
from vedette.hub.console.rollout import whose
from vedette.hub.console.twin_form import changes, differences
from vedette.hub.console.twin_sheet import Sheet
from vedette.hub.registry import RegistryError, Twin, TwinError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.twins import difference
from vedette.hub.registry.users import Role
from vedette.wire.twin import LATEST_STATE

STATE_TONE: dict[str, Tone] = {"in force": "good", "refused": "bad", "pending": "warn"}

POLL_S = 2.0
"""How often to look whether the device has spoken: it answers within seconds."""

MAX_PATCH = 4_000
"""Characters of a change that go into the address of the page for groups; it begins empty beyond."""


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/twin/{device_id}", response_timeout=30)
    async def twin(request: Request, device_id: str, module: str = "") -> None:
        try:
            identity = await call(lambda: whose(backend.registry, device_id, module))
            found = await call(lambda: backend.registry.twin(identity))
        except RegistryError as error:
            with parts.frame(request, device_id, "/devices"):
                parts.text(str(error), "empty")
            return
        with parts.frame(request, f"Configuration of {device_id}", "/devices") as beside:
            with beside:
                parts.text(
                    f"module {identity.module_id}" if identity.module_id else "the device itself", "dim"
                )
                parts.link("Device", parts.device_at(device_id))
            editor = _Editor(backend, request, found)
        await editor.show_history()
        ui.timer(POLL_S, editor.look)


class _Editor:
    """What is edited, beside what the registry has and what the device says."""

    def __init__(self, backend: Backend, request: Request, twin: Twin) -> None:
        self._backend = backend
        self._request = request
        self._twin = twin
        self._may = parts.may(request, Role.OPERATOR)
        self._sheet = Sheet(twin.desired, may=self._may, edited=self._edited)
        with parts.block("cols even"):
            with parts.panel(
                "Settings", "What is changed here is bold. Emptied or undone, a setting has its default."
            ):
                self._sheet.form()
            with parts.block("stack"):
                self._side()
        self._edited()
        self._show_verdict()

    def _side(self) -> None:
        with parts.panel("Desired properties", "The same as JSON; either side may be edited."):
            self._sheet.json()
            with parts.block("row").style("margin-top: 8px"):
                self._apply = ui.button("Apply", icon="check", on_click=self.apply).props("unelevated dense")
                self._apply.classes("small")
                ui.button("Discard", on_click=self.discard).props("flat dense").set_enabled(self._may)
                self._group = ui.button("For a group …", on_click=self._to_group).props("flat dense")
                self._summary = ui.label().classes("dim")
        with parts.panel("What the device says"):
            self._verdict = parts.block("")
        with parts.panel("History", "Who wanted what, the newest first."):
            self._versions = parts.block("")

    @property
    def _patch(self) -> dict[str, Any]:
        return difference(self._twin.desired, self._sheet.document)

    def _edited(self) -> None:
        patch = self._patch
        self._apply.set_enabled(self._may and self._sheet.right and bool(patch))
        self._group.set_visibility(self._may and self._sheet.right and bool(patch))
        self._summary.text = (
            f"{len(patch)} changed: {', '.join(patch)[:120]}" if patch else "Nothing changed."
        )

    def _to_group(self) -> None:
        patch = msgspec.json.encode(self._patch).decode()
        parts.go(at("/configure", patch=patch if len(patch) <= MAX_PATCH else ""))

    def _show_verdict(self) -> None:
        found = differences(self._twin.desired, self._twin.reported)
        rows = [
            {
                "key": one.key,
                "desired": _plain(one.desired),
                "reported": _plain(one.reported),
                "state": one.state,
                "state_tone": STATE_TONE[one.state],
                "reason": one.reason,
            }
            for one in found
        ]
        columns = [
            Column("key", "Setting", "wrap"),
            Column("state", "State", "badge"),
            Column("desired", "Desired", "code"),
            Column("reported", "Reported", "code"),
        ]
        if any(one.reason for one in found):
            columns.append(Column("reason", "Why", "wrap"))
        self._verdict.clear()
        with self._verdict:
            verdict = self._twin.reported.get(LATEST_STATE)
            said = (
                "It has not reported yet." if verdict is None else f"Latest change: {parts.written(verdict)}."
            )
            parts.text(f"{said} Reported version {self._twin.reported_version}.", "dim")
            parts.table(columns, rows, empty="Nothing is desired: all settings have their defaults.")

    async def show_history(self) -> None:
        """Show the versions that are kept."""
        kept = await call(lambda: self._backend.history.versions(self._twin.identity))
        self._versions.clear()
        with self._versions:
            if not kept:
                parts.text("Nothing has been changed yet.", "empty")
            for newer, older in pairwise([*kept, None]):
                assert newer is not None  # only the last is none
                before = older.desired if older else {} if newer.version == 2 else None
                with parts.block("version"):
                    parts.text(f"{newer.version}", "mono dim")
                    with parts.block(""):
                        parts.text(
                            f"{parts.moment(newer.at)} UTC, {newer.actor.removeprefix('user:')}", "dim"
                        )
                        parts.text("\n".join(_told(before, newer.desired)), "changes mono")
                    if self._may and newer.version != self._twin.desired_version:
                        self._restore(newer.version, newer.desired)

    def _restore(self, version: int, desired: Mapping[str, Any]) -> None:
        def restore() -> None:
            self._sheet.put(desired)
            self._edited()
            ui.notify(f"Version {version} is in the editor; Apply makes it so.")

        button = ui.button("Restore", on_click=restore).props("flat dense size=sm")
        button.props(f'aria-label="Restore version {version}"')

    @parts.guarded
    async def apply(self, *_: Any) -> None:
        """Write what was changed; the gateway pushes it."""
        user = await self._backend.demand(self._request, Role.OPERATOR)
        patch = self._patch
        try:
            with acting_as(f"user:{user.name}"):
                write = self._backend.registry.patch_desired
                self._twin = await call(lambda: write(self._twin.identity, patch))
        except (RegistryError, TwinError) as error:
            raise ValueError(str(error)) from None
        self._follow()
        await self.show_history()
        ui.notify(f"Applied, version {self._twin.desired_version}. Waiting for the device.", type="positive")

    def discard(self) -> None:
        """Go back to what the registry has."""
        self._follow()

    def _follow(self) -> None:
        self._sheet.put(self._twin.desired)
        self._edited()
        self._show_verdict()

    async def look(self) -> None:
        """Show what the device, or somebody else, has written meanwhile; what is edited here stays."""
        twin = await call(lambda: self._backend.registry.twin(self._twin.identity))
        before = (self._twin.desired_version, self._twin.reported_version)
        if (twin.desired_version, twin.reported_version) == before:
            return
        untouched = not self._patch
        newer = twin.desired_version != self._twin.desired_version
        self._twin = twin
        if untouched:
            self._follow()
        else:
            self._edited()
            self._show_verdict()
        if newer:
            await self.show_history()


def _told(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """What a version changed; what it says altogether where the one before is not known."""
    return (changes(before, after) if before is not None else changes({}, after)) or ["nothing"]


def _plain(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()[:200]
