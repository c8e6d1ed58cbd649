"""Direct methods and cloud-to-device messages over real sockets, on both event loops."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway_rig import DEVICE, MODULE, PATIENCE_S, Client, Rig, running
from vedette.hub.gateway.downlink import MAX_CALLS, CallFailed, NotOnline, TooManyCalls
from vedette.hub.registry import UnknownIdentity
from vedette.hub.registry.messages import EXPIRED, GIVEN_UP, MAX_DELIVERIES, MAX_WAITING, QueueFull
from vedette.wire.iothub import METHOD_REQUEST, METHOD_RESPONSE, decode_properties
from vedette.wire.packets import Puback, Publish, Suback, Subscribe

METHODS = ((f"{METHOD_REQUEST}#", 0),)
MAIL = ((f"devices/{DEVICE.device_id}/messages/devicebound/#", 1),)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


async def listening(rig: Rig) -> Client:
    """A module client that hears methods."""
    client = await rig.connected()
    client.send(Subscribe(1, METHODS))
    await client.expect(Suback(1, (0,)))
    return client


def ask(
    rig: Rig, payload: bytes = b"{}", timeout: float = PATIENCE_S, connect_timeout: float = 0
) -> asyncio.Task:
    return asyncio.create_task(
        rig.gateway.call(MODULE, "re start", payload, timeout=timeout, connect_timeout=connect_timeout)
    )


# Direct methods


async def test_a_method_is_asked_and_answered(rig: Rig):
    """The name is escaped, the payload is as it was given, and the answer finds its caller by the id."""
    client = await listening(rig)
    first, second = ask(rig, b'{"n":1}'), ask(rig, b"2")
    await client.expect(Publish(f"{METHOD_REQUEST}re%20start/?$rid=1", b'{"n":1}'))
    await client.expect(Publish(f"{METHOD_REQUEST}re%20start/?$rid=2", b"2"))
    client.send(Publish(f"{METHOD_RESPONSE}404/?$rid=2", b""))
    client.send(Publish(f"{METHOD_RESPONSE}-1/?$rid=1", b'{"ok":true}', 1, 7))
    await client.expect(Puback(7))
    assert await second == msgspec.structs.replace(await second, status=404, payload=msgspec.Raw(b"null"))
    assert ((await first).status, bytes((await first).payload)) == (-1, b'{"ok":true}')


async def test_a_method_waits_for_the_client_to_listen(rig: Rig):
    """Within the connect time-out: for the connection and for the subscription."""
    asked = ask(rig, connect_timeout=PATIENCE_S)
    client = await listening(rig)
    await client.expect(Publish(f"{METHOD_REQUEST}re%20start/?$rid=1", b"{}"))
    client.send(Publish(f"{METHOD_RESPONSE}200/?$rid=1", b"1"))
    assert (await asked).status == 200
    assert not rig.gateway._arrivals._awaited


async def test_a_client_that_does_not_listen_is_not_online(rig: Rig):
    """Neither one that is not connected, nor one that did not subscribe; nor one that goes."""
    with pytest.raises(NotOnline):
        await ask(rig)
    await rig.connected()
    with pytest.raises(NotOnline):
        await ask(rig, connect_timeout=0.01)
    client = await listening(rig)
    asked = ask(rig)
    await client.receive()
    client.writer.close()
    with pytest.raises(NotOnline):
        await asked


async def test_silence_and_nonsense_are_told_apart(rig: Rig):
    """A late answer is no harm; one that is not JSON fails its call alone."""
    client = await listening(rig)
    with pytest.raises(TimeoutError):
        await ask(rig, timeout=0.01)
    client.send(Publish(f"{METHOD_RESPONSE}200/?$rid=1", b"late"))
    asked = ask(rig)
    await client.expect(Publish(f"{METHOD_REQUEST}re%20start/?$rid=1", b"{}"))
    await client.expect(Publish(f"{METHOD_REQUEST}re%20start/?$rid=2", b"{}"))
    client.send(Publish(f"{METHOD_RESPONSE}200/?$rid=2", b"{"))
    with pytest.raises(CallFailed, match="not JSON"):
        await asked


async def test_calls_under_way_are_bounded(rig: Rig):
    """One more than may be is refused at once."""
    await listening(rig)
    asked = [ask(rig) for _ in range(MAX_CALLS)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyCalls):
        await ask(rig)
    for call in asked:
        call.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


async def test_a_status_that_is_no_number_closes(rig: Rig):
    """It cannot be passed on."""
    client = await listening(rig)
    client.send(Publish(f"{METHOD_RESPONSE}fine/?$rid=1"))
    assert await client.closed()


# Messages


async def receiving(rig: Rig) -> Client:
    client = await rig.connected(DEVICE)
    client.send(Subscribe(1, MAIL))
    await client.expect(Suback(1, (1,)))
    return client


async def message(client: Client) -> Publish:
    packet = await client.receive()
    assert isinstance(packet, Publish)
    return packet


async def settled(rig: Rig, count: int) -> None:
    """Wait until so many messages are left."""
    async with asyncio.timeout(PATIENCE_S):
        while len(rig.registry.messages.news(0)[1]) != count:
            await asyncio.sleep(0.01)


async def test_a_message_waits_for_its_device(rig: Rig):
    """It comes with its properties when the device subscribes, and is gone when it is acknowledged."""
    rig.registry.messages.put("pump", {"$.mid": "id/1", "ä": "b c"}, b"body")
    client = await receiving(rig)
    came = await message(client)
    path, _, bag = came.topic.rpartition("/")
    assert (path, came.payload, came.qos) == ("devices/pump/messages/devicebound", b"body", 1)
    assert decode_properties(bag) == {
        "$.to": "/devices/pump/messages/devicebound",
        "$.mid": "id/1",
        "ä": "b c",
    }
    client.send(Puback(came.packet_id))
    await settled(rig, 0)


async def test_a_message_comes_to_a_connected_device(rig: Rig):
    """Each once, in their order."""
    client = await receiving(rig)
    for body in (b"1", b"2"):
        rig.registry.messages.put("pump", {}, body)
    assert [(await message(client)).payload for _ in range(2)] == [b"1", b"2"]


async def test_what_is_not_acknowledged_comes_again(rig: Rig):
    """On the next connection, whose subscription is kept; in the end it is given up."""
    rig.registry.messages.put("pump", {}, b"again")
    client = await receiving(rig)
    first = await message(client)
    assert (first.payload, first.dup) == (b"again", False)
    client.writer.close()
    client = await rig.connected(DEVICE, present=True)
    second = await message(client)
    assert (second.payload, second.dup) == (b"again", True)
    for _ in range(MAX_DELIVERIES):
        taken = rig.registry.messages.take("pump")
    assert not taken
    assert rig.registry.messages.lost == {GIVEN_UP: 1}


async def test_messages_that_wait_are_bounded(rig: Rig):
    """In number, size and time; what has expired makes room."""
    messages = rig.registry.messages
    with pytest.raises(UnknownIdentity):
        messages.put("nobody", {}, b"")
    with pytest.raises(ValueError, match="expiry"):
        messages.put("pump", {}, b"", ttl=0)
    for _ in range(MAX_WAITING):
        messages.put("pump", {}, b"")
    with pytest.raises(QueueFull):
        messages.put("pump", {}, b"")
    assert messages.purge("pump") == MAX_WAITING
    messages.put("pump", {}, b"", ttl=1e-6)
    assert not messages.take("pump")
    assert messages.lost == {EXPIRED: 1}
