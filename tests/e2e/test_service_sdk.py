"""The official Python service SDK against our HTTPS port: an independent judge of the service REST."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sdk_client import sdk_client

from certificates import issue
from gateway_rig import DEVICE, HOST, MODULE, pki
from service_rig import ServiceRig, serving
from support import PATIENCE_S
from vedette.hub.gateway.certificates import thumbprints
from vedette.wire.iothub import ConnectionString, Identity

KEYS = ["MDEyMzQ1Njc4OWFiY2RlZg==", "ZmVkY2JhOTg3NjU0MzIxMA=="]
THUMBPRINT = "AB" * 20


class Service:
    """The subprocess that the SDK runs in."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def call(self, name: str, *arguments: Any) -> dict[str, Any]:
        """What a call said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": name, "with": arguments}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            return json.loads(await self.process.stdout.readline())

    async def do(self, name: str, *arguments: Any) -> Any:
        """The result of a call that works."""
        said = await self.call(name, *arguments)
        assert "error" not in said, said
        return said["result"]

    async def status(self, name: str, *arguments: Any) -> int:
        """The HTTP status of a call that fails."""
        said = await self.call(name, *arguments)
        return said["status"]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServiceRig]:
    async with serving(tmp_path) as made:
        yield made


@pytest.fixture
async def service(hub: ServiceRig, sdk_python: Path) -> AsyncIterator[Service]:
    process = await asyncio.create_subprocess_exec(
        sdk_python,
        Path(__file__).parent / "sdk_service.py",
        hub.connection_string(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"REQUESTS_CA_BUNDLE": pki().ca},
    )
    yield Service(process)
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


async def test_identities_are_made_changed_and_removed(hub: ServiceRig, service: Service):
    """Devices and modules by key, by thumbprint and by authority; each read back as it was made."""
    made = await service.do("create_device_with_sas", "valve", *KEYS, "enabled")
    assert made["authentication"]["symmetric_key"] == {"primary_key": KEYS[0], "secondary_key": KEYS[1]}
    assert (await service.do("get_device", "valve"))["etag"] == made["etag"]
    assert await service.status("create_device_with_sas", "valve", *KEYS, "enabled") == 409
    changed = await service.do("update_device_with_sas", "valve", made["etag"], *KEYS, "disabled")
    assert (changed["status"], changed["etag"] != made["etag"]) == ("disabled", True)
    assert await service.status("update_device_with_sas", "valve", made["etag"], *KEYS, "enabled") == 412
    module = await service.do("create_module_with_sas", "valve", "agent", "", *KEYS)
    assert (module["device_id"], module["module_id"]) == ("valve", "agent")
    assert [found["module_id"] for found in await service.do("get_modules", "valve")] == ["agent"]
    assert (await service.do("get_module", "valve", "agent"))["etag"] == module["etag"]
    await service.do("delete_module", "valve", "agent")
    assert await service.status("get_module", "valve", "agent") == 404
    await service.do("delete_device", "valve")
    assert await service.status("get_device", "valve") == 404
    assert hub.registry.get(Identity("valve")) is None


async def test_identities_may_have_certificates(service: Service):
    """Thumbprints and the authority are kept and shown; there is no key then."""
    made = await service.do("create_device_with_x509", "valve", THUMBPRINT, "CD" * 32, "enabled")
    assert made["authentication"]["type"] == "selfSigned"
    assert made["authentication"]["x509_thumbprint"] == {
        "primary_thumbprint": THUMBPRINT,
        "secondary_thumbprint": "CD" * 32,
    }
    assert await service.status("create_device_with_x509", "other", "nonsense", None, "enabled") == 400
    other = await service.do("create_device_with_certificate_authority", "other", "enabled")
    assert other["authentication"]["type"] == "certificateAuthority"
    assert "primary_key" not in other["authentication"].get("symmetric_key", {})


async def test_a_device_registered_by_thumbprint_connects(
    hub: ServiceRig, service: Service, sdk_python: Path, tmp_path: Path
):
    """Registered by one SDK, connected by the other; nobody vouches for its certificate."""
    own = issue("valve")
    (tmp_path / "valve.pem").write_bytes(own.pem + own.key_pem)
    thumbprint, _ = thumbprints(own.certificate)
    await service.do("create_device_with_x509", "valve", thumbprint, None, "enabled")
    connection = ConnectionString(HOST, Identity("valve"), x509=True).format()
    certificate = str(tmp_path / "valve.pem")
    async with sdk_client(sdk_python, connection, hub.rig.gateway.port, certificate) as device:
        assert "error" not in await device.do("connect")
        assert "error" not in await device.do("send", "hello", {}, "id/1")
    (inbound,) = hub.rig.sink.received
    assert (inbound.identity, inbound.body) == (Identity("valve"), b"hello")


@pytest.mark.slow
async def test_keys_are_rotated_while_one_of_them_serves(hub: ServiceRig, service: Service, sdk_python: Path):
    """A device with the other key connects before, between and after; the replaced key opens nothing."""
    made = await service.do("create_device_with_sas", "valve", *KEYS, "enabled")
    new = "bmV3IGtleSBmb3IgdmFsdmU="

    async def connect(key: str) -> dict[str, Any]:
        connection = ConnectionString(HOST, Identity("valve"), key).format()
        async with sdk_client(sdk_python, connection, hub.rig.gateway.port) as device:
            return await device.do("connect")

    assert "error" not in await connect(KEYS[0])
    await service.do("update_device_with_sas", "valve", made["etag"], new, KEYS[1], "enabled")
    assert "error" not in await connect(KEYS[1])
    assert (await connect(KEYS[0]))["error"] == "CredentialError"
    assert "error" not in await connect(new)


@pytest.mark.slow
async def test_thumbprints_are_rotated_like_keys(
    hub: ServiceRig, service: Service, sdk_python: Path, tmp_path: Path
):
    """Both certificates of a device serve until the old one's thumbprint is taken away."""
    prints = []
    for name in ("old", "new"):
        own = issue("valve")
        (tmp_path / f"{name}.pem").write_bytes(own.pem + own.key_pem)
        prints.append(thumbprints(own.certificate)[0])
    made = await service.do("create_device_with_x509", "valve", *prints, "enabled")
    connection = ConnectionString(HOST, Identity("valve"), x509=True).format()

    async def connect(name: str) -> dict[str, Any]:
        certificate = str(tmp_path / f"{name}.pem")
        async with sdk_client(sdk_python, connection, hub.rig.gateway.port, certificate) as device:
            return await device.do("connect")

    assert "error" not in await connect("old")
    assert "error" not in await connect("new")
    await service.do("update_device_with_x509", "valve", made["etag"], prints[1], None, "enabled")
    assert (await connect("old"))["error"] == "CredentialError"
    assert "error" not in await connect("new")


