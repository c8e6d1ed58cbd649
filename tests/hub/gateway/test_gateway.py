"""The gateway over real TLS sockets, packet by packet, on both event loops."""

import asyncio
import base64
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_rig import DEVICE, HOST, MODULE, PATIENCE_S, Client, Rig, pki, running
from vedette.hub.gateway import link, server, session
from vedette.hub.registry import Registry
from vedette.wire.iothub import (
    TWIN_DESIRED,
    TWIN_GET,
    TWIN_REPORTED,
    TWIN_RESPONSE,
    Identity,
    make_token,
    username,
)
from vedette.wire.mqtt import encode
from vedette.wire.packets import (
    FAILURE,
    Connack,
    ConnectCode,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)

TWIN_FILTERS = ((f"{TWIN_RESPONSE}#", 0), (f"{TWIN_DESIRED}#", 1))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


def event(packet_id: int = 0, body: bytes = b"{}", bag: str = "", **fields: Any) -> Publish:
    """A device-to-cloud message of MODULE."""
    return Publish(MODULE.events_topic + bag, body, 1 if packet_id else 0, packet_id, **fields)


async def subscribed(rig: Rig) -> Client:
    """A client that hears of its twin."""
    client = await rig.connected()
    client.send(Subscribe(1, TWIN_FILTERS))
    await client.expect(Suback(1, (0, 1)))
    return client


async def until_ended(rig: Rig, reason: str) -> None:
    """Wait until a connection has ended for a reason."""
    async with asyncio.timeout(PATIENCE_S):
        while not rig.gateway.counters.ended[reason]:
            await asyncio.sleep(0.01)


# Messages


async def test_a_message_reaches_the_sink_with_its_properties(rig: Rig):
    """The property bag is decoded, the body is untouched, the identity is the connection's."""
    client = await rig.connected()
    body = secrets.token_bytes(1000)
    client.send(event(7, body, "%24.mid=a%2Fb&mti=2.3-0-1-0&plus=1%2B1&bare"))
    await client.expect(Puback(7))
    (inbound,) = rig.sink.received
    assert inbound.identity == MODULE
    assert inbound.properties == {"$.mid": "a/b", "mti": "2.3-0-1-0", "plus": "1+1", "bare": ""}
    assert inbound.body == body
    assert abs(inbound.received - time.time()) < 60
    assert (rig.gateway.counters.messages, rig.gateway.counters.bytes) == (1, 1000)


async def test_a_puback_waits_for_the_sink(rig: Rig):
    """While a message is not durable it is not acknowledged, and the connection stays lively."""
    client = await rig.connected()
    rig.sink.open.clear()
    client.send(event(1), Pingreq())
    await client.expect(Pingresp())
    assert len(rig.sink.received) == 1
    rig.sink.open.set()
    await client.expect(Puback(1))


async def test_pubacks_keep_the_order_of_the_messages(rig: Rig):
    """A message that is durable earlier than one before it waits for it, a twin request too."""
    order: dict[bytes, asyncio.Event] = {b"first": asyncio.Event(), b"second": asyncio.Event()}
    rig.gateway._sink = lambda inbound: order[inbound.body].wait()
    client = await rig.connected()
    client.send(event(1, b"first"), event(2, b"second"), Publish(f"{TWIN_GET}?$rid=1", b"", 1, 3))
    order[b"second"].set()
    client.send(Pingreq())
    await client.expect(Pingresp())
    order[b"first"].set()
    await client.expect(Puback(1), Puback(2), Puback(3))


