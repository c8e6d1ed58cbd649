"""The frame of a page: navigation, title, who is signed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request
from nicegui import ui

from vedette.hub.console.gate import PASSWORD, PATH, STATIC
from vedette.hub.console.parts.elements import element
from vedette.hub.registry.users import Role, User

_ENTRIES = (
    ("/", "Overview", "space_dashboard", Role.VIEWER),
    ("/devices", "Devices", "memory", Role.VIEWER),
    ("/alerts", "Alerts", "notifications_active", Role.VIEWER),
    ("/recommendations", "Recommendations", "checklist", Role.VIEWER),
    ("/investigate", "Investigate", "manage_search", Role.ANALYST),
    ("/rules", "Rules", "gavel", Role.VIEWER),
    ("/intelligence", "Intelligence", "travel_explore", Role.ANALYST),
    ("/notifications", "Notifications", "campaign", Role.OPERATOR),
    ("/enrol", "Enrol a device", "add_link", Role.OPERATOR),
    ("/hub", "Hub", "dns", Role.OPERATOR),
    ("/admin", "Administration", "admin_panel_settings", Role.ADMIN),
)
"""Path, name, picture, and the role from which on there is something to see."""


@contextmanager
def frame(request: Request, title: str, active: str) -> Iterator[ui.element]:
    """A page with its navigation; yields the element beside the title, for what is chosen there."""
    ui.page_title(f"{title} · Vedette")
    ui.add_head_html(f'<link rel="stylesheet" href="{STATIC}console.css">')
    ui.add_head_html(f'<script defer src="{STATIC}page.js"></script>')
    theme = request.cookies.get("vedette-theme", "")
    dark = ui.dark_mode({"dark": True, "light": False}.get(theme))
    ui.colors(primary="#0f766e", secondary="#4f7fd9", dark="#141e26", dark_page="#0d141a")
    with ui.element("div").classes("shell"):
        with ui.element("nav").classes("rail").props('aria-label="Main"'):
            _rail(request.state.user, active, dark)
        with ui.element("div").classes("page"):
            with ui.element("div").classes("head"):
                element("h1", title)
                beside = ui.element("div").classes("row")
            yield beside


def _rail(user: User, active: str, dark: ui.dark_mode) -> None:
    with ui.element("a").classes("brand").props(f'href="{PATH}/"'):
        ui.element("img").props(f'src="{STATIC}mark.svg" alt=""')
        element("span", "Vedette")
    _menu_button()
    for path, name, icon, role in _ENTRIES:
        if user.role >= role:
            entry = ui.element("a").classes("entry" + (" on" if path == active else ""))
            entry.props(f'href="{PATH}{path}"' + (' aria-current="page"' if path == active else ""))
            with entry:
                ui.icon(icon)
                element("span", name)
    with ui.element("div").classes("foot"):
        with ui.element("div").classes("who"):
            element("b", user.name)
            element("span", f" · {user.role.name.lower()}")
        _theme_button(dark)
        element("a", "Password").classes("who").props(f'href="{PASSWORD}"')
        with ui.element("form").props(f'method="post" action="{PATH}/sign-out"'):
            element("button", "Sign out").classes("plain").props('type="submit"')


def _menu_button() -> None:
    """On a phone the entries are behind it."""
    button = (
        ui.element("button").classes("menu").props('type="button" aria-label="Menu" aria-expanded="false"')
    )
    button.on(
        "click",
        js_handler="event => { const button = event.currentTarget; const open ="
        " button.closest('.rail').classList.toggle('open'); button.setAttribute('aria-expanded', open); }",
    )
    with button:
        ui.icon("menu")


def _theme_button(dark: ui.dark_mode) -> None:
    def choose() -> None:
        # The browser knows what "as the system" looks like at the moment; it turns that around.
        ui.run_javascript(
            "const d = !document.body.classList.contains('body--dark');"
            "document.cookie = 'vedette-theme=' + (d ? 'dark' : 'light') +"
            " ';path=/;max-age=31536000;samesite=strict;secure'; location.reload();"
        )

    element("button", "Light or dark").classes("plain").props('type="button"').on("click", choose)