async def test_a_bulk_request_does_what_it_can(hub: ServiceRig, service: Service):
    """The operation that fails is named; the others are done."""

    def item(device: str, mode: str) -> dict[str, Any]:
        keys = {"model": "SymmetricKey", "primary_key": KEYS[0], "secondary_key": KEYS[1]}
        how = {"model": "AuthenticationMechanism", "type": "sas", "symmetric_key": keys}
        return {
            "model": "ExportImportDevice",
            "id": device,
            "import_mode": mode,
            "status": "enabled",
            "authentication": how,
        }

    await service.do("bulk_create_or_update_devices", [item("a", "create"), item("b", "create")])
    assert {d["device_id"] for d in await service.do("get_devices")} == {"a", "b", "pump"}
    done = await service.do(
        "bulk_create_or_update_devices", [item("a", "delete"), item("c", "delete"), item("b", "update")]
    )
    assert (done["is_successful"], [e["device_id"] for e in done["errors"]]) == (False, ["c"])
    assert hub.registry.get(Identity("a")) is None
    assert len(await service.do("get_devices", 1)) == 1


async def test_twins_are_read_patched_and_replaced(hub: ServiceRig, service: Service):
    """Tags and desired properties merge or are replaced; a stale ETag stops both."""
    twin = await service.do("get_twin", "pump")
    desired = {"model": "TwinProperties", "desired": {"rate": 5, "mode": {"a": 1, "b": 2}}}
    patch = {"model": "Twin", "tags": {"site": "north"}, "properties": desired}
    patched = await service.do("update_twin", "pump", patch, twin["etag"])
    assert (patched["tags"], patched["version"]) == ({"site": "north"}, 3)
    desired = patched["properties"]["desired"]
    assert desired.pop("$metadata")["mode"]["a"]["$lastUpdatedVersion"] == 2
    assert desired == {"rate": 5, "mode": {"a": 1, "b": 2}, "$version": 2}
    assert await service.status("update_twin", "pump", patch, twin["etag"]) == 412
    smaller = {"model": "TwinProperties", "desired": {"mode": {"a": 1}}}
    replaced = await service.do(
        "replace_twin", "pump", {"model": "Twin", "tags": {}, "properties": smaller}, patched["etag"]
    )
    assert set(replaced["properties"]["desired"].pop("$metadata")["mode"]) > {"a"}
    assert (replaced.get("tags", {}), replaced["properties"]["desired"]) == (
        {},
        {"mode": {"a": 1}, "$version": 3},
    )
    last = hub.registry.changes(0)[-1]
    assert (last.identity, last.patch) == (DEVICE, {"rate": None, "mode": {"b": None}})
    await service.do("update_module_twin", "pump", "vedette", {"model": "Twin", "tags": {"x": 1}}, "*")
    assert (await service.do("get_module_twin", "pump", "vedette"))["tags"] == {"x": 1}
    assert hub.registry.fleet.get(MODULE).profile.tags == {"x": 1}


