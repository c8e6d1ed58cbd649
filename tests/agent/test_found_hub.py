"""An agent that proves itself by certificate, or that a provisioning service sends to its hub."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from certificates import Pair, issue
from gateway_rig import DEVICE, HOST, MODULE, PATIENCE_S, Rig, pki, running
from vedette.agent import uplink as uplink_module
from vedette.agent.app import Agent
from vedette.agent.outbox import Outbox
from vedette.agent.provision import ASSIGNMENT, Assignment, provisioned
from vedette.agent.session import Pace
from vedette.agent.settings import (
    CERTIFICATE,
    CONF,
    CONNECTION_STRING,
    PRIVATE_KEY,
    PROVISIONING,
    Local,
    LocalError,
    load_local,
    route_to,
    write_private,
)
from vedette.agent.uplink import Uplink
from vedette.hub.gateway.certificates import thumbprints
from vedette.hub.registry import Draft
from vedette.hub.registry.enrollments import Enrollment
from vedette.wire.iothub import ConnectionString, Identity
from vedette.wire.message import Packed

PRESS = Identity("press-7")
QUICK = Pace(first=0.02, ceiling=0.1, refused_first=0.02, refused_ceiling=0.1)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that wants to be asked again at once, and devices that do."""
    monkeypatch.setattr("vedette.hub.gateway.provisioning.RETRY_AFTER_S", 0)
    monkeypatch.setattr("vedette.agent.provision.MIN_WAIT_S", 0.01)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    (tmp_path / "hub").mkdir()
    async with running(tmp_path / "hub") as made:
        yield made


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.mkdir()
    return path


def lay_certificate(config: Path, own: Pair) -> None:
    write_private(config / CERTIFICATE, own.pem)
    write_private(config / PRIVATE_KEY, own.key_pem)


async def until(condition: Callable[[], object]) -> None:
    """Poll what the registry alone tells."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def lives(rig: Rig, local: Local, identity: Identity) -> None:
    """An agent gets its twin, follows a change of it, and its messages arrive."""
    agent = Agent(local, [])
    work = asyncio.create_task(agent.run())
    try:
        await until(lambda: "latest_state" in rig.registry.twin(identity).reported)
        rig.registry.patch_desired(identity, {"Process_CacheSize": 77})
        await until(lambda: rig.registry.twin(identity).reported["Process_CacheSize"] == 77)
    finally:
        agent.stop()
        await work
    assert {inbound.identity for inbound in rig.sink.received} == {identity}


# By certificate


@pytest.mark.parametrize("vouched", [False, True], ids=["self-signed", "of an authority"])
async def test_a_certificate_opens_the_hub(rig: Rig, config: Path, tmp_path: Path, vouched: bool):
    """With the micro agent's files: registered by its thumbprint, or issued by a registered authority."""
    factory = issue("factory", ca=True)
    own = issue(DEVICE.device_id, factory if vouched else None)
    lay_certificate(config, own)
    if vouched:
        rig.registry.authorities.add("factory", factory.pem)
        draft = Draft(MODULE, authentication="certificateAuthority")
    else:
        draft = Draft(MODULE, authentication="selfSigned", thumbprints=(thumbprints(own.certificate)[1], ""))
    rig.registry.fleet.update(draft, "*")
    write_private(config / CONNECTION_STRING, ConnectionString(HOST, MODULE, x509=True).format().encode())
    local = load_local(config, tmp_path / "state", ca_file=Path(pki().ca), port=rig.gateway.port)
    await lives(rig, local, MODULE)


def test_a_certificate_does_not_travel_by_websocket(config: Path):
    """A hub's HTTPS port asks for none: the setting that cannot be is named before anything is tried."""
    lay_certificate(config, issue("press-7"))
    (config / CONF).write_text('{"IothubModule_TransportProtocol": "MQTT_WebSocket_Protocol"}')
    with pytest.raises(LocalError, match=r"conf\.json: IothubModule_TransportProtocol: .*client certificate"):
        route_to("h", config, x509=True)


# By provisioning


def enrol(rig: Rig, config: Path, **proof: Any) -> None:
    document = {"endpoint": HOST, "port": rig.gateway.port, "id_scope": "0ne1"}
    document |= {"registration_id": PRESS.device_id} | proof
    write_private(config / PROVISIONING, json.dumps(document).encode())


async def found(rig: Rig, config: Path, tmp_path: Path) -> Local:
    state, ca = tmp_path / "state", Path(pki().ca)
    return await provisioned(config, state, ca_file=ca, port=rig.gateway.port, patient=False)


