"""Several hubs as one: any of their parts is killed under load, and nobody loses anything by it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator

import pytest

import object_store
from fleet_rig import Device, Fleet
from postgres import programs
from support import PATIENCE_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DEVICES = 8
MESSAGES = 60
"""Acknowledged, of all devices together, before the next thing happens."""

AWAY_S = 2.0
"""How long a part is away without which nothing happens that could be awaited: many times a commit."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if programs() is None:
        pytest.skip("no PostgreSQL server here")
    if not shutil.which("haproxy", path="/usr/sbin:/usr/bin"):
        pytest.skip("no haproxy here")
    try:
        object_store.moto()
    except object_store.CannotInstall as error:
        pytest.skip(str(error))
    with Fleet(tmp_path_factory.mktemp("fleet"), DEVICES, say=print) as running:
        yield running


async def more(fleet: Fleet) -> None:
    """Until so many more messages are acknowledged, some of every device."""
    before = {device.identity: len(device.acknowledged) for device in fleet.devices}
    async with asyncio.timeout(PATIENCE_S):
        while True:
            gained = [len(device.acknowledged) - before[device.identity] for device in fleet.devices]
            if sum(gained) >= MESSAGES and min(gained) > 0:
                return
            await asyncio.sleep(0.05)


async def through_the_other(fleet: Fleet, device: Device, value: str) -> None:
    """Set a desired property through the gateway that does not hold the device, and await it there."""
    holder = await asyncio.to_thread(fleet.holder, device)
    other = next(hub for hub in fleet.gateways if hub is not holder)
    began = time.monotonic()
    await asyncio.to_thread(fleet.set_desired, other, device, value)
    async with asyncio.timeout(PATIENCE_S):
        took = await device.wait_told(value, began)
    print(f"desired property of a device on another gateway: {took:.2f} s")


async def kill_each(fleet: Fleet) -> None:
    """Each part in turn: killed under load, and started again; the rest goes on if it can without it."""
    for part in fleet.parts:
        await more(fleet)
        print(f"kill {part.name}")
        await asyncio.to_thread(part.kill)
        if part.vital:
            await asyncio.sleep(AWAY_S)
        else:
            await more(fleet)
        await asyncio.to_thread(part.back)
        await more(fleet)
        await through_the_other(fleet, fleet.devices[0], part.name)


async def test_any_part_may_be_killed_under_load(fleet: Fleet):
    """What was acknowledged is in the lake, each event once; gateways reach each other's devices.

    And they know devices behind the load balancer by their own addresses.
    """
    async with asyncio.TaskGroup() as tasks:
        for device in fleet.devices:
            tasks.create_task(device.run())
        await kill_each(fleet)
        for device in fleet.devices:
            device.stop()
    acknowledged = {mid for device in fleet.devices for mid in device.acknowledged}
    assert min(device.connects for device in fleet.devices) > 1, "every device had to find another gateway"
    stored = fleet.stored()
    assert set(stored.values()) == {1}
    assert {mid for mid, _ in stored} == acknowledged
    assert len(stored) == Device.EVENTS * len(acknowledged)
    known = fleet.addresses()
    assert known
    assert known <= {(device.identity.device_id, device.address) for device in fleet.devices}


def test_hubs_stop_while_their_database_is_away(fleet: Fleet):
    """Cleanly: no part of them waits for it."""
    fleet.parts[0].kill()
    assert [hub.end() for hub in fleet.hubs] == [0, 0, 0]
