"""The hub's own API: who may do what, and what it does to devices, twins, events, tokens and the log."""

import asyncio
import csv
import io
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from api_rig import Rig, running

from vedette.hub.api import v1, v1_events
from vedette.hub.registry import Draft, TwinChange
from vedette.hub.registry.tokens import Role
from vedette.wire.iothub import ConnectionString, Identity


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


LOWEST = {
    ("GET", "/me"): Role.VIEWER,
    ("GET", "/devices"): Role.VIEWER,
    ("GET", "/devices/pump/modules"): Role.VIEWER,
    ("GET", "/twins/pump"): Role.VIEWER,
    ("GET", "/alerts"): Role.VIEWER,
    ("GET", "/recommendations"): Role.VIEWER,
    ("GET", "/dead-letters"): Role.VIEWER,
    ("GET", "/events"): Role.ANALYST,
    ("POST", "/query"): Role.ANALYST,
    ("POST", "/export"): Role.ANALYST,
    ("POST", "/devices"): Role.OPERATOR,
    ("PATCH", "/devices/pump"): Role.OPERATOR,
    ("PATCH", "/twins/pump"): Role.OPERATOR,
    ("POST", "/groups/apply"): Role.OPERATOR,
    ("DELETE", "/devices/nothing"): Role.OPERATOR,
    ("GET", "/tokens"): Role.ADMIN,
    ("POST", "/tokens"): Role.ADMIN,
    ("DELETE", "/tokens/nothing"): Role.ADMIN,
    ("GET", "/audit"): Role.ADMIN,
}


async def test_each_role_may_do_what_it_is_for(rig: Rig):
    """Its own and everything below; without a token nothing."""
    rig.registry.add(Identity("pump"))
    for (method, path), lowest in LOWEST.items():
        assert (await rig.ask(method, path, None)).status_code == 401
        for role in Role:
            refused = (await rig.ask(method, path, role)).status_code == 403
            assert refused is (role < lowest), (method, path, role)


async def test_a_wrong_token_is_refused_without_repeating_it(rig: Rig):
    """And the answer says how to show one."""
    rig.tokens[Role.ADMIN] = "vdt_0123456789abcdef_" + "x" * 43
    answer = await rig.ask("GET", "/me")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "xxx" not in answer.text


async def test_a_device_is_added_shown_and_removed(rig: Rig):
    """Its connection string is shown once, when it is added."""
    added = (await rig.ask("POST", "/devices", Role.OPERATOR, json={"device_id": "pump"})).json()
    module = {"device_id": "pump", "module_id": "agent"}
    agent = (await rig.ask("POST", "/devices", Role.OPERATOR, json=module)).json()
    device = rig.registry.get(Identity("pump", "agent"))
    assert device is not None
    connection = ConnectionString.parse(agent["connection_string"])
    assert (connection.host, connection.identity, connection.key) == (
        *("hub.example", device.identity, device.primary_key),
    )
    shown = await rig.ask("GET", "/devices/pump", Role.VIEWER)
    assert shown.json() == {key: value for key, value in added.items() if key != "connection_string"}
    assert (await rig.ask("GET", "/devices/pump/modules")).json()[0]["module_id"] == "agent"
    assert (await rig.ask("POST", "/devices", json=module)).status_code == 409
    disabled = await rig.ask("PATCH", "/devices/pump", json={"enabled": False})
    assert disabled.json()["enabled"] is False
    assert (await rig.ask("DELETE", "/devices/pump")).status_code == 204
    assert (await rig.ask("GET", "/devices/pump")).status_code == 404
    assert rig.registry.get(Identity("pump", "agent")) is None


async def test_devices_are_listed_in_pages(rig: Rig):
    """Each begins behind the last device of the one before."""
    for number in range(5):
        rig.registry.add(Identity(f"d{number}"))
    first = (await rig.ask("GET", "/devices?limit=3")).json()
    rest = (await rig.ask("GET", f"/devices?limit=3&after={first[-1]['device_id']}")).json()
    assert [device["device_id"] for device in first + rest] == [f"d{number}" for number in range(5)]