@pytest.mark.parametrize("grouped", [True, False], ids=["group", "individual"])
async def test_a_certificate_makes_a_device_and_opens_its_hub(
    rig: Rig, config: Path, tmp_path: Path, grouped: bool
):
    """Nothing of it was known to the hub but its authority, or itself."""
    factory = issue("factory", ca=True)
    own = issue(PRESS.device_id, factory if grouped else None)
    lay_certificate(config, own)
    known = (factory if grouped else own).pem.decode()
    rig.registry.enrollments.add(
        Enrollment("presses" if grouped else PRESS.device_id, grouped, certificates=(known,))
    )
    enrol(rig, config, x509=True)
    await lives(rig, await found(rig, config, tmp_path), PRESS)


@asynccontextmanager
async def connected(local: Local, tmp_path: Path) -> AsyncIterator[tuple[Uplink, Outbox, asyncio.Queue[Any]]]:
    """An uplink alone, without the pauses of a real one; what it hands on of twins."""
    outbox = Outbox(tmp_path / "outbox.db", 100_000)
    desired: asyncio.Queue[Any] = asyncio.Queue()

    async def hand_on(document: dict[str, Any], version: int) -> None:
        desired.put_nowait((document, version))

    uplink = Uplink(
        local.connection,
        outbox,
        on_desired=hand_on,
        route=local.route,
        pace=QUICK,
        find_hub=local.find_hub,
    )
    work = asyncio.create_task(uplink.run())
    try:
        yield uplink, outbox, desired
    finally:
        await uplink.close(0)
        await work
        outbox.close()


async def test_a_device_that_was_removed_registers_anew(rig: Rig, config: Path, tmp_path: Path):
    """Its enrollment still stands: it is made again, gets its new twin, and what it had to say arrives."""
    group = rig.registry.enrollments.add(Enrollment("presses", True, desired={"rate": 5}))
    enrol(rig, config, group_key=group.primary_key)
    async with connected(await found(rig, config, tmp_path), tmp_path) as (uplink, outbox, desired):
        assert await desired.get() == ({"rate": 5, "$version": 2}, 2)
        rig.registry.patch_desired(PRESS, {"rate": 7})
        assert (await desired.get())[0]["rate"] == 7
        rig.registry.remove(PRESS)
        assert await asyncio.wait_for(desired.get(), PATIENCE_S) == ({"rate": 5, "$version": 2}, 2)
        outbox.put(Packed("m" * 32, b"{}", 1, 1, 1))
        uplink.wake()
        await rig.sink.wait(1)


async def test_a_hub_that_is_gone_is_looked_for(
    rig: Rig, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Unreachable for long enough, it may have moved: the service says where to, and that is remembered."""
    monkeypatch.setattr(uplink_module, "AWAY_S", 0.0)
    group = rig.registry.enrollments.add(Enrollment("presses", grouped=True))
    enrol(rig, config, group_key=group.primary_key)
    (tmp_path / "state").mkdir()
    former = Assignment("0ne1", PRESS.device_id, "127.0.0.9", PRESS.device_id)
    write_private(
        tmp_path / "state" / ASSIGNMENT,
        json.dumps({name: getattr(former, name) for name in former.__struct_fields__}).encode(),
    )
    local = await found(rig, config, tmp_path)
    assert local.connection.host == "127.0.0.9"
    async with connected(local, tmp_path) as (_, _, desired):
        await asyncio.wait_for(desired.get(), PATIENCE_S)
    assert (await found(rig, config, tmp_path)).connection.host == HOST


async def test_a_device_that_is_not_wanted_is_told_so_once(
    rig: Rig, config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Its enrollment was ended, too: it goes on asking, and is back when it is enrolled again."""
    own = rig.registry.enrollments.add(Enrollment(PRESS.device_id, grouped=False))
    enrol(rig, config, symmetric_key=own.primary_key)
    async with connected(await found(rig, config, tmp_path), tmp_path) as (_, _, desired):
        await desired.get()
        rig.registry.enrollments.remove(own.name, grouped=False)
        rig.registry.remove(PRESS)
        refused = "registration: no enrollment has this key"
        await until(lambda: rig.gateway.counters.refused[refused] >= 3)
        rig.registry.enrollments.add(own)
        await asyncio.wait_for(desired.get(), PATIENCE_S)
    assert caplog.text.count("is not provisioned") == 1
