"""Who passes to the console, over the real sign-in, without the pages behind it."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.types import Message

from vedette.hub.attempts import FREE_ATTEMPTS
from vedette.hub.console import signin
from vedette.hub.console.gate import Gate
from vedette.hub.cookie import COOKIE
from vedette.hub.detect.schema import Database
from vedette.hub.registry.users import FIRST_USER, Users

BASE = "https://hub.example"
LONG = "correct horse battery staple"


class Door:
    """An application with a console of one page, and a client without a session."""

    def __init__(self, path: Path) -> None:
        self.database = Database(f"sqlite:///{path / 'registry.db'}")
        self.users = Users(self.database.read, self.database.write)
        self.password = self.users.ensure_admin() or ""
        self.application = FastAPI()
        self.application.include_router(signin.router(self.users))
        self.application.add_middleware(Gate, users=self.users)

        @self.application.get("/console/page")
        async def page(request: Request) -> dict[str, str]:
            return {"user": request.state.user.name}

        @self.application.get("/healthz")
        async def health() -> dict[str, str]:
            return {}

        @self.application.websocket("/console/_nicegui_ws/socket.io")
        async def socket(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.close()

        transport = httpx.ASGITransport(self.application)
        self.client = httpx.AsyncClient(transport=transport, base_url=BASE)

    async def sign_in(self, password: str, *, target: str = "", **headers: str) -> httpx.Response:
        address = "/console/sign-in" + (f"?next={target}" if target else "")
        form = {"name": FIRST_USER, "password": password}
        return await self.client.post(address, data=form, headers=headers)

    async def signed_in(self) -> None:
        self.users.set_password(FIRST_USER, LONG)
        assert (await self.sign_in(LONG)).status_code == 303


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    made = Door(tmp_path)
    yield made
    await made.client.aclose()
    made.database.close()


async def test_without_a_session_every_page_leads_to_the_sign_in(door: Door):
    """And back to where one wanted to go; what is not the console is not concerned."""
    asked = await door.client.get("/console/page?q=%3Cb%3E")
    assert asked.status_code == 303
    assert asked.headers["location"] == "/console/sign-in?next=%2Fconsole%2Fpage%3Fq%3D%253Cb%253E"
    assert (await door.client.get("/healthz")).status_code == 200
    door.users.set_password(FIRST_USER, LONG)
    arrived = await door.sign_in(LONG, target="%2Fconsole%2Fpage%3Fq%3D1")
    assert arrived.headers["location"] == "/console/page?q=1"
    assert (await door.client.get("/console/page")).json() == {"user": FIRST_USER}


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/other", "/console/%0d%0ax", "/console/%5Cx"]
)
async def test_signing_in_leads_nowhere_else(door: Door, target: str):
    """An address that somebody made up cannot send people to another site."""
    door.users.set_password(FIRST_USER, LONG)
    assert (await door.sign_in(LONG, target=target)).headers["location"] == "/console/"


async def test_the_one_time_password_has_to_be_replaced_first(door: Door):
    """Until then there is one page only; afterwards the old session is over."""
    assert (await door.sign_in(door.password)).status_code == 303
    asked = await door.client.get("/console/page")
    assert (asked.status_code, asked.headers["location"]) == (303, "/console/password")
    short = await door.client.post("/console/password", data={"password": "short", "again": "short"})
    assert short.status_code == 400
    other = await door.client.post("/console/password", data={"password": LONG, "again": LONG + "r"})
    assert other.status_code == 400
    before = door.client.cookies[COOKIE]
    done = await door.client.post("/console/password", data={"password": LONG, "again": LONG})
    assert done.status_code == 303
    assert (await door.client.get("/console/page")).status_code == 200
    assert door.users.session(before) is None


async def test_the_cookie_is_for_this_host_and_out_of_reach_of_scripts(door: Door):
    """Signing out takes its worth away."""
    door.users.set_password(FIRST_USER, LONG)
    cookie = (await door.sign_in(LONG)).headers["set-cookie"]
    assert cookie.startswith("__Host-")
    for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
        assert word in cookie
    token = door.client.cookies[COOKIE]
    await door.client.post("/console/sign-out")
    assert door.users.session(token) is None
    assert (
        await door.client.get("/console/page", headers={"cookie": f"{COOKIE}={token}"})
    ).status_code == 303


async def test_guessing_is_slowed_down_even_for_the_right_password(door: Door):
    """After some failures there is a pause, in which nothing is looked at."""
    door.users.set_password(FIRST_USER, LONG)
    answers = [(await door.sign_in("guess")).status_code for _ in range(FREE_ATTEMPTS)]
    assert answers == [403] * FREE_ATTEMPTS
    refused = await door.sign_in(LONG)
    assert refused.status_code == 429
    assert "seconds" in refused.text


async def test_what_another_site_sends_is_refused(door: Door):
    """With a session or without one."""
    assert (await door.sign_in(LONG, origin="https://evil.example")).status_code == 403
    await door.signed_in()
    signed_out = await door.client.post("/console/sign-out", headers={"origin": "https://evil.example"})
    assert signed_out.status_code == 403
    assert (await door.client.get("/console/page")).status_code == 200
    assert (await door.client.post("/console/sign-out", headers={"origin": BASE})).status_code == 303


async def test_every_answer_carries_the_hardening_headers(door: Door):
    """Pages, redirects and refusals alike."""
    for path in ("/console/sign-in", "/console/page", "/console/static/console.css"):
        headers = (await door.client.get(path)).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


async def test_names_that_are_typed_are_shown_as_they_are(door: Door):
    """An error page repeats nothing that a browser would run."""
    answer = await door.client.post(
        "/console/sign-in?next=<script>", data={"name": "<script>alert(1)</script>", "password": "x"}
    )
    assert "<script>" not in answer.text


@pytest.mark.parametrize("path", ["/console/static/../signin.py", "/console/static/%2e%2e%2fsignin.py"])
async def test_only_the_known_static_files_are_served(door: Door, path: str):
    """Whatever the path says."""
    assert (await door.client.get(path)).status_code in (303, 404)


async def shake_hands(door: Door, headers: dict[str, str]) -> list[str]:
    """What the application answers to a WebSocket's handshake."""
    answers: list[Message] = []
    asked = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1005}])

    async def receive() -> Message:
        return next(asked)

    async def send(message: Message) -> None:
        answers.append(message)

    path = "/console/_nicegui_ws/socket.io"
    named = {"host": "hub.example", **headers}
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "subprotocols": [],
        "root_path": "",
        "scheme": "wss",
    }
    await door.application(scope, receive, send)
    return [answer["type"] for answer in answers]


async def test_a_websocket_needs_a_session_and_the_right_origin(door: Door):
    """The live part of the pages is behind the same gate."""
    door.users.set_password(FIRST_USER, LONG)
    user = door.users.verify(FIRST_USER, LONG)
    assert user is not None
    cookie = f"{COOKIE}={door.users.open_session(user)}"
    refused = ["websocket.close"]
    assert await shake_hands(door, {}) == refused
    assert await shake_hands(door, {"cookie": f"{COOKIE}=x", "origin": BASE}) == refused
    assert await shake_hands(door, {"cookie": cookie, "origin": "https://evil.example"}) == refused
    assert (await shake_hands(door, {"cookie": cookie, "origin": BASE}))[0] == "websocket.accept"