async def test_a_message_that_the_sink_refuses_stays_with_the_client(
    rig: Rig, caplog: pytest.LogCaptureFixture
):
    """No PUBACK and the connection closes; the client sends again and succeeds. Each turn is logged once."""
    rig.sink.error = OSError("disk full")
    for _ in range(2):
        client = await rig.connected()
        client.send(event(1))
        assert await client.closed()
    rig.sink.error = None
    with caplog.at_level(logging.INFO):
        client = await rig.connected()
        client.send(event(1, dup=True))
        await client.expect(Puback(1))
    assert [r.message for r in caplog.records if "lake" in r.message and r.levelno != logging.WARNING] == [
        "lake fails",
        "lake works again",
    ]
    assert rig.gateway.counters.ended[session.LAKE_FAULT] == 2
    assert (rig.gateway.counters.messages, rig.gateway.counters.durable) == (3, 1)


async def test_a_slow_sink_stops_the_reading(rig: Rig):
    """What one connection can make the hub hold is bounded: the socket is left alone until there is room."""
    client = await rig.connected()
    rig.sink.open.clear()
    count, body = 300, bytes(100_000)
    client.send(*(event(n, body) for n in range(1, count + 1)))
    fits = -(-session.MAX_WAITING_BYTES // len(event(1, body).topic + body.decode()))
    await rig.sink.wait(fits)
    (held,) = rig.gateway._sessions.values()
    async with asyncio.timeout(PATIENCE_S):
        while held.link._reading:
            await asyncio.sleep(0.01)
    assert len(rig.sink.received) == fits
    assert held.link._receiver.buffered <= link.READ_AHEAD_BYTES + 262_144
    rig.sink.open.set()
    await client.expect(*(Puback(n) for n in range(1, count + 1)))
    assert rig.gateway.room.messages == rig.gateway.room.bytes == 0


async def test_a_connection_may_have_so_many_messages_waiting(rig: Rig):
    """Small messages are bounded by number."""
    client = await rig.connected()
    rig.sink.open.clear()
    client.send(*(event(n) for n in range(1, session.MAX_WAITING + 11)))
    await rig.sink.wait(session.MAX_WAITING)
    assert rig.gateway.room.messages == session.MAX_WAITING
    rig.sink.open.set()
    await client.expect(*(Puback(n) for n in range(1, session.MAX_WAITING + 11)))


async def test_messages_survive_a_hasty_goodbye(rig: Rig):
    """A message without acknowledgement counts even if DISCONNECT follows at once."""
    client = await rig.connected()
    client.send(event(body=b"bye"), Disconnect())
    assert await client.closed()
    await until_ended(rig, session.DISCONNECTED)
    assert [inbound.body for inbound in rig.sink.received] == [b"bye"]


async def test_closing_acknowledges_what_was_received(rig: Rig):
    """A gateway that closes first lets waiting messages become durable and says so."""
    client = await rig.connected()
    rig.sink.open.clear()
    client.send(event(1))
    await rig.sink.wait(1)
    closing = asyncio.create_task(rig.gateway.close())
    await asyncio.sleep(0)
    rig.sink.open.set()
    await client.expect(Puback(1))
    assert await client.closed()
    await closing
    await rig.restart()


async def test_closing_does_not_wait_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """A message that never becomes durable holds a closing gateway up for a bounded time only."""
    monkeypatch.setattr(server, "CLOSE_TIMEOUT_S", 0.2)
    client = await rig.connected()
    rig.sink.open.clear()
    client.send(event(1))
    await rig.sink.wait(1)
    await rig.gateway.close()
    assert await client.closed()
    await rig.restart()


# Getting in


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"client_id": ""}, ConnectCode.BAD_CLIENT_ID),
        ({"client_id": "a/b/c"}, ConnectCode.BAD_CLIENT_ID),
        ({"password": None}, ConnectCode.BAD_CREDENTIALS),
        ({"password": b"\xff"}, ConnectCode.BAD_CREDENTIALS),
        ({"username": f"{HOST}/other/?api-version=1"}, ConnectCode.BAD_CREDENTIALS),
        ({"username": f"elsewhere/{MODULE.client_id}/"}, ConnectCode.NOT_AUTHORIZED),
        ({"client_id": "ghost", "username": f"{HOST}/ghost/"}, ConnectCode.NOT_AUTHORIZED),
    ],
)
async def test_who_cannot_prove_its_identity_stays_out(rig: Rig, changed: dict[str, Any], code: ConnectCode):
    """Each refusal has its CONNACK code, and the connection closes."""
    client = await rig.client()
    client.send(rig.hello(**changed))
    await client.expect(Connack(code))
    assert await client.closed()
    assert rig.gateway.connections == 0
    assert rig.gateway.counters.refused.total() == 1