async def test_a_twin_is_read_and_patched(rig: Rig):
    """A key that may not stand in one is named."""
    rig.registry.add(Identity("pump"))
    changed = await rig.ask("PATCH", "/twins/pump", json={"desired": {"a": {"b": 1}}, "tags": {"site": "n"}})
    assert changed.json()["desired"] == {"a": {"b": 1}}
    shown = (await rig.ask("GET", "/twins/pump", Role.VIEWER)).json()
    assert (shown["tags"], shown["desired_version"]) == ({"site": "n"}, 2)
    refused = await rig.ask("PATCH", "/twins/pump", json={"desired": {"a": {"b.c": 1}}})
    assert refused.status_code == 400
    assert "a.b.c" in refused.json()["detail"]


def group(rig: Rig) -> None:
    """Three pumps, two of them in the north, one of those without the agent's module."""
    for name, site in (("p1", "north"), ("p2", "south"), ("p3", "north")):
        rig.registry.fleet.create(Draft(Identity(name)), TwinChange(tags={"site": site}))
    for name in ("p1", "p2"):
        rig.registry.add(Identity(name, "agent"))


GROUP = {"where": "tags.site = 'north'", "module_id": "agent", "desired": {"x": 1}}


async def test_a_preview_of_a_group_changes_nothing(rig: Rig):
    """It tells who would change, and how."""
    group(rig)
    preview = (await rig.ask("POST", "/groups/preview", Role.VIEWER, json=GROUP)).json()
    assert preview == {
        "members": [
            {"device_id": "p1", "module_id": "agent", "desired_version": 1, "patch": {"x": 1}, "error": ""}
        ],
        "without_module": ["p3"],
    }
    assert rig.registry.twin(Identity("p1", "agent")).desired == {}


async def test_a_group_is_changed_once(rig: Rig):
    """What is as wanted already is left alone: every change is a message that a device pays for."""
    group(rig)
    applied = (await rig.ask("POST", "/groups/apply", json=GROUP)).json()
    assert [member["desired_version"] for member in applied["members"]] == [2]
    again = (await rig.ask("POST", "/groups/apply", json=GROUP)).json()
    assert again["members"][0]["patch"] == {}
    twin = rig.registry.twin(Identity("p1", "agent"))
    assert (twin.desired, twin.desired_version) == ({"x": 1}, 2)
    assert rig.registry.twin(Identity("p2", "agent")).desired == {}


@pytest.mark.parametrize("where", ["tags.site =", "tags.site = 'x' GROUP BY tags.site", "x = 1; DROP"])
async def test_a_group_needs_a_condition(rig: Rig, where: str):
    """Anything else is a query of another kind, or none."""
    answer = await rig.ask("POST", "/groups/preview", json=GROUP | {"where": where})
    assert answer.status_code == 400


async def test_a_question_is_answered_in_kql_and_sql(rig: Rig):
    """Columns and rows; a mistake says where it is."""
    await rig.event("ls -l")
    for question in (
        {"query": "Process | project Commandline, HitCount"},
        {"query": "SELECT Commandline, HitCount FROM Process", "language": "sql"},
    ):
        answer = await rig.ask("POST", "/query", Role.ANALYST, json=question)
        assert answer.json() == {
            "columns": ["Commandline", "HitCount"],
            "rows": [["ls -l", 1]],
            "truncated": False,
        }
    wrong = await rig.ask("POST", "/query", json={"query": "DELETE FROM raw_events", "language": "sql"})
    assert wrong.status_code == 400


async def test_events_are_found_by_device_name_and_time(rig: Rig):
    """The filters are values, never part of the query's text."""
    await rig.event("a", "d1")
    await rig.event("b", "d2")

    async def found(**filters: object) -> int:
        return len((await rig.ask("GET", "/events", params=filters)).json()["rows"])

    assert await found() == 2
    assert await found(device_id="d1") == 1
    assert await found(device_id="'") == 0
    assert await found(name="Process", limit=1) == 1
    assert await found(since="2100-01-01T00:00:00Z") == 0
    assert await found(until="2100-01-01T00:00:00Z", module_id="m") == 2


