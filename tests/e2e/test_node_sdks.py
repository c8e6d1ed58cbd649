"""The official Node SDKs, service and device, against our hub."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from node_sdks import modules
from sdk_venv import CannotInstall

from gateway_rig import DEVICE, HOST, pki
from service_rig import ServiceRig, serving
from support import PATIENCE_S
from vedette.hub.registry.enrollments import Enrollment
from vedette.wire.iothub import ConnectionString, Identity

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def node_modules() -> Path:
    try:
        return modules()
    except CannotInstall as reason:
        pytest.skip(str(reason))


async def steps(program: str, hub: ServiceRig, node_modules: Path, *more: str) -> list[dict[str, Any]]:
    """What a program said, step by step."""
    process = await asyncio.create_subprocess_exec(
        *("node", Path(__file__).parent / program),
        hub.connection_string().replace(f":{hub.https.port}", ""),
        *(str(hub.https.port), str(hub.rig.gateway.port), *more),
        env=os.environ | {"NODE_PATH": str(node_modules), "NODE_EXTRA_CA_CERTS": pki().ca},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            said = [json.loads(line) async for line in process.stdout]
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
    return said


async def test_a_device_lives_its_life(tmp_path: Path, node_modules: Path):
    """Register, connect, twin, method, telemetry, query, remove; by MQTT and by MQTT over WebSocket."""
    async with serving(tmp_path) as hub:
        said = await steps("node_life.js", hub, node_modules)
        assert [line["step"] for line in said[:9]] == [line["step"] for line in said[9:]]
        for device, lines in (("by-mqtt", said[:9]), ("by-websocket", said[9:])):
            assert {line["step"]: line["result"] for line in lines} == {
                "created": {"id": device, "status": "enabled"},
                "created again": "DeviceAlreadyExistsError",
                "twin": {"tags": {"site": "north"}, "reported": True, "desired": 5},
                "twin outdated": "InvalidEtagError",
                "method": {"status": 202, "payload": {"got": {"n": 1}}},
                "query": [device],
                "statistics": {"totalDeviceCount": 2, "enabledDeviceCount": 2, "disabledDeviceCount": 0},
                "module": [device, "agent"],
                "deleted": "DeviceNotFoundError",
            }
        assert [inbound.body for inbound in hub.rig.sink.received] == [b'{"n":1}'] * 2


async def test_many_devices_a_module_mail_and_new_keys(tmp_path: Path, node_modules: Path):
    """Bulk and pages; a module's twin and methods; a message that waited; keys, changed one at a time."""
    async with serving(tmp_path) as hub:
        hub.registry.messages.put("pump", {"$.mid": "id/1", "colour": "deep blue"}, b"wake up")
        pump = ConnectionString(HOST, DEVICE, hub.rig.device(DEVICE).primary_key).format()
        said = await steps("node_fleet.js", hub, node_modules, pump)
        assert [(line["step"], line["result"]) for line in said] == [
            ("bulk", True),
            ("bulk again", "ArgumentError"),
            ("pages", [["b1"], ["b2"], ["b3"], ["pump"]]),
            ("module desired", 5),
            ("module twin outdated", "InvalidEtagError"),
            ("module method", {"status": 202, "payload": {"got": 7}}),
            ("method without an answer", "GatewayTimeoutError"),
            ("message", {"id": "id/1", "body": "wake up", "colour": "deep blue"}),
            ("key", "UnauthorizedError"),
            ("key", "opens"),
            ("key", "opens"),
        ]
        assert not hub.registry.messages.news(0)[1]


async def test_a_device_registers_over_https(tmp_path: Path, node_modules: Path):
    """With its own key; with another's it is unauthorized, and nothing is made."""
    async with serving(tmp_path) as hub:
        own = hub.registry.enrollments.add(Enrollment("serial-1", grouped=False, device_id="pump-north"))

        async def register(registration_id: str, key: str) -> Any:
            process = await asyncio.create_subprocess_exec(
                *("node", Path(__file__).parent / "node_register.js"),
                *(HOST, str(hub.https.port), "0ne1", registration_id, key),
                env=os.environ | {"NODE_PATH": str(node_modules), "NODE_EXTRA_CA_CERTS": pki().ca},
                stdout=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(PATIENCE_S):
                out, _ = await process.communicate()
            return json.loads(out)

        assert await register("serial-1", own.secondary_key) == {
            "status": "assigned",
            "device": "pump-north",
            "hub": HOST,
        }
        assert await register("serial-2", own.primary_key) == {"error": "UnauthorizedError"}
        assert hub.registry.get(Identity("serial-2")) is None
