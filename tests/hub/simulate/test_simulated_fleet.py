"""Simulated devices at a real gateway."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from gateway_rig import HOST, Rig, pki, running
from support import PATIENCE_S
from vedette.hub.intake import MESSAGE_ID
from vedette.hub.registry.enrollments import UnknownEnrollment
from vedette.hub.simulate import fleet as fleets
from vedette.hub.simulate.accounts import GROUP, accounts
from vedette.hub.simulate.device import WINDOW, Account
from vedette.hub.simulate.fleet import Fleet
from vedette.hub.simulate.mix import ONE_EVENT, Mix
from vedette.wire.iothub import Identity

DEVICES = 3


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost device comes back at once."""
    monkeypatch.setattr(fleets, "AWAY_S", (0.0, 0.05))


def fleet_of(rig: Rig, known: list[Account], rate: float = 0.0) -> Fleet:
    trust = ssl.create_default_context(cafile=pki().ca)
    mix = Mix(random.Random(1), ONE_EVENT)
    return Fleet(known, [("127.0.0.1", rig.gateway.port)], HOST, trust, mix, rate=rate)


async def until(condition: Callable[[], bool]) -> None:
    """What a fleet does is seen by looking: it tells nobody."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_devices_connect_and_what_they_send_is_acknowledged(tmp_path: Path):
    """At their pace together; each fetches its twin; nothing is open at the end."""
    async with running(tmp_path) as rig:
        async with fleet_of(rig, list(accounts(rig.registry, DEVICES)), rate=200) as fleet:
            await until(lambda: fleet.figures.acknowledged >= 20 and fleet.figures.twins == DEVICES)
            assert fleet.connected == DEVICES
        figures, summary = fleet.figures, fleet.summary()
    assert figures.messages == figures.acknowledged == len(rig.sink.received)
    assert len({inbound.properties[MESSAGE_ID] for inbound in rig.sink.received}) == figures.messages
    assert (summary["unacknowledged"], summary["lost"], summary["refused"]) == (0, {}, {})
    assert 0 < summary["puback_p50"] <= summary["puback_p99"]


async def test_without_a_pace_each_device_fills_its_window(tmp_path: Path):
    """And sends the next message when one is acknowledged."""
    async with running(tmp_path) as rig:
        rig.sink.open.clear()
        async with fleet_of(rig, list(accounts(rig.registry, DEVICES)), rate=inf) as fleet:
            await rig.sink.wait(DEVICES * WINDOW)
            assert fleet.waiting == DEVICES * WINDOW
            rig.sink.open.set()
            await rig.sink.wait(DEVICES * WINDOW * 3)


async def test_what_was_open_when_a_connection_was_lost_is_sent_again(tmp_path: Path):
    """Under the same message ids."""
    async with running(tmp_path) as rig:
        rig.sink.open.clear()
        async with fleet_of(rig, list(accounts(rig.registry, 1)), rate=inf) as fleet:
            await rig.sink.wait(WINDOW)
            rig.sink.error = OSError("disk is full")
            rig.sink.open.set()
            await until(lambda: fleet.figures.lost.total() > 0)
            rig.sink.error = None
            await until(lambda: fleet.figures.acknowledged >= WINDOW)
        ids = [inbound.properties[MESSAGE_ID] for inbound in rig.sink.received]
    assert fleet.figures.repeated >= WINDOW
    assert set(ids[:WINDOW]) <= set(ids[WINDOW:])


async def test_a_desired_property_is_reported_as_being_in_force(tmp_path: Path):
    """As an agent does with its settings."""
    async with running(tmp_path) as rig:
        [account] = accounts(rig.registry, 1)
        async with fleet_of(rig, [account]) as fleet:
            await until(lambda: fleet.figures.twins == 1)
            rig.registry.patch_desired(account.identity, {"Process_Disabled": True})
            await until(lambda: rig.registry.twin(account.identity).reported == {"Process_Disabled": True})
    assert fleet.figures.changes == 1


async def test_refusals_are_counted_by_reason(tmp_path: Path):
    """A device that the hub does not know is not connected."""
    async with running(tmp_path) as rig:
        [account] = accounts(rig.registry, 1)
        stranger = Account(Identity("stranger"), account.key)
        async with fleet_of(rig, [stranger]) as fleet:
            await until(lambda: fleet.figures.refused["not authorized"] > 0)
            assert fleet.connected == 0


async def test_accounts_are_made_once(tmp_path: Path):
    """Asked for again, and for more, they are the same devices with the same keys."""
    async with running(tmp_path) as rig:
        with pytest.raises(UnknownEnrollment):
            rig.registry.enrollments.get(GROUP, grouped=True)
        few, more = accounts(rig.registry, 2), accounts(rig.registry, 5)
        assert list(more[:2]) == list(few)
        assert all(account.key == rig.registry.get(account.identity).primary_key for account in more)
        assert few[0].key not in repr(few[0])