async def test_an_export_has_all_rows_in_each_form(rig: Rig):
    """CSV, NDJSON and Parquet say the same."""
    for number in range(3):
        await rig.event(f"echo {number}")
    question = {"query": "SELECT DeviceId, Commandline FROM Process ORDER BY 2", "language": "sql"}
    wanted = [{"DeviceId": "pump", "Commandline": f"echo {number}"} for number in range(3)]
    answers = {
        form: await rig.ask("POST", f"/export?form={form}", Role.ANALYST, json=question)
        for form in ("csv", "ndjson", "parquet")
    }
    assert list(csv.DictReader(io.StringIO(answers["csv"].text))) == wanted
    assert [json.loads(line) for line in answers["ndjson"].text.splitlines()] == wanted
    assert pq.read_table(io.BytesIO(answers["parquet"].content)).to_pylist() == wanted
    assert answers["csv"].headers["content-disposition"] == 'attachment; filename="vedette.csv"'
    wrong = await rig.ask("POST", "/export", json={"query": "Nonsense"})
    assert wrong.status_code == 400


async def test_too_many_queries_are_told_to_come_back(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """They neither wait without bound nor disturb those that run."""
    monkeypatch.setattr(v1_events, "MAX_QUERIES", 1)
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(_: object) -> str:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        return "done"

    running_query = asyncio.create_task(rig.queries.ask(work))
    await begun.wait()
    busy = await rig.ask("GET", "/events")
    go_on.set()
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "5")
    assert await running_query == "done"
    assert (await rig.ask("GET", "/events")).status_code == 200


async def test_tokens_are_made_and_unmade(rig: Rig):
    """A new one works until it is removed; the list shows no secret."""
    wanted = {"name": "nightly", "role": "analyst", "expires_in_days": 1}
    made = (await rig.ask("POST", "/tokens", json=wanted)).json()
    listed = (await rig.ask("GET", "/tokens")).text
    assert "nightly" in listed
    assert made["token"].split("_", 2)[2] not in listed
    rig.tokens[Role.ANALYST] = made["token"]
    me = (await rig.ask("GET", "/me", Role.ANALYST)).json()
    assert (me["name"], me["role"]) == ("nightly", "analyst")
    assert (await rig.ask("DELETE", "/tokens/nightly")).status_code == 204
    assert (await rig.ask("GET", "/me", Role.ANALYST)).status_code == 401


async def test_changes_are_put_down_to_the_caller(rig: Rig):
    """By the name of its token."""
    await rig.ask("POST", "/devices", Role.OPERATOR, json={"device_id": "pump"})
    newest = (await rig.ask("GET", "/audit?limit=1")).json()[0]
    assert (newest["actor"], newest["action"], newest["subject"]) == (
        *("token:operator", "create", "identities/pump"),
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/devices", {"device_id": "a b"}),
        ("/devices", {"device_id": "a", "surprise": 1}),
        ("/tokens", {"name": "x", "role": "emperor"}),
        ("/query", {"query": ""}),
    ],
)
async def test_a_wrong_body_names_the_field(rig: Rig, path: str, body: dict[str, object]):
    """Unknown fields are errors, too."""
    answer = await rig.ask("POST", path, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize("query", ["device=pump", "limit=1&limit=2"])
async def test_an_unknown_or_repeated_parameter_is_refused(rig: Rig, query: str):
    """A misspelt filter must not mean "all"."""
    answer = await rig.ask("GET", f"/events?{query}")
    assert answer.status_code == 400
    assert "parameter" in answer.json()["detail"]


async def test_a_body_is_bounded(rig: Rig):
    """Before it is parsed."""
    answer = await rig.ask("POST", "/query", content=b"x" * (v1.MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
