"""What becomes of clients whose daily quota is spent."""

import asyncio
from pathlib import Path

import msgspec

from gateway_rig import DEVICE, MODULE, PATIENCE_S, running
from vedette.hub.gateway.session import QUOTA
from vedette.hub.limits import Limits
from vedette.wire.iothub import TWIN_GET, TWIN_RESPONSE, Identity
from vedette.wire.packets import Connack, ConnectCode, Puback, Publish, Suback, Subscribe

VALVE = Identity("valve")


async def test_messages_beyond_the_quota_are_not_taken(tmp_path: Path):
    """The client is cut off without PUBACK, so it keeps the message; others are served."""
    async with running(tmp_path, Limits(daily_units_per_device=1)) as rig:
        rig.registry.add(VALVE)
        client = await rig.connected()
        client.send(Publish(MODULE.events_topic, b"", 1, 1), Publish(MODULE.events_topic, b"", 1, 2))
        await client.expect(Puback(1))
        assert await client.closed()
        assert rig.gateway.counters.throttled == {"quota": 1}
        assert len(rig.sink.received) == 1
        again = await rig.client()
        again.send(rig.hello(DEVICE))
        await again.expect(Connack(ConnectCode.UNAVAILABLE))
        assert rig.gateway.counters.refused[QUOTA] == 1
        await rig.connected(VALVE)


async def test_twin_requests_beyond_the_quota_are_answered_with_403(tmp_path: Path):
    """With a body for the SDK that reads nothing else; the connection stays."""
    async with running(tmp_path, Limits(daily_units=1)) as rig:
        client = await rig.connected()
        client.send(Subscribe(1, ((f"{TWIN_RESPONSE}#", 0),)))
        await client.expect(Suback(1, (0,)))
        client.send(Publish(f"{TWIN_GET}?$rid=1"), Publish(f"{TWIN_GET}?$rid=2"))
        answers = [await client.receive() for _ in range(2)]
        shown = [answer for answer in answers if isinstance(answer, Publish)]
        assert [answer.topic for answer in shown] == [
            f"{TWIN_RESPONSE}200/?$rid=1",
            f"{TWIN_RESPONSE}403/?$rid=2",
        ]
        assert msgspec.json.decode(shown[1].payload) == {"errorCode": 403_002, "message": QUOTA}


async def test_the_quota_lasts_over_a_restart(tmp_path: Path):
    """What was spent is written down when a gateway closes, and learned by the next."""
    async with running(tmp_path, Limits(daily_units=1)) as rig, asyncio.timeout(PATIENCE_S):
        client = await rig.connected()
        client.send(Publish(MODULE.events_topic, b"", 1, 1))
        await client.expect(Puback(1))
        await rig.restart()
        late = await rig.client()
        late.send(rig.hello())
        await late.expect(Connack(ConnectCode.UNAVAILABLE))
