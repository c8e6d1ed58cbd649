"""The official provisioning SDK against our gateway, then the device SDK with what it was told."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sdk_client import PATIENCE_S, sdk_client

from certificates import Pair, issue
from gateway_rig import HOST, Rig, pki, running
from vedette.hub.registry.enrollments import Enrollment
from vedette.wire.dps import device_key
from vedette.wire.iothub import ConnectionString, Identity

SCOPE = "0ne00012345"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


async def register(rig: Rig, python: Path, registration_id: str, proof: str | Path) -> dict[str, Any]:
    """proof: a key, or a file with a certificate and its key."""
    process = await asyncio.create_subprocess_exec(
        python,
        Path(__file__).parent / "sdk_register.py",
        *(HOST, pki().ca, str(rig.gateway.port), SCOPE, registration_id, proof),
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


def file_of(directory: Path, own: Pair) -> Path:
    """A device's certificate and its key."""
    path = directory / "own.pem"
    path.write_bytes(own.pem + own.key_pem)
    return path


async def test_a_group_s_authority_vouches_for_a_device(rig: Rig, sdk_python: Path, tmp_path: Path):
    """Registered by the certificate that it then connects with; another authority's is refused."""
    factory = issue("factory", ca=True)
    rig.registry.enrollments.add(Enrollment("presses", grouped=True, certificates=(factory.pem.decode(),)))
    own = file_of(tmp_path, issue("press-7", factory))
    told = {"status": "assigned", "device": "press-7", "hub": HOST}
    assert await register(rig, sdk_python, "press-7", own) == told
    connection = ConnectionString(HOST, Identity("press-7"), x509=True).format()
    async with sdk_client(sdk_python, connection, rig.gateway.port, str(own)) as device:
        assert "error" not in await device.do("connect")
    stranger = file_of(tmp_path, issue("press-8", issue("factory", ca=True)))
    assert (await register(rig, sdk_python, "press-8", stranger))["error"] == "CredentialError"


@pytest.mark.slow
async def test_a_certificate_may_be_enrolled_by_itself(rig: Rig, sdk_python: Path, tmp_path: Path):
    """Nobody vouches for it; the device is named by the enrollment."""
    own = issue("serial-1")
    pem = own.pem.decode()
    rig.registry.enrollments.add(
        Enrollment("serial-1", grouped=False, device_id="press-north", certificates=(pem,))
    )
    said = await register(rig, sdk_python, "serial-1", file_of(tmp_path, own))
    assert said == {"status": "assigned", "device": "press-north", "hub": HOST}


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
