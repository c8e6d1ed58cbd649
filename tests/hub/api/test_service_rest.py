"""The service REST where the SDKs do not look: tokens, rights, wrong bodies, pages, throttled callers."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway_rig import DEVICE, HOST, MODULE
from service_rig import ServiceRig, serving
from vedette.hub.api import iothub
from vedette.hub.api.access import NO_RIGHT, TOO_MANY_REFUSALS
from vedette.hub.limits import Limits
from vedette.hub.registry import Draft
from vedette.wire.iothub import Identity, make_token


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServiceRig]:
    async with serving(tmp_path) as made:
        yield made


# Who may


WRONG_TOKENS = [
    {"ttl": -1},
    {"resource": "other.example"},
    {"resource": f"{HOST}/devices/other"},
    {"key": "c29tZSBvdGhlciBrZXk="},
    {"policy": "nobody", "key": "c29tZSBvdGhlciBrZXk="},
    {"policy": "device"},
]


async def test_a_wrong_token_is_refused(hub: ServiceRig):
    """401, in the service's form, without telling more than it must."""
    for wrong in WRONG_TOKENS:
        answer = await hub.ask("GET", "/devices/pump", token=hub.token(**wrong))
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (401, "IotHubUnauthorizedAccess")
        assert answer.json()["Message"].startswith("ErrorCode:IotHubUnauthorizedAccess;")


async def test_a_device_key_is_no_policy(hub: ServiceRig):
    """Nor is a missing header or nonsense in it."""
    token = make_token(HOST, DEVICE, hub.rig.device(DEVICE).primary_key, now=1e10)
    for given in (token, "", "Bearer x", "SharedAccessSignature sr=a&sig=b&se=" + "9" * 4000):
        assert (await hub.ask("GET", "/devices/pump", token=given)).status_code == 401


async def test_a_token_may_be_narrower(hub: ServiceRig):
    """For a path and what is below it; the host's port and case do not matter."""
    narrow = hub.token(resource=f"{HOST.upper()}:8443/devices/pump")
    assert (await hub.ask("GET", "/devices/pump/modules", token=narrow)).status_code == 200
    assert (await hub.ask("GET", "/devices/pumpkin", token=narrow)).status_code == 401


async def test_rights_are_by_policy(hub: ServiceRig):
    """Who reads does not write; the service policy works with twins, not with keys."""
    reader, service = hub.token("registryRead"), hub.token("service")
    assert (await hub.ask("GET", "/devices/pump", token=reader)).status_code == 200
    assert (await hub.ask("DELETE", "/devices/pump", token=reader)).status_code == 401
    assert (await hub.ask("GET", "/devices/pump", token=service)).status_code == 401
    assert (await hub.ask("PATCH", "/twins/pump", {"tags": {"a": 1}}, token=service)).status_code == 200


# Who did it, and how often


async def test_changes_are_put_down_to_the_policy_and_its_address(hub: ServiceRig):
    """What was written through the service API, each by its caller; what was read or refused is not there."""
    await hub.ask("GET", "/devices/pump")
    await hub.ask("PUT", "/devices/new", {}, token=hub.token("registryReadWrite"))
    await hub.ask("PATCH", "/twins/pump", {"tags": {"site": "north"}}, token=hub.token("service"))
    await hub.ask("DELETE", "/devices/none")
    await hub.ask("POST", "/devices", [{"id": "bulk"}])
    written = [
        (entry.actor, entry.action, entry.subject)
        for entry in hub.registry.tokens.audit()
        if entry.actor.startswith("policy:")
    ]
    assert written == [
        ("policy:iothubowner@127.0.0.1", "create", "identities/bulk"),
        ("policy:service@127.0.0.1", "update", "profiles/pump"),
        ("policy:registryReadWrite@127.0.0.1", "create", "identities/new"),
    ]


async def test_a_caller_that_asks_too_often_is_told_when_to_come_again(tmp_path: Path):
    """429 with Retry-After, for the one policy; the others are served."""
    async with serving(tmp_path, Limits(request_burst=2, requests_per_second=0.1)) as hub:
        answers = [await hub.ask("GET", "/devices/pump") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].headers["iothub-errorcode"] == "ThrottlingException"
        assert 1 <= int(answers[2].headers["retry-after"]) <= 10
        other = hub.token("registryRead")
        assert (await hub.ask("GET", "/devices/pump", token=other)).status_code == 200


