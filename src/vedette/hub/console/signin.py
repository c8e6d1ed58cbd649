"""Signing in and out, and changing one's password: plain forms, for there is no session yet to run more."""

from __future__ import annotations

import asyncio
import logging
from html import escape
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from vedette.hub import cookie
from vedette.hub.attempts import TooManyAttempts
from vedette.hub.console.gate import PATH, SIGN_IN, STATIC
from vedette.hub.registry import RegistryError
from vedette.hub.registry.users import MAX_NAME, MAX_PASSWORD, MIN_PASSWORD, User, Users

log = logging.getLogger(__name__)

_DIRECTORY = Path(__file__).parent / "static"
STATIC_FILES = ("complete.js", "console.css", "mark.svg", "page.js")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Vedette</title><link rel="stylesheet" href="{static}console.css">
<link rel="icon" href="{static}mark.svg"></head>
<body class="door"><main><form method="post">
<img src="{static}mark.svg" alt="" width="40" height="40"><h1>{title}</h1><p class="hint">{hint}</p>
{error}{fields}<button type="submit">{action}</button></form></main></body></html>"""


def router(users: Users) -> APIRouter:
    """The routes of sign-in, sign-out and password, and the static files that these pages need."""
    door = _Door(users)
    routes = APIRouter(prefix=PATH, include_in_schema=False)
    for path, method, answer in (
        ("/static/{name}", "GET", door.static),
        ("/sign-in", "GET", door.ask),
        ("/sign-in", "POST", door.sign_in),
        ("/sign-out", "POST", door.sign_out),
        ("/password", "GET", door.ask_password),
        ("/password", "POST", door.set_password),
    ):
        routes.add_api_route(path, answer, methods=[method], response_model=None)
    return routes


class _Door:
    def __init__(self, users: Users) -> None:
        self._users = users

    async def static(self, name: str) -> Response:
        if name not in STATIC_FILES:
            return Response(status_code=404)
        return FileResponse(_DIRECTORY / name, headers={"cache-control": "no-cache"})

    async def ask(self) -> Response:
        return _sign_in("")

    async def sign_in(
        self, request: Request, name: Annotated[str, Form()] = "", password: Annotated[str, Form()] = ""
    ) -> Response:
        client = request.client.host if request.client else ""
        try:
            user = await asyncio.to_thread(self._users.sign_in, name, password, client)
        except TooManyAttempts as error:
            return _sign_in(f"Too many attempts. Try again in {error.seconds:.0f} seconds.", status=429)
        if user is None:
            log.warning("console: refused a sign-in as %r from %s", name[:MAX_NAME], client)
            return _sign_in("Name or password is wrong.", status=403)
        log.info("console: %s signed in from %s", user.name, client)
        return await _signed_in(self._users, user, _below(request.query_params.get("next", "")))

    async def sign_out(self, request: Request) -> Response:
        await asyncio.to_thread(self._users.close_session, request.state.token)
        response = RedirectResponse(SIGN_IN, 303)
        cookie.take_back(response)
        return response

    async def ask_password(self, request: Request) -> Response:
        return _password(request.state.user, "")

    async def set_password(
        self, request: Request, password: Annotated[str, Form()] = "", again: Annotated[str, Form()] = ""
    ) -> Response:
        user: User = request.state.user
        if password != again:
            return _password(user, "The two are not the same.", status=400)
        try:
            await asyncio.to_thread(self._users.set_password, user.name, password)
        except RegistryError as error:
            return _password(user, str(error), status=400)
        log.info("console: %s changed the password", user.name)
        return await _signed_in(self._users, user, f"{PATH}/")


async def _signed_in(users: Users, user: User, target: str) -> Response:
    response = RedirectResponse(target, 303)
    cookie.give(response, await asyncio.to_thread(users.open_session, user))
    return response


def _below(target: str) -> str:
    """Where to go after signing in: a page of the console, whatever the address says."""
    safe = target.startswith(f"{PATH}/") and not any(char in target for char in "\r\n\\")
    return target if safe and not target.startswith(SIGN_IN) else f"{PATH}/"


def _sign_in(error: str, status: int = 200) -> HTMLResponse:
    fields = (
        '<label>Name<input name="name" autocomplete="username" required autofocus></label>'
        '<label>Password<input name="password" type="password" autocomplete="current-password" required>'
        "</label>"
    )
    return _form("Vedette", "Sign in to the console of this hub.", error, fields, "Sign in", status)


def _password(user: User, error: str, status: int = 200) -> HTMLResponse:
    limits = f'type="password" minlength="{MIN_PASSWORD}" maxlength="{MAX_PASSWORD}" required'
    fields = (
        f'<label>New password<input name="password" autocomplete="new-password" autofocus {limits}></label>'
        f'<label>Once more<input name="again" autocomplete="new-password" {limits}></label>'
    )
    hint = f"{user.name}: at least {MIN_PASSWORD} characters. Other browsers are signed out."
    return _form("Choose a password", hint, error, fields, "Set password", status)


def _form(title: str, hint: str, error: str, fields: str, action: str, status: int) -> HTMLResponse:
    shown = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    page = _PAGE.format(
        title=escape(title), hint=escape(hint), error=shown, fields=fields, action=action, static=STATIC
    )
    return HTMLResponse(page, status, headers={"cache-control": "no-store"})