async def test_another_protocol_version_is_told_so(rig: Rig):
    """MQTT 5 gets code 1."""
    client = await rig.client()
    client.writer.write(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x01d")
    await client.expect(Connack(ConnectCode.BAD_PROTOCOL))
    assert await client.closed()


async def test_a_fault_of_ours_is_never_a_verdict(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """When the registry fails a client is told to come again, and is let in when it works."""

    def fail(identity: Identity) -> None:
        raise OSError("disk gone")

    with monkeypatch.context() as broken:
        broken.setattr(rig.registry, "subscriptions", fail)
        client = await rig.client()
        client.send(rig.hello())
        await client.expect(Connack(ConnectCode.UNAVAILABLE))
        assert await client.closed()
    await rig.connected()


async def test_a_disabled_device_stays_out_with_its_modules(rig: Rig):
    """Disabling a device speaks for its modules."""
    hellos = rig.hello(DEVICE), rig.hello(MODULE)
    rig.registry.set_enabled(DEVICE, False)
    for hello in hellos:
        client = await rig.client()
        client.send(hello)
        await client.expect(Connack(ConnectCode.NOT_AUTHORIZED))


async def test_a_newer_connection_replaces_the_older(rig: Rig):
    """One connection an identity: the older is closed, the newer works."""
    older = await rig.connected()
    newer = await rig.connected()
    assert await older.closed()
    newer.send(event(1))
    await newer.expect(Puback(1))
    assert rig.gateway.connections == 1


async def test_a_connection_without_connect_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """Who says nothing is not waited for."""
    monkeypatch.setattr(server, "CONNECT_TIMEOUT_S", 0.1)
    client = await rig.client()
    assert await client.closed()
    assert rig.gateway.counters.refused[server.NO_CONNECT] == 1


async def test_only_so_many_connections_are_held(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """The one too many is told to come again."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    await rig.connected()
    client = await rig.client()
    await client.expect(Connack(ConnectCode.UNAVAILABLE))
    assert await client.closed()


@pytest.mark.parametrize("change", ["disable", "remove"])
async def test_a_revoked_identity_loses_its_connection(rig: Rig, change: str):
    """Disabled or removed, from another process: the connection of the module ends with its device."""
    client = await rig.connected()
    other = Registry(rig.url)
    other.set_enabled(DEVICE, False) if change == "disable" else other.remove(DEVICE)
    other.close()
    assert await client.closed()
    await until_ended(rig, server.REVOKED)


async def test_a_connection_younger_than_a_revocation_stays(rig: Rig):
    """Removed, registered anew and connected before the gateway hears of it: the connection stands."""
    poll, rig.gateway._feed.poll = rig.gateway._feed.poll, tuple
    rig.registry.remove(MODULE)
    rig.registry.add(MODULE)
    client = await subscribed(rig)
    rig.gateway._feed.poll = poll
    rig.registry.patch_desired(MODULE, {"a": 1})
    await client.expect(Publish(f"{TWIN_DESIRED}?$version=2", b'{"a":1,"$version":2}'))


# Staying in


async def test_a_silent_client_is_cut_off(rig: Rig):
    """One and a half keep-alives of silence end a connection."""
    client = await rig.connected(keep_alive=1)
    assert await client.closed()
    await until_ended(rig, "client is silent")


async def test_a_connection_ends_with_its_token(rig: Rig):
    """A token admits until its expiry, not longer."""
    token = make_token(HOST, MODULE, rig.device().primary_key, now=time.time(), ttl=2)
    client = await rig.connected(password=token.encode())
    assert await client.closed()
    await until_ended(rig, server.EXPIRED)


async def test_a_client_that_does_not_read_is_cut_off(rig: Rig):
    """What waits to be sent to one client is bounded."""
    client = await subscribed(rig)
    client.writer.transport.pause_reading()
    (held,) = rig.gateway._sessions.values()
    text = "x" * 4000
    async with asyncio.timeout(PATIENCE_S):
        while held.link.reason == "":
            rig.registry.patch_desired(MODULE, {"a": text, "b": text, "c": text, "d": text, "e": text})
            for change in rig.registry.changes(rig.registry.last_change() - 1):
                for _ in range(20):
                    held.push(change)
            await asyncio.sleep(0)
    assert held.link.reason == "client does not read"


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (Publish("devices/other/messages/events/", b"", 1, 1), "topic: may not be published to"),
        (Publish("devices/pump/messages/events/", b"", 1, 1), "topic: may not be published to"),
        (Publish("$iothub/twin/PATCH/properties/desired/?$rid=1", b"", 0), "topic: may not be published to"),
        (Publish("$iothub/twin/GET/", b""), "request: no $rid"),
        (Publish(MODULE.events_topic, b"", 2, 1), "PUBLISH: QoS 2 is not offered"),
    ],
)
async def test_what_is_not_allowed_closes(rig: Rig, packet: Publish, reason: str):
    """Another's topic, an unknown one, a request without id, QoS 2: no answer, the connection closes."""
    client = await rig.connected()
    client.send(packet)
    assert await client.closed()
    await until_ended(rig, reason)
    assert rig.sink.received == []


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=200))
def test_garbage_disturbs_nobody_else(tmp_path_factory: pytest.TempPathFactory, garbage: bytes):
    """Whatever one client sends, before and after CONNECT, another one is served."""

    async def scene() -> None:
        async with running(tmp_path_factory.mktemp("garbage")) as rig:
            good = await rig.connected(MODULE)
            stranger, bad = await rig.client(), await rig.connected(DEVICE)
            for client in (stranger, bad):
                client.writer.write(garbage)
                client.writer.write_eof() if client.writer.can_write_eof() else None
            good.send(event(1))
            await good.expect(Puback(1))

    asyncio.run(scene())


# Twin


async def test_the_twin_is_read(rig: Rig):
    """GET answers with both parts and their versions under the request's id."""
    rig.registry.patch_desired(MODULE, {"a": {"b": 1}})
    client = await subscribed(rig)
    client.send(Publish(f"{TWIN_GET}?$rid=x%2F1", b"ignored", 1, 5))
    answer, ack = await client.receive(), await client.receive()
    assert isinstance(answer, Publish)
    assert answer.topic == f"{TWIN_RESPONSE}200/?$rid=x%2F1"
    assert json.loads(answer.payload) == {
        "desired": {"a": {"b": 1}, "$version": 2},
        "reported": {"$version": 1},
    }
    assert ack == Puback(5)


async def test_reported_properties_are_merged(rig: Rig):
    """PATCH answers 204 with the new version; null deletes."""
    client = await subscribed(rig)
    for number, patch in enumerate([b'{"a":1,"b":{"c":2}}', b'{"a":null,"b":{"d":3}}'], 1):
        client.send(Publish(f"{TWIN_REPORTED}?$rid={number}", patch))
        await client.expect(Publish(f"{TWIN_RESPONSE}204/?$rid={number}&$version={number + 1}"))
    assert rig.registry.twin(MODULE).reported == {"b": {"c": 2, "d": 3}}


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        (b"{", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"\xff", "not a JSON object"),
        (b'{"a":' * 50_000, "not a JSON object"),
        (b'{"a.b":1}', "a.b: key"),
        (b'{"a":{"$x":1}}', "a.$x: key"),
        (json.dumps({"a": "x" * 5000}).encode(), "a: text longer"),
        (json.dumps({str(n): "x" * 4000 for n in range(9)}).encode(), "32768 allowed"),
    ],
)
async def test_a_wrong_patch_is_answered(rig: Rig, patch: bytes, words: str):
    """The status says so and the body says why; the twin and the connection stay as they are."""
    client = await subscribed(rig)
    client.send(Publish(f"{TWIN_REPORTED}?$rid=1", patch, 1, 1))
    answer = await client.receive()
    assert isinstance(answer, Publish)
    assert answer.topic == f"{TWIN_RESPONSE}400/?$rid=1"
    body = json.loads(answer.payload)
    assert words in body["message"]
    assert body["errorCode"] == 400_004
    await client.expect(Puback(1))
    assert rig.registry.twin(MODULE).reported_version == 1