async def test_an_address_that_shows_wrong_tokens_is_listened_to_no_more(tmp_path: Path):
    """For a time, also to a right one; what was refused is counted."""
    async with serving(tmp_path, Limits(refusal_burst=2, refusals_per_second=0.1)) as hub:
        wrong = hub.token(key="c29tZSBvdGhlciBrZXk=")
        answers = [await hub.ask("GET", "/devices/pump", token=wrong) for _ in range(3)]
        answers.append(await hub.ask("GET", "/devices/pump"))
        assert [answer.status_code for answer in answers] == [401, 401, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
        assert hub.access.refused == {NO_RIGHT: 2, TOO_MANY_REFUSALS: 2}


# What is said


WRONG_BODIES = [
    ("PUT", "/devices/new", {"status": "off"}, "$.status"),
    ("PUT", "/devices/new", {"authentication": {"type": "magic"}}, "authentication.type"),
    ("PUT", "/devices/new", {"authentication": {"type": "selfSigned"}}, "x509Thumbprint"),
    ("PUT", "/devices/new", {"authentication": {"symmetricKey": {"primaryKey": "a"}}}, "symmetricKey"),
    ("PUT", "/devices/new", {"statusReason": "x" * 129}, "statusReason"),
    ("PUT", "/devices/a%20b", {}, "identity"),
    ("PATCH", "/twins/pump", {"tags": {"a.b": 1}}, "a.b"),
    ("PATCH", "/twins/pump", {"tags": {"a": "x" * 9000}}, "bytes"),
    ("PATCH", "/twins/pump", {"properties": []}, "$.properties"),
    ("POST", "/devices", [{"id": "x"}] * 101, "100 operations"),
    ("POST", "/devices/query", {"query": "SELECT"}, "query"),
    ("POST", "/devices/query", {}, "query"),
    ("POST", "/twins/pump/methods", {"methodName": ""}, "methodName"),
    (
        "POST",
        "/twins/pump/methods",
        {"methodName": "a", "responseTimeoutInSeconds": 1},
        "responseTimeout",
    ),
]


async def test_a_wrong_body_is_named(hub: ServiceRig):
    """400 with the field and the reason."""
    for method, path, body, names in WRONG_BODIES:
        answer = await hub.ask(method, path, body)
        assert answer.status_code == 400, path
        assert names in answer.json()["Message"]


async def test_a_body_that_is_too_long_is_not_read(hub: ServiceRig):
    """413 as soon as it is."""
    answer = await hub.ask("PUT", "/devices/new", {"statusReason": "x" * iothub.MAX_BODY_BYTES})
    assert answer.status_code == 413


REFUSED = [
    ("GET", "/devices/none", None, 404, "DeviceNotFound"),
    ("GET", "/devices/pump/modules/none", None, 404, "ModuleNotFound"),
    ("PUT", "/devices/pump", {}, 409, "DeviceAlreadyExists"),
    ("PUT", "/devices/pump/modules/vedette", {}, 409, "ModuleAlreadyExistsOnDevice"),
    ("POST", "/twins/pump/methods", {"methodName": "a"}, 404, "DeviceNotOnline"),
    ("POST", "/devices/none/messages/devicebound", {}, 404, "DeviceNotFound"),
]


async def test_errors_have_the_services_names(hub: ServiceRig):
    """Status and `iothub-errorcode`, which the SDKs and their users read."""
    for method, path, body, status, code in REFUSED:
        answer = await hub.ask(method, path, body)
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (status, code)


async def test_a_key_change_ends_a_connection(hub: ServiceRig):
    """So does disabling; what leaves credentials alone does not."""
    client = await hub.rig.connected(DEVICE)
    kept = await hub.ask("PUT", "/devices/pump", {"statusReason": "why"}, if_match="*")
    assert kept.json()["authentication"]["symmetricKey"]["primaryKey"] == hub.rig.device(DEVICE).primary_key
    assert hub.rig.gateway.connections == 1
    key = "MDEyMzQ1Njc4OWFiY2RlZg=="
    keys = {"authentication": {"symmetricKey": {"primaryKey": key, "secondaryKey": key}}}
    assert (await hub.ask("PUT", "/devices/pump", keys, if_match="*")).status_code == 200
    assert await client.closed()


async def test_waiting_messages_are_counted_and_purged(hub: ServiceRig):
    """In the record and the twin; what is too much is refused with 403."""
    path = "/devices/pump/messages/devicebound"
    for _ in range(50):
        assert (await hub.ask("POST", path, {})).status_code == 202
    full = await hub.ask("POST", path, {})
    assert (full.status_code, full.headers["iothub-errorcode"]) == (403, "DeviceMaximumQueueDepthExceeded")
    for shown in ("/devices/pump", "/twins/pump"):
        assert (await hub.ask("GET", shown)).json()["cloudToDeviceMessageCount"] == 50
    (listed,) = (await hub.ask("GET", "/devices")).json()
    assert listed["cloudToDeviceMessageCount"] == 50
    purged = await hub.ask("DELETE", "/devices/pump/commands")
    assert purged.json() == {"deviceId": "pump", "totalMessagesPurged": 50}


# Queries


async def found(hub: ServiceRig, text: str, **headers: str) -> tuple[Any, str]:
    answer = await hub.ask("POST", "/devices/query", {"query": text}, **headers)
    assert answer.status_code == 200, answer.text
    return answer.json(), answer.headers.get("x-ms-continuation", "")


async def test_groups_are_counted(hub: ServiceRig):
    """By the value of a path, and all together."""
    for number in range(3):
        hub.registry.fleet.create(Draft(Identity(f"v{number}"), enabled=number > 0))
    rows, _ = await found(hub, "SELECT status, COUNT() AS n FROM devices GROUP BY status")
    assert rows == [{"status": "disabled", "n": 1}, {"status": "enabled", "n": 3}]
    assert (await found(hub, "SELECT COUNT() AS n FROM devices WHERE status = 'x'"))[0] == [{"n": 0}]
    assert (await found(hub, "SELECT COUNT() FROM devices.modules"))[0] == [{"count": 1}]


async def test_a_rare_match_is_found_in_one_page(hub: ServiceRig):
    """However many twins lie before it; a full page leads on to the next, which may be the last."""
    for number in range(4):
        hub.registry.fleet.create(Draft(Identity(f"v{number}")))
    assert await found(hub, "SELECT deviceId FROM devices WHERE deviceId IN ['v3']") == (
        [{"deviceId": "v3"}],
        "",
    )
    text = "SELECT deviceId FROM devices WHERE STARTS_WITH(deviceId, 'v')"
    rows, more = await found(hub, text, x_ms_max_item_count="2")
    rest, end = await found(hub, text, x_ms_max_item_count="2", x_ms_continuation=more)
    assert ([row["deviceId"] for row in rows + rest], end) == (["v0", "v1", "v2", "v3"], "")


async def test_top_holds_across_pages(hub: ServiceRig):
    """The rows of all pages together."""
    for number in range(4):
        hub.registry.fleet.create(Draft(Identity(f"v{number}")))
    rows, more = await found(hub, "SELECT TOP 3 * FROM devices", x_ms_max_item_count="2")
    rest, end = await found(hub, "SELECT TOP 3 * FROM devices", x_ms_continuation=more)
    assert ([len(rows), len(rest)], end) == ([2, 1], "")
    wrong = await hub.ask("POST", "/devices/query", {"query": "SELECT * FROM devices"}, x_ms_continuation="?")
    assert wrong.status_code == 400


async def test_a_replaced_twin_is_pushed_as_a_change(hub: ServiceRig):
    """What went is null in the patch that the device gets."""
    hub.registry.patch_desired(MODULE, {"a": {"b": 1, "c": 2}, "d": 1})
    body = {"properties": {"desired": {"a": {"b": 1}}}}
    assert (await hub.ask("PUT", "/twins/pump/modules/vedette", body)).status_code == 200
    assert hub.registry.changes(0)[-1].patch == {"a": {"c": None}, "d": None}
