"""Clients that ask too much: slowed down, told to wait, or not let in; others are not disturbed."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_rig import DEVICE, HOST, MODULE, PATIENCE_S, running
from vedette.hub.gateway.door import Door
from vedette.hub.gateway.server import CROWDED, TOO_OFTEN
from vedette.hub.limits import Bucket, Buckets, Limits
from vedette.wire.iothub import TWIN_GET, TWIN_RESPONSE, make_token
from vedette.wire.packets import Connack, ConnectCode, Puback, Publish, Suback, Subscribe


@given(st.lists(st.floats(0, 10)), st.floats(0.1, 100), st.integers(1, 20))
def test_a_bucket_gives_no_more_than_its_burst_and_rate(pauses: list[float], rate: float, burst: int):
    """Whenever it is asked."""
    bucket, now, taken = Bucket(rate, burst, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
        assert taken <= burst + rate * now + 1e-6


def test_a_debt_is_paid_at_the_rate():
    """What is taken on credit says how long to wait."""
    bucket = Bucket(rate=2.0, burst=1, now=0.0)
    assert [bucket.owe(0.0), bucket.owe(0.0), bucket.owe(0.5)] == [0.0, 0.5, 0.5]
    assert not bucket.take(0.5)
    assert bucket.take(2.0)


def test_buckets_are_as_many_as_may_be():
    """The one that was used least lately is forgotten, and full again."""
    buckets = Buckets[str](rate=1.0, burst=1, most=2)
    assert buckets.of("a", 0.0).take(0.0)
    assert buckets.of("b", 0.0).take(0.0)
    assert not buckets.of("a", 0.0).take(0.0)
    assert buckets.of("c", 0.0).take(0.0)
    assert not buckets.of("a", 0.0).take(0.0)
    assert buckets.of("b", 0.0).take(0.0)


def test_strangers_of_one_address_are_bounded():
    """Who is let in or goes makes room, once; other addresses have their own."""
    busy = Door(Limits(strangers_per_address=2))
    first, second = busy.knock("a"), busy.knock("a")
    assert first
    assert second
    assert busy.knock("a") is None
    assert busy.knock("b")
    first.leave()
    first.leave()
    assert busy.knock("a")
    assert busy.knock("a") is None


def test_an_identity_that_connects_too_often_comes_again_later():
    """The one, not the other; and the memory of them is bounded."""
    busy = Door(Limits(connects_per_second=1.0, connect_burst=2))
    assert [busy.too_often(DEVICE, 0.0) for _ in range(3)] == [False, False, True]
    assert not busy.too_often(MODULE, 0.0)
    assert not busy.too_often(DEVICE, 1.0)


# Over sockets


async def test_too_many_strangers_are_not_listened_to(tmp_path: Path):
    """Not even for a handshake; a client that is let in makes room for the next."""
    async with running(tmp_path, Limits(strangers_per_address=1)) as rig:
        idle = await rig.client()
        with pytest.raises(OSError):  # noqa: PT011 - reset or cut off: the system's choice
            await rig.client()
        assert rig.gateway.counters.refused[CROWDED] == 1
        idle.send(rig.hello())
        await idle.expect(Connack(ConnectCode.ACCEPTED))
        await rig.connected(DEVICE)


async def test_a_plain_connection_is_a_stranger_too(tmp_path: Path):
    """Whoever holds a socket and never begins TLS; until it goes."""
    async with running(tmp_path, Limits(strangers_per_address=1)) as rig:
        _, writer = await asyncio.open_connection("127.0.0.1", rig.gateway.port)
        with pytest.raises(OSError):  # noqa: PT011 - reset or cut off: the system's choice
            await rig.client()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(PATIENCE_S):
            while rig.gateway._door._strangers:
                await asyncio.sleep(0.01)
        await rig.connected()


async def test_a_client_that_reconnects_too_often_is_told_to_wait(tmp_path: Path):
    """With the code that makes it try again, not the one that makes it give up."""
    async with running(tmp_path, Limits(connect_burst=1, connects_per_second=0.1)) as rig:
        await rig.connected()
        again = await rig.client()
        again.send(rig.hello())
        await again.expect(Connack(ConnectCode.UNAVAILABLE))
        assert rig.gateway.counters.refused[TOO_OFTEN] == 1
        assert rig.gateway.connections == 1


async def test_messages_that_come_too_fast_are_taken_more_slowly(tmp_path: Path):
    """None is lost, all are acknowledged."""
    async with running(tmp_path, Limits(message_burst=1, messages_per_second=10)) as rig:
        client = await rig.connected()
        client.send(*(Publish(MODULE.events_topic, b"", 1, number) for number in range(1, 6)))
        await client.expect(*map(Puback, range(1, 6)))
        assert 1 <= rig.gateway.counters.throttled["messages"] <= 4  # a slow machine earns some meanwhile


async def test_twin_requests_that_come_too_fast_are_refused(tmp_path: Path):
    """With status 429, and a body for the SDK that reads nothing else."""
    async with running(tmp_path, Limits(twin_request_burst=1, twin_requests_per_second=0.1)) as rig:
        client = await rig.connected()
        client.send(Subscribe(1, ((f"{TWIN_RESPONSE}#", 0),)))
        await client.expect(Suback(1, (0,)))
        client.send(Publish(f"{TWIN_GET}?$rid=1"), Publish(f"{TWIN_GET}?$rid=2"))
        answers = [await client.receive() for _ in range(2)]
        assert [answer.topic for answer in answers if isinstance(answer, Publish)] == [
            f"{TWIN_RESPONSE}200/?$rid=1",
            f"{TWIN_RESPONSE}429/?$rid=2",
        ]


async def test_wrong_tokens_are_counted_by_the_identity_they_claim(tmp_path: Path):
    """For alerts: expired ones apart from forged ones."""
    async with running(tmp_path) as rig:
        key = rig.device().primary_key
        forged = make_token(HOST, MODULE, rig.device(DEVICE).primary_key, now=2e9)
        for password in (make_token(HOST, MODULE, key, now=1e9), forged, forged):
            client = await rig.client()
            client.send(rig.hello(password=password.encode()))
            await client.expect(Connack(ConnectCode.NOT_AUTHORIZED))
        counted = rig.gateway.operations.take().items()
        assert {(who, done.outcome, done.reason): hits for (who, done), hits in counted} == {
            (MODULE, "Refused", "token: expired"): 1,
            (MODULE, "Refused", "token: signature is wrong"): 2,
        }
        assert {(done.remote_address, done.identity) for (_, done), _ in counted} == {
            ("127.0.0.1", MODULE.client_id)
        }
