"""Sessions of the hub's own API: by a password, shown as a bearer token or by a browser's cookie."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_rig import Rig, running
from sqlalchemy import update

from vedette.hub.api import v1
from vedette.hub.attempts import FREE_ATTEMPTS
from vedette.hub.console import signin
from vedette.hub.cookie import COOKIE
from vedette.hub.registry.users import SESSION_S, Role, SessionRow

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        made.registry.users.add("ana", Role.OPERATOR)
        made.registry.users.set_password("ana", PASSWORD)
        yield made


async def sign_in(rig: Rig, **given: str) -> httpx.Response:
    return await rig.ask("POST", "/sessions", None, json={"user": "ana", "password": PASSWORD} | given)


async def ask(rig: Rig, method: str, path: str, headers: dict[str, str], **request: Any) -> httpx.Response:
    transport = httpx.ASGITransport(rig.app)
    async with httpx.AsyncClient(transport=transport, base_url=f"https://hub{v1.PREFIX}") as client:
        return await client.request(method, path, headers=headers, **request)


async def test_a_session_does_what_its_user_may(rig: Rig):
    """And no more; what it changes is put down to the user; it ends by signing out."""
    made = (await sign_in(rig)).json()
    assert (made["user"], made["role"]) == ("ana", "operator")
    bearer = {"Authorization": f"Bearer {made['token']}"}
    assert (await ask(rig, "GET", "/me", bearer)).json()["name"] == "ana"
    assert (await ask(rig, "POST", "/devices", bearer, json={"device_id": "pump"})).status_code == 201
    assert (await ask(rig, "GET", "/tokens", bearer)).status_code == 403
    (entry, *_) = rig.registry.tokens.audit()
    assert (entry.actor, entry.subject) == ("user:ana", "identities/pump")
    assert (await ask(rig, "DELETE", "/sessions/current", bearer)).status_code == 204
    assert (await ask(rig, "GET", "/me", bearer)).status_code == 401


async def test_a_browser_shows_its_session_by_cookie(rig: Rig):
    """The console's own; from another site's page it counts for nothing."""
    answer = await sign_in(rig)
    kept = answer.headers["set-cookie"].lower()
    assert all(word in kept for word in (COOKIE.lower(), "secure", "httponly", "samesite=strict"))
    cookie = {"cookie": f"{COOKIE}={answer.json()['token']}"}
    assert (await ask(rig, "GET", "/devices", cookie)).status_code == 200
    assert (await ask(rig, "GET", "/devices", cookie | {"origin": "https://hub"})).status_code == 200
    assert (await ask(rig, "GET", "/devices", cookie | {"origin": "https://evil"})).status_code == 401


async def test_an_old_session_is_none(rig: Rig):
    """After a working day one signs in again."""
    token = (await sign_in(rig)).json()["token"]
    with rig.registry._write.begin() as session:
        session.execute(update(SessionRow).values(begun=SessionRow.begun - SESSION_S))
    assert (await ask(rig, "GET", "/me", {"Authorization": f"Bearer {token}"})).status_code == 401


async def test_a_password_that_was_given_out_is_replaced_first(rig: Rig):
    """Without a new one there is no session."""
    given = rig.registry.users.add("bo", Role.VIEWER)
    assert (await sign_in(rig, user="bo", password=given)).status_code == 403
    short = await sign_in(rig, user="bo", password=given, new_password="short")
    assert (short.status_code, short.json()["detail"][0]["loc"]) == (422, ["body", "new_password"])
    assert '"short"' not in short.text
    made = await sign_in(rig, user="bo", password=given, new_password=PASSWORD)
    assert made.status_code == 201
    assert (await sign_in(rig, user="bo")).status_code == 201


async def test_passwords_cannot_be_guessed_quickly(rig: Rig):
    """After some failures even the right one has to wait, whatever the name."""
    failures = [(await sign_in(rig, password="wrong")).status_code for _ in range(FREE_ATTEMPTS)]
    assert failures == [401] * FREE_ATTEMPTS
    late = await sign_in(rig)
    assert late.status_code == 429
    assert int(late.headers["retry-after"]) >= 1


async def test_a_password_that_was_tried_at_the_console_was_tried_at_the_api_too(rig: Rig):
    """There are two doors and one lock."""
    rig.app.include_router(signin.router(rig.registry.users))
    transport = httpx.ASGITransport(rig.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://hub") as browser:
        for _ in range(FREE_ATTEMPTS):
            form = {"name": "ana", "password": "wrong"}
            assert (await browser.post("/console/sign-in", data=form)).status_code == 403
    assert (await sign_in(rig)).status_code == 429
