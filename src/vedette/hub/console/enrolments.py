"""How a device proves itself when it registers, and the enrolments that there are."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import Column
from vedette.hub.console.tags import told
from vedette.hub.registry import RegistryError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.enrollments import Enrollment
from vedette.hub.registry.users import Role

MAX_PEM = 65_536
"""Characters of a certificate that is pasted: twenty times an ordinary one."""


class Proof:
    """The choice between a key that is made here and a certificate that is pasted.

    It is placed where it is made.
    """

    def __init__(self, certificate: str) -> None:
        choices = {"key": "A key, made here", "certificate": certificate}
        self._choice = ui.select(choices, value="key", label="Proof").props("outlined dense options-dense")
        self._choice.style("width: 230px")

    def field(self, label: str) -> None:
        """Place the field for the certificate, which is seen where it is needed."""
        self._pem = ui.textarea(label, placeholder="-----BEGIN CERTIFICATE-----")
        self._pem.props(f"outlined dense autogrow maxlength={MAX_PEM}").classes("full-width mono")
        self._pem.bind_visibility_from(self._choice, "value", lambda value: value == "certificate")

    @property
    def elements(self) -> tuple[ui.select, ui.textarea]:
        """What is used no more when the choice was made."""
        return self._choice, self._pem

    @property
    def pem(self) -> str:
        """The certificate; empty where a key was chosen. Raises ValueError if it is missing."""
        if self._choice.value == "key":
            return ""
        if text := str(self._pem.value or "").strip():
            return text
        raise ValueError("certificate: paste the PEM text of one")


async def enrolments(backend: Backend, request: Request) -> None:
    """All of them, and a way to end those that are marked."""
    found = await call(backend.registry.enrollments.list)
    about = "What may register itself. A device that did stays when its enrolment is ended."
    with parts.panel("Enrolments", about):
        columns = (
            Column("name", "Name"),
            Column("kind", "For"),
            Column("proof", "Proof", "badge"),
            Column("tags", "Tags of the first twin", "wrap"),
            Column("state", "State", "badge"),
        )
        rows = [_row(one) for one in found]
        table = parts.table(columns, rows, empty="There is none yet.", page=50, selectable=True)
        if table is None:
            return

        async def end(*_: object) -> None:
            user = await backend.demand(request, Role.OPERATOR)
            with acting_as(f"user:{user.name}"):
                for row in list(table.selected):
                    await call(lambda row=row: _end(backend, row))  # type: ignore[misc]
            ui.navigate.reload()

        with parts.block("row actions"):
            parts.marked_button(
                table, "End", end, "Nothing registers itself by the marked enrolments any more."
            )


def _end(backend: Backend, row: dict[str, Any]) -> None:
    """Raises ValueError if somebody else was faster."""
    try:
        backend.registry.enrollments.remove(row["name"], grouped=row["grouped"])
    except RegistryError as error:
        raise ValueError(str(error)) from None


def _row(one: Enrollment) -> dict[str, Any]:
    return {
        "name": one.name,
        "grouped": one.grouped,
        "kind": "a group" if one.grouped else "one device",
        "proof": "certificate" if one.certificates else "key",
        "proof_tone": "note" if one.certificates else "",
        "tags": ", ".join(told(one.tags)),
        "state": "on" if one.enabled else "off",
        "state_tone": "good" if one.enabled else "",
    }
