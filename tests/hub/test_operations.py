"""Operations at the hub: counted in bounded memory, stored as events of their devices."""

from pathlib import Path

import pytest
from lake_support import intake

from gateway_rig import DEVICE, MODULE
from service_rig import serving
from vedette.hub import operations
from vedette.hub.intake import NOT_THE_HUB, Inbound
from vedette.hub.lake import Lake
from vedette.hub.lake.errors import CommitFailed
from vedette.hub.operations import HUB, MANY, Operations
from vedette.hub.recorder import Recorder, messages
from vedette.wire.events import HubOperation
from vedette.wire.iothub import Identity
from vedette.wire.message import INTERFACE_ID, MTI, Window

REFUSED = HubOperation(
    operation="Connect", outcome="Refused", reason="why", protocol="MQTT", remote_address="192.0.2.1"
)


def test_what_is_too_much_is_counted_without_device_and_address(monkeypatch: pytest.MonkeyPatch):
    """So that a stranger with many names fills neither memory nor lake; nothing goes uncounted."""
    monkeypatch.setattr(operations, "MAX_KINDS", 2)
    counted = Operations()
    for name in ("a", "a", "b", "c", "d"):
        counted.note(Identity(name), REFUSED)
    rest = HubOperation(
        operation="Connect",
        outcome="Refused",
        reason="why",
        protocol="MQTT",
        remote_address=MANY,
        identity=MANY,
    )
    assert counted.take() == {
        (Identity("a"), REFUSED): 2,
        (Identity("b"), REFUSED): 1,
        (HUB, rest): 2,
    }
    assert not counted.take()


async def test_what_cannot_be_stored_is_stored_later_and_once():
    """The same messages are tried again, while the counting goes on."""
    counted, stored, broken = Operations(), [], True

    async def submit(inbound: Inbound) -> None:
        if broken:
            raise CommitFailed("disk full")
        stored.append(inbound)

    recorder = Recorder(counted, submit)
    counted.note(DEVICE, REFUSED)
    await recorder.store()
    counted.note(MODULE, REFUSED)
    await recorder.store()
    assert not stored
    broken = False
    await recorder.store()
    await recorder.store()
    assert [inbound.identity for inbound in stored] == [DEVICE, MODULE]


async def test_a_device_cannot_tell_what_the_hub_tells(tmp_path: Path):
    """Such an event of a device is a dead letter; the hub's own is a row of the device."""
    counted = Operations()
    counted.note(DEVICE, REFUSED)
    (own,) = messages(counted.take(), Window(0, 60))
    forged = Inbound(DEVICE, {"$.ifid": INTERFACE_ID, "mti": MTI}, own.body, own.received)
    async with intake(tmp_path) as lake:
        await lake.submit(forged)
        await lake.submit(own)
    found = Lake(tmp_path)
    rows = found.query("HubOperation | project DeviceId, Outcome, Reason").rows
    assert rows == [("pump", "Refused", "why")]
    source = found.query("SELECT EventDetails ->> 'MessageSource' FROM raw_events", "sql").rows
    assert source == [("Hub",)]
    assert found.query("SELECT Reason FROM dead_letters", "sql").rows == [(NOT_THE_HUB,)]


async def test_operations_of_services_are_counted(tmp_path: Path):
    """Twin updates and methods, served or not; the hub's where caller or device is not known."""
    async with serving(tmp_path) as hub:
        await hub.ask("PATCH", "/twins/pump", {"tags": {"a": 1}})
        await hub.ask("PATCH", "/twins/none", {"tags": {"a": 1}})
        await hub.ask("PATCH", "/twins/pump", {"tags": {"a.b": 1}})
        await hub.ask("PATCH", "/twins/pump", {}, token="")
        await hub.ask("POST", "/twins/pump/modules/vedette/methods", {"methodName": "a"})
        noted = {
            (who, done.operation, done.outcome, done.reason, done.identity)
            for who, done in hub.rig.gateway.operations.take()
        }
    assert noted == {
        (DEVICE, "TwinUpdate", "Accepted", "", "pump"),
        (HUB, "TwinUpdate", "Refused", "DeviceNotFound", "none"),
        (DEVICE, "TwinUpdate", "Refused", "ArgumentInvalid", "pump"),
        (HUB, "TwinUpdate", "Refused", "IotHubUnauthorizedAccess", "pump"),
        (MODULE, "MethodInvoke", "Refused", "DeviceNotOnline", "pump/vedette"),
    }
