"""MQTT over WebSocket on the HTTPS port, with an independent WebSocket client."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from gateway_rig import HOST, MODULE, pki
from service_rig import ServiceRig, serving
from vedette.hub.https import MAX_FRAME_BYTES
from vedette.wire.mqtt import CLIENT, Receiver, encode
from vedette.wire.packets import Connack, ConnectCode, Disconnect, Packet, Pingreq, Pingresp, Puback, Publish


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServiceRig]:
    async with serving(tmp_path) as made:
        yield made


def opened(hub: ServiceRig, *protocols: str) -> connect:
    trust = ssl.create_default_context(cafile=pki().ca)
    return connect(
        f"wss://{HOST}:{hub.https.port}/$iothub/websocket",
        subprotocols=protocols or ("mqtt",),
        ssl=trust,
        proxy=None,
    )


async def packets(socket: ClientConnection, count: int) -> list[Packet]:
    receiver, found = Receiver(CLIENT), []
    while len(found) < count:
        receiver.feed(await socket.recv())
        while packet := receiver.next_packet():
            found.append(packet)
    return found


async def test_packets_span_frames_and_share_them(hub: ServiceRig):
    """MQTT is a stream: where its frames end means nothing."""
    async with opened(hub) as socket:
        assert socket.subprotocol == "mqtt"
        stream = encode(hub.rig.hello()) + encode(Publish(MODULE.events_topic, b"x" * 5000, 1, 7))
        for start in range(0, len(stream), 700):
            await socket.send(stream[start : start + 700])
        await socket.send(encode(Pingreq()) + encode(Pingreq()))
        answers = await packets(socket, 4)
        assert set(map(type, answers)) == {Connack, Puback, Pingresp}
        assert [said.body for said in hub.rig.sink.received] == [b"x" * 5000]
        await socket.send(encode(Disconnect()))
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()


async def test_a_refusal_reaches_the_client(hub: ServiceRig):
    """CONNACK, then the end."""
    async with opened(hub) as socket:
        await socket.send(encode(hub.rig.hello(password=b"SharedAccessSignature sr=a&sig=YQ==&se=1")))
        assert await packets(socket, 1) == [Connack(ConnectCode.NOT_AUTHORIZED)]
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()


@pytest.mark.parametrize("frame", ["text", b"x" * (MAX_FRAME_BYTES + 1)], ids=["text", "too long"])
async def test_what_is_not_mqtt_closes(hub: ServiceRig, frame: str | bytes):
    """Text, or a frame that no packet needs."""
    async with opened(hub) as socket:
        await socket.send(frame)
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()


async def test_another_protocol_is_refused(hub: ServiceRig):
    """The upgrade is not granted."""
    with pytest.raises(websockets.InvalidStatus):
        async with opened(hub, "chat"):
            pass


async def test_a_newer_connection_replaces_it(hub: ServiceRig):
    """One connection an identity, whichever way it comes."""
    async with opened(hub) as socket:
        await socket.send(encode(hub.rig.hello()))
        await packets(socket, 1)
        await hub.rig.connected()
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
