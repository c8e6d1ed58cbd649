"""`/api/v1/notify`: routes by those who may make them, and no secret ever again."""

import base64

import httpx
import pytest
from api_rig import running

from vedette.hub.registry.tokens import Role

ROUTE = {"name": "chat", "url": "https://hooks.example.net/T0/hunter2"}


@pytest.fixture
async def api(tmp_path):
    async with running(tmp_path) as rig:
        yield rig


async def test_a_route_is_made_listed_disabled_and_removed(api):
    """Its signing secret is shown once, its URL never."""
    made = await api.ask("POST", "/notify/routes", json=ROUTE | {"wanted": {"severity": "High"}})
    assert made.status_code == httpx.codes.CREATED, made.text
    assert len(base64.b64decode(made.json()["signing_secret"].removeprefix("whsec_"))) == 32
    [listed] = (await api.ask("GET", "/notify/routes")).json()
    assert (listed["to"], listed["wanted"]["severity"]) == ("https://hooks.example.net:443/…", "High")
    assert "signing_secret" not in listed
    assert "hunter2" not in made.text
    changed = await api.ask("PATCH", "/notify/routes/chat", json={"enabled": False})
    assert changed.json()["enabled"] is False
    gone = await api.ask("DELETE", "/notify/routes/chat")
    assert gone.status_code == httpx.codes.NO_CONTENT
    assert (await api.ask("GET", "/notify/routes")).json() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("POST", "/notify/routes", ROUTE | {"url": "gopher://x"}, 400, "url: gopher scheme"),
        ("POST", "/notify/routes", ROUTE | {"secret": "hunter2"}, 400, "secret: whsec_"),
        ("POST", "/notify/routes", ROUTE | {"wanted": {"where": "tags."}}, 400, "where:"),
        ("DELETE", "/notify/routes/other", None, 404, "other: no such route"),
        ("POST", f"/notify/deliveries/{'0' * 32}/redeliver", None, 404, "no such dead message"),
    ],
)
async def test_what_is_refused_says_why(api, method, path, body, status, detail):
    """The field and the reason."""
    answer = await api.ask(method, path, json=body)
    assert answer.status_code == status
    assert detail in answer.json()["detail"]
    assert "hunter2" not in answer.text


async def test_only_an_admin_makes_routes_and_an_operator_sees_them(api):
    """A route carries what devices do out of the house."""
    for role, status in ((Role.OPERATOR, 403), (Role.ADMIN, 201), (Role.ADMIN, 409)):
        answer = await api.ask("POST", "/notify/routes", role, json=ROUTE)
        assert answer.status_code == status
    assert (await api.ask("GET", "/notify/routes", Role.ANALYST)).status_code == 403
    assert (await api.ask("GET", "/notify/deliveries", Role.OPERATOR)).json() == []


async def test_trying_a_route_tells_why_it_does_not_work(api):
    """Here: it leads inside."""
    await api.ask("POST", "/notify/routes", json=ROUTE | {"url": "https://127.0.0.1:9/hunter2"})
    answer = await api.ask("POST", "/notify/routes/chat/test")
    assert answer.json() == {
        "delivered": False,
        "error": "127.0.0.1 is no public address; see --allow-private",
    }