async def test_queries_select_count_and_go_on(service: Service):
    """By tags and reported values, modules, counts; pages follow each other to the end."""
    for number in range(5):
        await service.do("create_device_with_sas", f"v{number}", *KEYS, "enabled")
        tags = {"model": "Twin", "tags": {"site": "north" if number % 2 else "south"}}
        await service.do("update_twin", f"v{number}", tags, "*")

    async def ask(text: str, *more: Any) -> Any:
        return await service.do("query_iot_hub", {"model": "QuerySpecification", "query": text}, *more)

    north = await ask("SELECT * FROM devices WHERE tags.site = 'north'")
    assert ([twin["device_id"] for twin in north["items"]], north["type"]) == (["v1", "v3"], "twin")
    modules = await ask("SELECT * FROM devices.modules")
    assert [(twin["device_id"], twin["module_id"]) for twin in modules["items"]] == [("pump", "vedette")]
    seen, token = [], None
    while True:
        page = await ask("SELECT * FROM devices", token, 2)
        seen.append([twin["device_id"] for twin in page["items"]])
        token = page["token"]
        if not token:
            break
    assert seen == [["pump", "v0"], ["v1", "v2"], ["v3", "v4"]]
    counted = await ask("SELECT COUNT() AS n FROM devices")
    assert counted["type"] == "raw"
    wrong = {"model": "QuerySpecification", "query": "DELETE FROM devices"}
    assert await service.status("query_iot_hub", wrong) == 400


async def test_statistics_count_devices(service: Service):
    """All, enabled and disabled ones, and those connected."""
    await service.do("create_device_with_sas", "off", *KEYS, "disabled")
    assert await service.do("get_device_registry_statistics") == {
        "total_device_count": 2,
        "enabled_device_count": 1,
        "disabled_device_count": 1,
    }
    assert await service.do("get_service_statistics") == {"connected_device_count": 0}


async def test_a_method_reaches_a_module_and_its_answer_returns(
    hub: ServiceRig, service: Service, sdk_python: Path
):
    """Both ends are official SDKs; the device's comes by WebSocket."""
    method = {"model": "CloudToDeviceMethod", "method_name": "restart", "payload": {"in": [1, None]}}
    assert await service.status("invoke_device_module_method", "pump", "vedette", method) == 404
    connection = ConnectionString(HOST, MODULE, hub.rig.device().primary_key).format()
    async with sdk_client(sdk_python, connection, hub.https.port, "websockets") as device:
        assert "error" not in await device.do("serve methods")
        waiting = {**method, "connect_timeout_in_seconds": 10, "response_timeout_in_seconds": 10}
        answer = await service.do("invoke_device_module_method", "pump", "vedette", waiting)
        assert answer == {"status": 201, "payload": {"in": [1, None]}}
        assert (await device.event("method"))["name"] == "restart"


async def test_a_message_reaches_a_device(hub: ServiceRig, sdk_python: Path):
    """By our own POST; the official device SDK reads it with its properties and acknowledges it."""
    connection = ConnectionString(HOST, DEVICE, hub.rig.device(DEVICE).primary_key).format()
    headers = {"iothub_messageid": "id/1", "iothub_app_colour": "deep blue", "iothub_expiry": "60"}
    async with sdk_client(sdk_python, connection, hub.rig.gateway.port) as device:
        assert "error" not in await device.do("hear messages")
        sent = await hub.ask("POST", "/devices/pump/messages/devicebound", {"a": 1}, **headers)
        assert (sent.status_code, sent.headers["iothub-messageid"]) == (202, "id/1")
        came = await device.event("message")
        assert (json.loads(came["body"]), came["id"]) == ({"a": 1}, "id/1")
        assert came["properties"]["colour"] == "deep blue"
        async with asyncio.timeout(PATIENCE_S):
            while hub.registry.messages.news(0)[1]:
                await asyncio.sleep(0.01)
