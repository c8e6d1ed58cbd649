"""A new route of notifications: where it leads, what it is told of, and its secret, shown once."""

from __future__ import annotations

from typing import get_args

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.notify.routes import (
    MAX_AUTHORITY,
    MAX_SECRET,
    SEVERITIES,
    WINDOW_S,
    Form,
    Route,
    Routes,
    Wanted,
)
from vedette.hub.notify.target import MAX_URL
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.users import Role

URLS = "https · syslog+tls · syslog+tcp · syslog+udp · smtp · smtps · mqtts · mqtt"

_FORMS = dict(zip(get_args(Form), ("JSON", "CEF", "OCSF", "Elastic (ECS)", "Sentinel"), strict=True))
_ABOUT = {"alerts": "Alerts", "recommendations": "Recommendations", "all": "Both"}
_WINDOWS = {0: "Each by itself", WINDOW_S: "30 seconds", 300: "5 minutes", 3600: "1 hour", 86400: "1 day"}


def new_route(backend: Backend, request: Request, routes: Routes) -> None:
    """A button that opens the form."""
    with ui.dialog() as dialog, ui.card().classes("wide"):
        form = _Fields()
        said = parts.block("")

        async def add(*_: object) -> None:
            user = await backend.demand(request, Role.ADMIN)
            route = form.route()
            with acting_as(f"user:{user.name}"):
                made = await call(lambda: routes.add(route))
            if made.secret == route.secret:
                ui.navigate.reload()
                return
            buttons.clear()
            with said:
                parts.text(
                    "Receivers check the signature of messages with this secret. It is shown here only."
                )
                parts.text(made.secret, "code")
            with buttons:
                ui.button("Done", on_click=ui.navigate.reload).props("unelevated dense").classes("small")

        with parts.block("row") as buttons:
            ui.button("Add", on_click=parts.guarded(add)).props("unelevated dense").classes("small")
            ui.button("Cancel", on_click=dialog.close).props("flat dense")
    ui.button("New route", icon="add", on_click=dialog.open).props("unelevated dense").classes("small")


class _Fields:
    """The fields of the form, placed where it is made."""

    def __init__(self) -> None:
        parts.text("New route").style("font-weight: 600")
        self._name = _text("Name, as in duty-chat", "maxlength=64 autofocus")
        self._url = _text("URL, as in https://hooks.example.net/T0 or syslog+tls://siem.example.net")
        self._url.props(f'maxlength={MAX_URL} hint="{URLS}"')
        self._secret = _text("Password, or a webhook's signing secret (made if empty)")
        self._secret.props(f"type=password autocomplete=off maxlength={MAX_SECRET}")
        with parts.block("pair"):
            self._about = _choice("About", _ABOUT, "alerts")
            self._severity = _choice("From severity", {one: one for one in SEVERITIES}, SEVERITIES[0])
            self._form = _choice("Form", _FORMS, "json")
            self._window = _choice("Gathered for", _WINDOWS, WINDOW_S)
        self._types = _text("Types, as in IoT_USB*, IoT_Reverse* (empty: all)")
        self._where = _text("Only devices where, as in tags.site = 'north' (empty: all)")
        self._changes = ui.checkbox("Also when a finding is dismissed, resolved or taken up").props("dense")
        self._private = ui.checkbox("A webhook may lead to a private address").props("dense")
        with ui.expansion("Trust these certificates instead of the system's").classes("full-width"):
            self._authority = ui.textarea("PEM").props(f"outlined dense maxlength={MAX_AUTHORITY}")
            self._authority.classes("full-width mono")

    def route(self) -> Route:
        """What they say; whether it can work is judged when it is added."""
        types = (one.strip() for one in (self._types.value or "").split(","))
        wanted = Wanted(
            severity=self._severity.value,
            types=tuple(filter(None, types)),
            where=(self._where.value or "").strip(),
            about=self._about.value,
            changes=bool(self._changes.value),
        )
        return Route(
            name=(self._name.value or "").strip(),
            url=(self._url.value or "").strip(),
            secret=self._secret.value or "",
            authority=(self._authority.value or "").strip(),
            form=self._form.value,
            wanted=wanted,
            window=float(self._window.value),
            allow_private=bool(self._private.value),
        )


def _text(label: str, props: str = "") -> ui.input:
    return ui.input(label).props(f"outlined dense {props}").classes("full-width")


def _choice(label: str, choices: dict[str, str] | dict[float, str], value: str | float) -> ui.select:
    return ui.select(choices, value=value, label=label).props("outlined dense options-dense")
