"""A hub whose disk fills up and that is killed meanwhile: devices wait, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_rig import HOST, Device, Hub, trust
from support import PATIENCE_S, small_disk
from vedette.hub.lake import Lake, Limits
from vedette.hub.registry import Registry
from vedette.hub.settings import HubSettings, HubState
from vedette.hub.status import HubStatus, look
from vedette.hub.tls import ensure_pki
from vedette.wire.iothub import Identity

MESSAGES = 50
"""Acknowledgements that are waited for each time."""


@pytest.mark.slow
async def test_a_full_disk_and_a_kill_lose_nothing_and_can_be_seen(tmp_path: Path):
    """`vedette hub status` names the full disk; killed on it and started with room, the hub takes all."""
    with small_disk(tmp_path / "disk", "16m") as disk:
        state = HubState(tmp_path / "state")
        state.save(HubSettings(host_names=(HOST,), bind="127.0.0.1", lake=str(disk / "lake")))
        ensure_pki(state.pki, (HOST,))
        hub = Hub("all", state)
        device = Device(Identity("pump"), key(state), hub.mqtt, trust(state))
        hub.start()
        await asyncio.to_thread(hub.wait)
        living = asyncio.create_task(device.run())
        try:
            await until(lambda: len(device.acknowledged) >= MESSAGES)
            assert (await asyncio.to_thread(look, state)).problems == []
            fill(disk)
            await told(state, lambda status: "o space left" in status.local.fault)
            hub.end(signal.SIGKILL)
            status = await told(state, lambda status: not status.local.answers)
            assert status.lake.fault == "", "it can be read"
            (disk / "ballast").unlink()
            hub.start()
            more = len(device.acknowledged) + MESSAGES
            await asyncio.to_thread(hub.wait)
            await until(lambda: len(device.acknowledged) >= more)
            await told(state, lambda status: not status.problems)
            device.stop()
            await living
        finally:
            living.cancel()
            if hub.runs:
                hub.end()
        counted = "SELECT MessageId, count(*) FROM raw_events WHERE RawEventName = 'Process' GROUP BY 1"
        rows = dict(Lake(state.lake).query(counted, "sql", limits=Limits(rows=1_000_000)).rows)
        assert {mid: rows.get(mid) for mid in device.acknowledged} == dict.fromkeys(
            device.acknowledged, Device.EVENTS
        )
        assert set(rows.values()) == {Device.EVENTS}


def key(state: HubState) -> str:
    """Register the device."""
    registry = Registry(state.registry_url)
    try:
        return registry.add(Identity("pump")).primary_key
    finally:
        registry.close()


def fill(disk: Path) -> None:
    """Leave no room."""
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"x" * 4096)
        except OSError:
            return


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.05)


async def told(state: HubState, wanted: Callable[[HubStatus], bool]) -> HubStatus:
    """The first status that says so."""
    async with asyncio.timeout(PATIENCE_S):
        while not wanted(status := await asyncio.to_thread(look, state)):
            await asyncio.sleep(0.2)
    return status
