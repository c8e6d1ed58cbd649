"""The official Python device SDK as a module client of our gateway: an independent judge of the dialect."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sdk_client import PATIENCE_S, Sdk, sdk_client

from gateway_rig import DEVICE, HOST, MODULE, Rig, running
from vedette.wire.iothub import ConnectionString


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


@pytest.fixture
async def sdk(rig: Rig, sdk_python: Path) -> AsyncIterator[Sdk]:
    connection = ConnectionString(HOST, MODULE, rig.device().primary_key).format()
    async with sdk_client(sdk_python, connection, rig.gateway.port) as made:
        yield made


async def test_a_module_lives_its_life(rig: Rig, sdk: Sdk):
    """Connect, send, hear of a desired change, report, read the twin, lose the connection, go on."""
    assert "error" not in await sdk.do("connect")
    assert (await sdk.event("connection"))["connected"]

    assert "error" not in await sdk.do("send", '{"a":1}', {"mti": "2.3-0-1-0", "ä b": "c+d&e"}, "id/1")
    (inbound,) = rig.sink.received
    assert (inbound.identity, inbound.body) == (MODULE, b'{"a":1}')
    assert inbound.properties == {
        "$.mid": "id/1",
        "$.ct": "application/json",
        "$.ce": "utf-8",
        "mti": "2.3-0-1-0",
        "ä b": "c+d&e",
    }

    assert "error" not in await sdk.do("listen")
    rig.registry.patch_desired(MODULE, {"Process_Disabled": False})
    assert (await sdk.event("desired"))["patch"] == {"Process_Disabled": False, "$version": 2}
    assert (await sdk.do("report", {"state": {"ok": True}, "gone": None}))["result"] is None
    assert (await sdk.do("twin"))["result"] == {
        "desired": {"Process_Disabled": False, "$version": 2},
        "reported": {"state": {"ok": True}, "$version": 2},
    }

    drop(rig)
    assert not (await sdk.event("connection"))["connected"]
    assert (await sdk.event("connection"))["connected"]
    assert "error" not in await sdk.do("send", "again", {}, "id/2")
    rig.registry.patch_desired(MODULE, {"Process_Disabled": None})
    assert (await sdk.event("desired"))["patch"] == {"Process_Disabled": None, "$version": 3}
    assert [said.properties["$.mid"] for said in rig.sink.received] == ["id/1", "id/2"]
    assert "error" not in await sdk.do("shutdown")


async def test_a_message_that_is_not_durable_is_sent_again(rig: Rig, sdk: Sdk):
    """The lake refuses, the connection drops, the SDK reconnects and sends the message until it is taken.

    The SDK and the MQTT client in it both repeat what is not acknowledged, so that it may come twice.
    """
    rig.sink.error = OSError("disk full")
    assert "error" not in await sdk.do("connect")
    sending = asyncio.create_task(sdk.do("send", "precious", {}, "id/1"))
    await rig.sink.wait(1)
    await until(lambda: rig.gateway.counters.ended["lake does not take messages"] > 0)
    rig.sink.error = None
    assert "error" not in await sending
    assert {said.properties["$.mid"] for said in rig.sink.received} == {"id/1"}
    assert len(rig.sink.received) >= 2
    assert rig.gateway.counters.durable >= 1


async def test_a_wrong_report_is_an_error_of_the_call(rig: Rig, sdk: Sdk):
    """The SDK raises, keeps its connection, and the next report works."""
    assert "error" not in await sdk.do("connect")
    wrong = await sdk.do("report", {"a.b": 1})
    assert (wrong["error"], "400" in wrong["cause"]) == ("ClientError", True)
    assert "error" not in await sdk.do("report", {"a": 1})
    assert rig.registry.twin(MODULE).reported == {"a": 1}
    assert rig.gateway.counters.connections == 1


async def test_a_connection_goes_on_when_its_token_is_renewed(rig: Rig, sdk_python: Path):
    """The SDK connects anew two minutes before the end; subscriptions that it does not repeat are kept."""
    connection = ConnectionString(HOST, MODULE, rig.device().primary_key).format()
    async with sdk_client(sdk_python, connection, rig.gateway.port, "ttl=123") as sdk:
        assert "error" not in await sdk.do("listen")
        for expected in (True, False, True):
            assert (await sdk.event("connection"))["connected"] is expected
        rig.registry.patch_desired(MODULE, {"rate": 5})
        assert (await sdk.event("desired"))["patch"] == {"rate": 5, "$version": 2}


async def test_a_disabled_module_is_told_so(rig: Rig, sdk: Sdk):
    """Bad credentials are a verdict: the SDK reports them and stops."""
    rig.registry.set_enabled(DEVICE, False)
    refused = await sdk.do("connect")
    assert refused["error"] == "CredentialError"


async def test_a_fault_of_the_hub_is_waited_out(rig: Rig, sdk: Sdk, monkeypatch: pytest.MonkeyPatch):
    """While the registry fails the SDK is told to come again; it does until it is let in."""

    def fail(identity: object) -> None:
        raise OSError("disk gone")

    assert "error" not in await sdk.do("connect")
    with monkeypatch.context() as broken:
        broken.setattr(rig.registry, "get", fail)
        drop(rig)
        await until(lambda: rig.gateway.counters.refused["fault of the hub"] >= 2)
    await until(lambda: rig.gateway.connections == 1)
    assert "error" not in await sdk.do("send", "again", {}, "id/1")


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that the gateway will come to know."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.01)


def drop(rig: Rig) -> None:
    """Cut the connection, as a network would."""
    (held,) = rig.gateway._sessions.values()
    held.link.abort("dropped by the test")