async def test_a_twin_request_that_we_cannot_serve_is_answered(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """A fault of ours is status 500 with a body that tells nothing of its cause."""

    def fail(identity: Identity) -> None:
        raise OSError("secret path")

    monkeypatch.setattr(rig.registry, "twin", fail)
    client = await subscribed(rig)
    client.send(Publish(f"{TWIN_GET}?$rid=1"))
    answer = await client.receive()
    assert isinstance(answer, Publish)
    assert answer.topic == f"{TWIN_RESPONSE}500/?$rid=1"
    assert b"secret" not in answer.payload


async def test_without_a_subscription_nothing_is_answered(rig: Rig):
    """As the protocol has it, who did not subscribe to answers gets none."""
    client = await rig.connected()
    client.send(Publish(f"{TWIN_GET}?$rid=1"), Pingreq())
    await client.expect(Pingresp())


async def test_a_desired_change_of_another_process_is_pushed(rig: Rig):
    """Whoever writes to the registry, a subscribed connection hears of it; others do not."""
    client, device = await subscribed(rig), await rig.connected(DEVICE)
    other = Registry(rig.url)
    other.patch_desired(DEVICE, {"b": 1})
    other.patch_desired(MODULE, {"a": {"b": 1, "c": None}})
    other.close()
    await client.expect(Publish(f"{TWIN_DESIRED}?$version=2", b'{"a":{"b":1,"c":null},"$version":2}'))
    device.send(Pingreq())
    await device.expect(Pingresp())


async def test_missed_changes_make_clients_start_anew(rig: Rig):
    """If the log of changes no longer reaches back, connections close and twins are read again."""
    client = await subscribed(rig)
    rig.gateway._feed._seq = -1
    rig.registry.patch_desired(MODULE, {"a": 1})
    assert await client.closed()
    assert rig.gateway.counters.ended[server.CHANGES_LOST] == 1


# Subscriptions


async def test_only_filters_of_the_dialect_are_granted(rig: Rig):
    """QoS 2 is granted as 1; another's or an unknown filter is refused in its place."""
    client = await rig.connected()
    asked = (
        (f"{TWIN_RESPONSE}#", 2),
        ("#", 0),
        ("$iothub/methods/POST/#", 0),
        ("devices/pump/modules/vedette/inputs/#", 1),
        ("devices/pump/modules/other/inputs/#", 1),
        ("devices/pump/messages/devicebound/#", 1),
        ("devices/pump/modules/vedette/messages/events/#", 1),
    )
    client.send(Subscribe(3, asked))
    await client.expect(Suback(3, (1, FAILURE, 0, 1, FAILURE, FAILURE, FAILURE)))
    device = await rig.connected(DEVICE)
    device.send(Subscribe(4, (("devices/pump/messages/devicebound/#", 1), ("devices/pump/inputs/#", 1))))
    await device.expect(Suback(4, (1, FAILURE)))


async def test_subscriptions_outlive_connections_and_gateways(rig: Rig):
    """Who keeps its session is answered after a reconnect without subscribing again."""
    await subscribed(rig)
    await rig.restart()
    client = await rig.connected(present=True)
    client.send(Publish(f"{TWIN_GET}?$rid=1"))
    answer = await client.receive()
    assert isinstance(answer, Publish)
    client.send(Unsubscribe(2, tuple(text for text, _ in TWIN_FILTERS)))
    await client.expect(Unsuback(2))
    assert rig.registry.subscriptions(MODULE) == frozenset()


async def test_a_clean_session_starts_and_ends_without_subscriptions(rig: Rig):
    """CleanSession drops what was kept, and keeps nothing."""
    await subscribed(rig)
    client = await rig.connected(clean=True)
    client.send(Publish(f"{TWIN_GET}?$rid=1"), Subscribe(2, TWIN_FILTERS))
    await client.expect(Suback(2, (0, 1)))
    client.send(Publish(f"{TWIN_GET}?$rid=2"))
    answer = await client.receive()
    assert isinstance(answer, Publish)
    assert answer.topic.endswith("$rid=2")
    await rig.connected(present=False)


# What others see


async def test_the_registry_knows_who_is_connected(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """Connection state and last activity are written down, and taken back at the end."""
    monkeypatch.setattr(server, "ACTIVITY_INTERVAL_S", 0.05)
    await rig.restart()
    client = await rig.connected()

    async def until(connected: bool) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while rig.device().connected is not connected:
                await asyncio.sleep(0.02)

    await until(True)
    client.send(Disconnect())
    await until(False)
    assert abs((rig.device().last_activity or 0) - time.time()) < 60
    await rig.connected()
    await until(True)
    await rig.restart()
    await until(False)


async def test_logs_hold_no_secret_and_no_line_of_a_device(rig: Rig, caplog: pytest.LogCaptureFixture):
    """Neither key nor signature is written; a device's text is escaped and cut."""
    caplog.set_level(logging.DEBUG)
    stranger = await rig.client()
    wrong = base64.b64encode(b"wrong key").decode()
    token = make_token(HOST, MODULE, wrong, now=time.time())
    stranger.send(rig.hello(password=token.encode()))
    assert await stranger.receive() == Connack(ConnectCode.NOT_AUTHORIZED)
    client = await rig.connected()
    client.send(Publish("a\nERROR forged " + "x" * 9999))
    assert await client.closed()
    await until_ended(rig, "topic: may not be published to")
    assert "signature is wrong" in caplog.text
    assert "'a\\nERROR forged" in caplog.text
    assert max(map(len, caplog.text.splitlines())) < 500
    device = rig.device()
    for secret in (device.primary_key, device.secondary_key, token, token.partition("sig=")[2][:20]):
        assert secret not in caplog.text


async def test_paho_as_client(rig: Rig):
    """An independent client library connects, and all its messages are acknowledged."""
    count = 200

    def scene() -> list[bool]:
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=MODULE.client_id, clean_session=False
        )
        client.tls_set(pki().ca)
        token = make_token(HOST, MODULE, rig.device().secondary_key, now=time.time())
        client.username_pw_set(username(HOST, MODULE), token)
        client.connect(HOST, rig.gateway.port)
        client.loop_start()
        sent = [client.publish(MODULE.events_topic, f"{n}", qos=1) for n in range(count)]
        for message in sent:
            message.wait_for_publish(PATIENCE_S)
        client.disconnect()
        client.loop_stop()
        return [message.is_published() for message in sent]

    assert all(await asyncio.to_thread(scene))
    assert [inbound.body for inbound in rig.sink.received] == [f"{n}".encode() for n in range(count)]


async def test_a_connect_in_pieces_is_understood(rig: Rig):
    """Bytes may come one by one."""
    client = await rig.client()
    for byte in encode(rig.hello()):
        client.writer.write(bytes((byte,)))
        await client.writer.drain()
    await client.expect(Connack(ConnectCode.ACCEPTED))
