"""Two gateways on one registry, in one process: what a client of one learns of what is done at the other."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from gateway_rig import DEVICE, MODULE, PATIENCE_S, Client, Rig
from vedette.hub.gateway import peers, server
from vedette.hub.gateway.downlink import CallFailed, NotOnline
from vedette.hub.gateway.server import REPLACED
from vedette.wire.iothub import METHOD_REQUEST, METHOD_RESPONSE, TWIN_GET
from vedette.wire.packets import Connack, ConnectCode, Disconnect, Publish, Suback, Subscribe

METHODS = ((f"{METHOD_REQUEST}#", 0),)
MAIL = ((f"devices/{DEVICE.device_id}/messages/devicebound/#", 1),)
DESIRED = (("$iothub/twin/PATCH/properties/desired/#", 0), ("$iothub/twin/res/#", 0))


@pytest.fixture
async def pair(
    tmp_path: Path, keyed_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Rig, Rig]]:
    """Gateways `west` and `east`, which look at the registry more often than usual."""
    monkeypatch.setattr(server, "POLL_INTERVAL_S", 0.02)
    rigs = Rig(tmp_path, url=keyed_url, name="west"), Rig(tmp_path, url=keyed_url, name="east")
    for identity in (DEVICE, MODULE):
        rigs[0].registry.add(identity)
    for rig in rigs:
        await rig.start()
    yield rigs
    for rig in rigs:
        await rig.close()


async def listening(rig: Rig, *, present: bool = False) -> Client:
    """A module client that hears methods."""
    client = await rig.connected(present=present)
    if not present:
        client.send(Subscribe(1, METHODS))
        await client.expect(Suback(1, (0,)))
    return client


async def answer(client: Client, body: bytes, status: int = 200) -> None:
    """Answer the method that is asked next."""
    asked = await client.receive()
    assert isinstance(asked, Publish)
    client.send(Publish(f"{METHOD_RESPONSE}{status}/?{asked.topic.partition('?')[2]}", body))


async def call(rig: Rig, *, timeout: float = PATIENCE_S, connect_timeout: float = 0) -> tuple[int, bytes]:
    answered = await rig.gateway.call(
        MODULE, "restart", b'{"n":1}', timeout=timeout, connect_timeout=connect_timeout
    )
    return answered.status, bytes(answered.payload)


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that a gateway will come to know."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_newer_connection_elsewhere_closes_the_older(pair: tuple[Rig, Rig]):
    """The newer one stays, and stays registered when the older has said farewell."""
    west, east = pair
    old = await west.connected()
    new = await east.connected()
    assert await old.closed()
    await until(lambda: west.gateway.counters.ended[REPLACED] == 1)
    await west.gateway._write_activity()
    assert west.device().gateway == "east"
    new.send(Disconnect())
    assert await new.closed()


async def test_a_client_may_go_to_and_fro(pair: tuple[Rig, Rig]):
    """Each connection ends the one before; the last one stays."""
    held: list[Client] = []
    for rig in (*pair, *pair):
        held.append(await rig.connected())
        if len(held) > 1:
            assert await held[-2].closed()
    await until(lambda: [rig.gateway.connections for rig in pair] == [0, 1])


async def test_many_connections_of_a_moment_share_a_transaction(pair: tuple[Rig, Rig]):
    """While one batch is written the next one gathers; each gets its own number."""
    west, _ = pair
    hold, batches = west.registry.connections.hold, []

    def noted(gateway: str, identities: set) -> dict:
        batches.append(len(identities))
        return hold(gateway, identities)

    west.gateway._peers._connections.hold = noted
    identities = [DEVICE, *(msgspec.structs.replace(MODULE, module_id=f"m{n}") for n in range(30))]
    numbers = await asyncio.gather(*map(west.gateway._peers.hold, identities))
    assert len(set(numbers)) == len(identities) == sum(batches)
    assert len(batches) < len(identities)


async def test_subscriptions_are_kept_across_gateways(pair: tuple[Rig, Rig]):
    """Who reconnects elsewhere is answered and told without subscribing again."""
    west, east = pair
    client = await west.connected()
    client.send(Subscribe(1, DESIRED))
    await client.expect(Suback(1, (0, 0)))
    client = await east.connected(present=True)
    client.send(Publish(f"{TWIN_GET}?$rid=1"))
    got = await client.receive()
    assert isinstance(got, Publish)
    assert got.topic == "$iothub/twin/res/200/?$rid=1"
    west.registry.patch_desired(MODULE, {"a": 1})
    await client.expect(Publish("$iothub/twin/PATCH/properties/desired/?$version=2", b'{"a":1,"$version":2}'))


async def test_a_method_reaches_a_client_of_the_other_gateway(pair: tuple[Rig, Rig]):
    """With its payload there, and with status and payload back."""
    west, east = pair
    client = await listening(east)
    asked = asyncio.create_task(call(west))
    await client.expect(Publish(f"{METHOD_REQUEST}restart/?$rid=1", b'{"n":1}'))
    client.send(Publish(f"{METHOD_RESPONSE}207/?$rid=1", b'{"ok":true}'))
    assert await asked == (207, b'{"ok":true}')
    assert west.registry.calls.last() == 0, "nothing is left of it"


async def test_a_method_waits_for_a_client_that_comes_to_the_other_gateway(pair: tuple[Rig, Rig]):
    """Within the connect time-out, which goes on there until it has subscribed."""
    west, east = pair
    asked = asyncio.create_task(call(west, connect_timeout=PATIENCE_S))
    await answer(await listening(east), b"1")
    assert await asked == (200, b"1")


async def test_failures_come_back_as_what_they_are(pair: tuple[Rig, Rig], monkeypatch: pytest.MonkeyPatch):
    """Not listening, an answer that is none, silence, and a gateway that has died."""
    west, east = pair
    await east.connected()
    with pytest.raises(NotOnline, match="hears no methods"):
        await call(west)
    client = await listening(east)
    asked = asyncio.create_task(call(west))
    await answer(client, b"{")
    with pytest.raises(CallFailed, match="not JSON"):
        await asked
    with pytest.raises(TimeoutError):
        await call(west, timeout=0.01)
    monkeypatch.setattr(peers, "RELAY_S", 0.01)
    monkeypatch.setattr(server.Peers, "follow", asyncio.Event().wait)
    with pytest.raises(TimeoutError):
        await call(west, timeout=0.01)


async def test_a_message_reaches_a_device_of_the_other_gateway(pair: tuple[Rig, Rig]):
    """What one hub's service port takes, the other's connection brings."""
    west, east = pair
    client = await east.connected(DEVICE)
    client.send(Subscribe(1, MAIL))
    await client.expect(Suback(1, (1,)))
    west.registry.messages.put(DEVICE.device_id, {}, b"news")
    came = await client.receive()
    assert isinstance(came, Publish)
    assert came.payload == b"news"


async def test_what_is_revoked_while_a_connection_is_written_down_ends(
    pair: tuple[Rig, Rig], monkeypatch: pytest.MonkeyPatch
):
    """The record that let it in is looked at again."""
    west, east = pair
    hold = west.gateway._peers.hold

    async def late(identity: object) -> int:
        east.registry.set_enabled(MODULE, False)
        async with asyncio.timeout(PATIENCE_S):
            while not west.gateway._revocations:
                await asyncio.sleep(0.01)
        return await hold(MODULE)

    monkeypatch.setattr(west.gateway._peers, "hold", late)
    hello = west.hello()
    client = await west.client()
    client.send(hello)
    await client.expect(Connack(ConnectCode.ACCEPTED))
    assert await client.closed()
