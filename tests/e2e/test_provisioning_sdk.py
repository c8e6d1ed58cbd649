"""The official provisioning SDK against our gateway, then the device SDK with what it was told."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sdk_client import PATIENCE_S, sdk_client

from gateway_rig import HOST, Rig, pki, running
from vedette.hub.registry.enrollments import Enrollment
from vedette.wire.dps import device_key
from vedette.wire.iothub import ConnectionString, Identity

SCOPE = "0ne00012345"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


async def register(rig: Rig, python: Path, registration_id: str, key: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        python,
        Path(__file__).parent / "sdk_register.py",
        *(HOST, pki().ca, str(rig.gateway.port), SCOPE, registration_id, key),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await process.communicate()
    return json.loads(out)


async def test_a_device_of_a_group_registers_and_connects(rig: Rig, sdk_python: Path):
    """With a key made from the group's; its first twin is the group's; again, it stays what it is."""
    group = rig.registry.enrollments.add(
        Enrollment("pumps", grouped=True, tags={"site": "north"}, desired={"rate": 5})
    )
    key = device_key(group.primary_key, "pump-17")
    told = {"status": "assigned", "device": "pump-17", "hub": HOST}
    assert await register(rig, sdk_python, "pump-17", key) == told
    entry = rig.registry.fleet.get(Identity("pump-17"))
    assert (entry.profile.tags, entry.twin.desired) == ({"site": "north"}, {"rate": 5})
    connection = ConnectionString(HOST, Identity("pump-17"), key).format()
    async with sdk_client(sdk_python, connection, rig.gateway.port) as device:
        assert "error" not in await device.do("connect")
        assert (await device.do("twin"))["result"]["desired"] == {"rate": 5, "$version": 2}
        assert await register(rig, sdk_python, "pump-17", key) == told


async def test_an_individual_enrollment_names_its_device(rig: Rig, sdk_python: Path):
    """The device id may differ from the registration id; either key will do."""
    own = rig.registry.enrollments.add(Enrollment("serial-1", grouped=False, device_id="pump-north"))
    assert (await register(rig, sdk_python, "serial-1", own.secondary_key))["device"] == "pump-north"
    assert rig.registry.get(Identity("pump-north")).primary_key == own.primary_key


async def test_a_wrong_key_is_refused(rig: Rig, sdk_python: Path):
    """The SDK reports it as credentials that are wrong."""
    group = rig.registry.enrollments.add(Enrollment("pumps", grouped=True))
    said = await register(rig, sdk_python, "pump-17", device_key(group.primary_key, "pump-18"))
    assert said["error"] == "CredentialError"
    assert rig.registry.get(Identity("pump-17")) is None


async def test_a_group_does_not_take_over_a_device(rig: Rig, sdk_python: Path):
    """A device that was made by hand keeps its keys, whatever a group's key holder registers."""
    before = rig.registry.get(Identity("pump"))
    group = rig.registry.enrollments.add(Enrollment("pumps", grouped=True))
    said = await register(rig, sdk_python, "pump", device_key(group.primary_key, "pump"))
    assert "error" in said
    assert rig.registry.get(Identity("pump")) == before
