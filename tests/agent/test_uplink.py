"""The uplink against the real gateway over TLS on loopback, and against peers that misbehave."""

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE_S, free_port
from vedette.agent import link as link_module
from vedette.agent.outbox import Outbox
from vedette.agent.route import Route
from vedette.agent.session import Pace
from vedette.agent.uplink import Uplink
from vedette.hub.gateway import Gateway
from vedette.hub.gateway.secure import device_context
from vedette.hub.intake import Inbound
from vedette.hub.registry import Registry
from vedette.hub.tls import Pki, ensure_pki, server_context
from vedette.wire.iothub import MAX_IN_FLIGHT, ConnectionString, DialectError, Identity, Token
from vedette.wire.message import INTERFACE_ID, MTI, Packed
from vedette.wire.mqtt import MAX_PAYLOAD_BYTES, encode
from vedette.wire.packets import Publish
from vedette.wire.twin import VERSION_KEY

QUICK = Pace(first=0.02, ceiling=0.1, refused_first=0.02, refused_ceiling=0.1)
"""Failures are followed by another attempt within moments."""

MODULE = Identity("press-7", "vedette")


class Sink:
    """Takes messages as the lake does: each is durable once `open` is set."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Inbound] = asyncio.Queue()
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0
        self.most_waiting = 0

    async def __call__(self, inbound: Inbound) -> None:
        self.messages.put_nowait(inbound)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1

    async def take(self, count: int) -> list[Inbound]:
        async with asyncio.timeout(PATIENCE_S):
            return [await self.messages.get() for _ in range(count)]


class Hub:
    """A gateway with its registry, which a test may switch off and on again."""

    def __init__(self, pki: Pki, directory: Path) -> None:
        self.pki = pki
        self.port = free_port()
        self.sink = Sink()
        self.registry = Registry(f"sqlite:///{directory}/registry.db")
        self.registry.add(Identity(MODULE.device_id))
        self.key = self.registry.add(MODULE).primary_key
        self.gateway: Gateway | None = None

    async def start(self) -> None:
        self.gateway = Gateway(self.registry, self.sink, host_names=["127.0.0.1"], name="here")
        await self.gateway.start("127.0.0.1", self.port, device_context(self.pki.certificate, self.pki.key))

    async def stop(self) -> None:
        if self.gateway:
            gateway, self.gateway = self.gateway, None
            await gateway.close()

    def cut(self) -> None:
        """End the device's connection without a word, as a broken line does."""
        self.gateway._sessions[MODULE].link.abort("line broken")

    def connection(self, key: str | None = None) -> ConnectionString:
        return ConnectionString("127.0.0.1", MODULE, key or self.key)


class Desires:
    """What the uplink hands on."""

    def __init__(self) -> None:
        self.documents: asyncio.Queue[tuple[dict[str, Any], int]] = asyncio.Queue()

    async def __call__(self, document: dict[str, Any], version: int) -> None:
        self.documents.put_nowait((document, version))

    async def take(self) -> tuple[dict[str, Any], int]:
        async with asyncio.timeout(PATIENCE_S):
            return await self.documents.get()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("pki"), ["127.0.0.1"])


@pytest.fixture
async def hub(pki: Pki, tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(pki, tmp_path)
    await hub.start()
    yield hub
    hub.sink.open.set()
    await hub.stop()
    hub.registry.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Any:
    outbox = Outbox(tmp_path / "outbox.db", 2_560_000)
    yield outbox
    outbox.close()


@pytest.fixture
def desires() -> Desires:
    return Desires()


@contextlib.asynccontextmanager
async def running(uplink: Uplink, drain_s: float = 0.0) -> AsyncIterator[Uplink]:
    """The uplink at work; closed at the end."""
    task = asyncio.create_task(uplink.run())
    try:
        yield uplink
    finally:
        await uplink.close(drain_s)
        await task


def uplink_to(hub: Hub, outbox: Outbox, desires: Desires, **options: Any) -> Uplink:
    way = {key: options.pop(key) for key in Route.__struct_fields__ if key in options}
    way = {"address": "127.0.0.1", "ca_file": Path(hub.pki.ca), "port": hub.port} | way
    connection = options.pop("connection", None) or hub.connection()
    options = {"pace": QUICK} | options
    return Uplink(connection, outbox, on_desired=desires, route=Route(**way), **options)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells of: the state of the registry or of the outbox."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def put(outbox: Outbox, *names: object, size: int = 300) -> None:
    for name in names:
        outbox.put(Packed(f"{name:0>32}", b"x" * size, 2, 5, 1))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The levels of what the agent has logged, in order."""
    return [record.levelname for record in caplog.records if record.name.startswith("vedette.agent")]


def names(messages: list[Inbound]) -> list[str]:
    return [message.properties["$.mid"].lstrip("0") for message in messages]


# Messages


async def test_messages_arrive_and_leave_the_outbox(hub, outbox, desires):
    """What is in the outbox reaches the hub in order, with its properties, and is then gone."""
    put(outbox, "a")
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink):
        await hub.sink.take(1)
        put(outbox, "b", "c")
        uplink.wake()
        received = await hub.sink.take(2)
        await until(lambda: outbox.depth == 0)
    assert names(received) == ["b", "c"]
    assert received[0].identity == MODULE
    assert received[0].body == b"x" * 300
    assert received[0].properties == {
        "$.mid": f"{'b':0>32}",
        "$.ct": "application/json",
        "$.ce": "utf-8",
        "$.ifid": INTERFACE_ID,
        "mti": MTI,
    }
    assert (uplink.counters.sent.messages, uplink.counters.sent.hits, uplink.counters.sent.units) == (
        3,
        15,
        3,
    )
    assert uplink.state == "closed"


async def test_a_message_stays_until_its_puback(hub, outbox, desires):
    """While the hub has not stored a message the outbox keeps it."""
    hub.sink.open.clear()
    put(outbox, "a")
    async with running(uplink_to(hub, outbox, desires)):
        await hub.sink.take(1)
        await desires.take()  # an answer from the hub on the same connection, after the message
        assert outbox.depth == 1
        hub.sink.open.set()
        await until(lambda: outbox.depth == 0)
    assert hub.sink.messages.empty()


async def test_a_broken_connection_loses_nothing(hub, outbox, desires):
    """Messages that were in flight are sent again under the same id, and leave the outbox once."""
    hub.sink.open.clear()
    put(outbox, "a", "b", "c")
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink):
        assert names(await hub.sink.take(3)) == ["a", "b", "c"]
        hub.cut()
        assert names(await hub.sink.take(3)) == ["a", "b", "c"]
        assert outbox.depth == 3
        hub.sink.open.set()
        await until(lambda: outbox.depth == 0)
    assert uplink.counters.sent.messages == 3
    assert uplink.counters.lost >= 1
    assert outbox.losses.take() == []


async def test_no_more_than_twenty_messages_are_in_flight(hub, outbox, desires):
    """The window of the dialect holds, and moves on with each acknowledgement."""
    hub.sink.open.clear()
    put(outbox, *range(100, 150))
    async with running(uplink_to(hub, outbox, desires)):
        first = await hub.sink.take(MAX_IN_FLIGHT)
        await desires.take()
        assert hub.sink.messages.empty()
        hub.sink.open.set()
        rest = await hub.sink.take(50 - MAX_IN_FLIGHT)
        await until(lambda: outbox.depth == 0)
    assert names(first + rest) == [str(name) for name in range(100, 150)]
    assert hub.sink.most_waiting <= MAX_IN_FLIGHT


async def test_large_messages_arrive_whole(hub, outbox, desires):
    """Messages larger than a socket's buffers go out as the socket takes them."""
    for name in "abcdef":
        put(outbox, name, size=200_000)
    async with running(uplink_to(hub, outbox, desires)):
        received = await hub.sink.take(6)
        await until(lambda: outbox.depth == 0)
    assert {len(message.body) for message in received} == {200_000}


async def test_the_outbox_drains_after_the_hub_was_away(hub, outbox, desires, caplog):
    """An outage costs nothing but time; it is said once when it begins and once when it is over."""
    caplog.set_level(logging.INFO, "vedette.agent")
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink):
        await desires.take()
        await hub.stop()
        put(outbox, "a", "b")
        uplink.wake()
        await until(lambda: "Connection refused" in uplink.state)
        put(outbox, "c")
        uplink.wake()
        await hub.start()
        received = await hub.sink.take(3)
        await until(lambda: outbox.depth == 0)
        assert names(received) == ["a", "b", "c"]
        levels = said(caplog)
        assert levels[0] == levels[-1] == "INFO"
        assert levels[1:-1] in (["WARNING"], ["WARNING", "WARNING"])  # lost, then unreachable
        caplog.clear()
        await hub.stop()
        await until(lambda: "Connection refused" in uplink.state)
        assert set(said(caplog)) == {"WARNING"}


async def test_closing_waits_for_acknowledgements(hub, outbox, desires):
    """What was put just before the end still goes out, if the hub takes it in time."""
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink, drain_s=PATIENCE_S):
        await desires.take()
        put(outbox, "a", "b")
    assert outbox.depth == 0
    assert uplink.counters.sent.messages == 2


async def test_closing_does_not_wait_for_ever(hub, outbox, desires):
    """A hub that does not acknowledge does not keep the agent: the message stays in the outbox."""
    hub.sink.open.clear()
    put(outbox, "a")
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink, drain_s=0.1):
        await hub.sink.take(1)
    assert outbox.depth == 1


async def test_closing_without_a_hub_does_not_wait(hub, outbox, desires):
    """While it waits for the next attempt the uplink ends at once."""
    await hub.stop()
    put(outbox, "a")
    uplink = uplink_to(hub, outbox, desires, pace=Pace(first=1e6, ceiling=1e6))
    async with running(uplink, drain_s=1e6):
        await until(lambda: uplink.state.startswith("waiting"))
    assert outbox.depth == 1


async def test_an_uplink_that_never_ran_closes(hub, outbox, desires):
    """`close` before `run` is no fault, and `run` after it ends at once."""
    uplink = uplink_to(hub, outbox, desires)
    await uplink.close(1e6)
    await uplink.run()
    assert uplink.counters.connections == 0


async def test_no_thread_of_its_own(hub, outbox, desires):
    """Connected, the uplink has no thread of its own; the loop's workers look names up and read CA files."""
    before = {thread.name for thread in threading.enumerate()}
    async with running(uplink_to(hub, outbox, desires)):
        await desires.take()
        threads = {thread.name for thread in threading.enumerate()} - before
    assert {name.partition("_")[0] for name in threads} <= {"asyncio", "registry"}


# Credentials


async def test_tokens_are_renewed_before_they_expire(hub, outbox, desires, caplog):
    """With tokens of short life the connection is made anew, without a word in the log and without loss."""
    caplog.set_level(logging.INFO, "vedette.agent")
    uplink = uplink_to(hub, outbox, desires, token_ttl=4.0)
    async with running(uplink):
        for i in range(100, 106):
            put(outbox, i)
            uplink.wake()
            await hub.sink.take(1)
            await until(lambda i=i: uplink.counters.connections >= (i - 98) // 2)
        await until(lambda: outbox.depth == 0)
    assert uplink.counters.connections >= 3
    assert uplink.counters.lost == 0
    assert uplink.counters.sent.messages == 6
    assert said(caplog) == ["INFO"]


async def test_a_refusal_is_not_the_end(hub, outbox, desires, caplog):
    """A device that the hub does not know keeps trying, and is connected once it is registered."""
    caplog.set_level(logging.INFO, "vedette.agent")
    put(outbox, "a")
    device = Identity("press-8")
    other = "b3RoZXIga2V5LCBvdGhlciBrZXksIG90aGVyIGtleSE="
    uplink = uplink_to(hub, outbox, desires, connection=ConnectionString("127.0.0.1", device, other))
    async with running(uplink):
        await until(lambda: uplink.counters.refused >= 3)
        await until(lambda: "not authorized" in uplink.state)
        hub.registry.add(device, keys=(other, other))
        assert names(await hub.sink.take(1)) == ["a"]
    assert said(caplog) == ["WARNING", "INFO"]
    assert other not in caplog.text
    assert "sig=" not in caplog.text


async def test_a_certificate_of_another_authority_is_refused(hub, outbox, desires, tmp_path, caplog):
    """With the wrong CA file nothing is sent, and the log says what was trusted."""
    wrong = Path(ensure_pki(tmp_path / "other", ["127.0.0.1"]).ca)
    put(outbox, "a")
    uplink = uplink_to(hub, outbox, desires, ca_file=wrong)
    async with running(uplink):
        await until(lambda: uplink.state.startswith("waiting"))
    assert said(caplog) == ["WARNING"]
    assert re.search(
        rf"no connection to 127.0.0.1:{hub.port}: certificate not accepted \(.+\); trusted: CA file {wrong}",
        caplog.text,
    )
    assert outbox.depth == 1


async def test_a_certificate_for_another_name_is_refused(hub, outbox, desires):
    """The certificate has to name the address that was asked for."""
    uplink = uplink_to(hub, outbox, desires, address="localhost")
    async with running(uplink):
        await until(lambda: uplink.state.startswith("waiting"))
        assert "localhost" in uplink.state
        assert "certificate not accepted" in uplink.state
    assert uplink.counters.connections == 0


async def test_a_missing_ca_file_is_named(hub, outbox, desires):
    """The file is looked for at each attempt, so that it can be brought later."""
    missing = Path(hub.pki.ca).with_name("absent.pem")
    uplink = uplink_to(hub, outbox, desires, ca_file=missing)
    async with running(uplink):
        await until(lambda: uplink.state.startswith("waiting"))
        assert f"CA file {missing}: No such file or directory" in uplink.state
        try:
            missing.write_bytes(Path(hub.pki.ca).read_bytes())
            await desires.take()
        finally:
            missing.unlink()


async def test_the_system_authorities_do_not_know_a_private_hub(hub, outbox, desires):
    """Without a CA file the system's authorities decide, and a private one is not among them."""
    uplink = uplink_to(hub, outbox, desires, ca_file=None)
    async with running(uplink):
        await until(lambda: uplink.state.startswith("waiting"))
        assert "trusted: the system's CAs" in uplink.state


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("HostName=h;DeviceId=d;x509=true", "no SharedAccessKey"),
        ("HostName=h;DeviceId=a+b;SharedAccessKey=c2VjcmV0", "cannot be used over MQTT"),
        ("HostName=h;DeviceId=d;ModuleId=m#;SharedAccessKey=c2VjcmV0", "cannot be used over MQTT"),
    ],
)
async def test_connection_strings_that_cannot_work_are_refused(outbox, desires, text, reason):
    """What could never connect is said at once."""
    with pytest.raises(DialectError, match=reason) as caught:
        Uplink(ConnectionString.parse(text), outbox, on_desired=desires, route=Route(address="h"))
    assert "c2VjcmV0" not in str(caught.value)


# Twin


async def test_the_twin_is_handed_on_and_followed(hub, outbox, desires):
    """After connecting the whole document comes; after a change the whole document again."""
    hub.registry.patch_desired(MODULE, {"Process_CacheSize": 64, "Process_Mode": 2})
    async with running(uplink_to(hub, outbox, desires)):
        document, version = await desires.take()
        assert document == {"Process_CacheSize": 64, "Process_Mode": 2, VERSION_KEY: version}
        hub.registry.patch_desired(MODULE, {"Process_CacheSize": 128, "Process_Mode": None})
        document, newer = await desires.take()
        assert document == {"Process_CacheSize": 128, VERSION_KEY: newer}
        assert newer == version + 1


async def test_a_change_made_while_offline_is_fetched(hub, outbox, desires):
    """What changed during an outage arrives with the next connection; what did not is not handed on."""
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink):
        _, version = await desires.take()
        await hub.stop()
        hub.registry.patch_desired(MODULE, {"Process_CacheSize": 64})
        hub.registry.patch_desired(MODULE, {"Process_CacheSize": 65})
        await hub.start()
        assert await desires.take() == (
            {"Process_CacheSize": 65, VERSION_KEY: version + 2},
            version + 2,
        )
        connections = uplink.counters.connections
        hub.cut()
        await until(lambda: uplink.counters.connections > connections)
        hub.registry.patch_desired(MODULE, {"Process_CacheSize": 66})
        assert (await desires.take())[0]["Process_CacheSize"] == 66


async def test_reports_arrive(hub, outbox, desires):
    """What is reported stands in the twin; null deletes; the hub's version counts each patch."""
    uplink = uplink_to(hub, outbox, desires)
    uplink.report({"latest_state": "success", "a": 1})
    async with running(uplink):
        await until(lambda: hub.registry.twin(MODULE).reported == {"latest_state": "success", "a": 1})
        uplink.report({"a": None, "b": {"c": [1, 2]}})
        await until(
            lambda: hub.registry.twin(MODULE).reported == {"latest_state": "success", "b": {"c": [1, 2]}}
        )
    assert hub.registry.twin(MODULE).reported_version == 3


async def test_a_report_made_offline_arrives_later(hub, outbox, desires):
    """Reports are kept until the hub has them; closing waits for them."""
    await hub.stop()
    uplink = uplink_to(hub, outbox, desires)
    async with running(uplink, drain_s=PATIENCE_S):
        await until(lambda: uplink.state.startswith("waiting"))
        uplink.report({"a": 1})
        uplink.report({"b": 2})
        await hub.start()
        await desires.take()
    assert hub.registry.twin(MODULE).reported == {"a": 1, "b": 2}


async def test_a_slow_reader_gets_the_last_document(hub, outbox):
    """Changes that come while one is being applied are handed on as one."""
    seen: asyncio.Queue[int] = asyncio.Queue()
    go_on = asyncio.Event()

    async def apply(document: dict[str, Any], version: int) -> None:
        seen.put_nowait(document.get("n", 0))
        await go_on.wait()

    uplink = uplink_to(hub, outbox, apply)
    async with running(uplink):
        assert await seen.get() == 0
        for n in range(1, 6):
            hub.registry.patch_desired(MODULE, {"n": n})
        await until(lambda: uplink._twin._known.get("n") == 5)
        go_on.set()
        assert await seen.get() == 5
    assert seen.empty()


async def test_a_fault_in_applying_is_not_swallowed(hub, outbox):
    """A programming error in what `on_desired` calls ends `run` with that error."""

    async def apply(document: dict[str, Any], version: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(uplink_to(hub, outbox, apply).run(), PATIENCE_S)
    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)


# Peers that misbehave


class Peer:
    """A TLS server that answers CONNECT with given bytes and then listens until `stay` is set.

    With `reading` cleared it leaves what comes where it is: in the buffers of the connection.
    """

    def __init__(self, pki: Pki, *answers: bytes) -> None:
        self.pki = pki
        self.answers = answers
        self.accepted = 0
        self.connect = self.heard = b""
        self.stay = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()

    async def __aenter__(self) -> "Peer":
        context = server_context(self.pki.certificate, self.pki.key)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.port = listener.getsockname()[1]
        self.server = await asyncio.start_server(self._serve, sock=listener, ssl=context, limit=8192)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stay.set()
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.connect = await reader.read(1000)
            for answer in self.answers:
                writer.write(answer)
                await writer.drain()
            listening = asyncio.create_task(self._listen(reader))
            await self.stay.wait()
            listening.cancel()
        writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while await self.reading.wait() and (data := await reader.read(65_536)):
            self.heard += data


ACCEPT = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x04\x00\x01\x01\x01"


@pytest.fixture
def peer_uplink(pki: Pki, outbox: Outbox, desires: Desires) -> Callable[..., Uplink]:
    def make(peer: Peer) -> Uplink:
        connection = ConnectionString("127.0.0.1", MODULE, "c2VjcmV0")
        route = Route(address="127.0.0.1", ca_file=Path(pki.ca), port=peer.port)
        return Uplink(connection, outbox, on_desired=desires, route=route, pace=QUICK)

    return make


async def test_connect_is_that_of_the_dialect(pki, peer_uplink):
    """MQTT 3.1.1, a session that stays, 240 s keep-alive, user name and token for this host and identity."""
    async with Peer(pki, ACCEPT) as peer, running(peer_uplink(peer)) as uplink:
        await until(lambda: uplink.counters.connections == 1)
    assert b"\x00\x04MQTT\x04\xc0\x00\xf0\x00\x0fpress-7/vedette" in peer.connect
    assert b"127.0.0.1/press-7/vedette/?api-version=" in peer.connect
    token = Token.parse(peer.connect[peer.connect.index(b"SharedAccessSignature") :].decode())
    assert token.resource == "127.0.0.1%2Fdevices%2Fpress-7%2Fmodules%2Fvedette"
    assert token.signed_by(["c2VjcmV0"])


async def test_packets_that_come_together_are_all_read(pki, peer_uplink):
    """Two packets in one TLS record: the second needs no further byte to be noticed."""
    async with Peer(pki, ACCEPT + SUBACK) as peer, running(peer_uplink(peer)):
        await until(lambda: b"$iothub/twin/GET/?$rid=" in peer.heard)


async def test_a_peer_that_reads_late_gets_everything(pki, peer_uplink, outbox):
    """What the socket does not take at once follows when it does."""
    for name in "abcd":
        put(outbox, name, size=250_000)
    async with Peer(pki, ACCEPT) as peer:
        peer.reading.clear()
        async with running(peer_uplink(peer)) as uplink:
            await until(lambda: uplink.counters.connections == 1)
            peer.reading.set()
            await until(lambda: peer.heard.count(b"x" * 250_000) == 3)  # the window in bytes
    assert outbox.depth == 4


async def test_a_packet_beyond_all_bounds_ends_the_connection(pki, peer_uplink):
    """A length of 256 MB is not waited for, let alone given memory."""
    async with Peer(pki, ACCEPT, b"\x30\xff\xff\xff\x7f" + b"\0" * 1000) as peer:
        uplink = peer_uplink(peer)
        async with running(uplink):
            await until(lambda: uplink.counters.lost >= 2)
    assert peer.accepted >= 2


async def test_a_packet_at_the_bound_is_read(pki, peer_uplink):
    """The bound leaves room for the largest legal packet: what comes after it is understood."""
    largest = encode(Publish("abc", b" " * MAX_PAYLOAD_BYTES))
    async with Peer(pki, ACCEPT, largest, SUBACK) as peer:
        uplink = peer_uplink(peer)
        async with running(uplink):
            await until(lambda: b"$iothub/twin/GET/?$rid=" in peer.heard)
    assert uplink.counters.lost == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"\x20\x02\x00\x01",  # CONNACK: protocol version
        b"\x20\x01\x00",  # CONNACK, too short
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ACCEPT + b"\x30\x01\x00",  # PUBLISH without topic
        ACCEPT + b"\x30\x04\x00\x09ab",  # PUBLISH, topic longer than the packet
        ACCEPT + b"\x30\x04\x00\x02\xff\xfe",  # PUBLISH, topic not UTF-8
        ACCEPT + b"\x90\x01\x00",  # SUBACK, too short
        ACCEPT + b"\x40\x01\x00",  # PUBACK, too short
        ACCEPT + b"\xf0\x00",  # no such packet
        ACCEPT + b"\x90\x04\x00\x01\x80\x80",  # SUBACK: refused
    ],
)
async def test_nonsense_from_a_peer_is_survived(pki, peer_uplink, outbox, answer, caplog, monkeypatch):
    """Whatever a peer answers, the uplink goes on (or tries again), and the outbox keeps its messages."""
    monkeypatch.setattr(link_module, "ANSWER_S", 1.0)
    put(outbox, "a")
    async with Peer(pki, answer) as peer:
        uplink = peer_uplink(peer)
        async with running(uplink):
            await until(lambda: peer.accepted >= 1 and uplink.state != "connecting")
            peer.stay.set()
            await until(lambda: peer.accepted >= 2)
    assert outbox.depth == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_peer_that_says_unavailable_is_asked_again(pki, peer_uplink, caplog):
    """CONNACK 3 is no refusal of these credentials."""
    async with Peer(pki, b"\x20\x02\x00\x03") as peer:
        uplink = peer_uplink(peer)
        async with running(uplink):
            await until(lambda: peer.accepted >= 3)
    assert uplink.counters.refused == 0
    assert re.search("refused by the hub: unavailable", caplog.text)


async def test_a_peer_without_tls_is_survived(pki, peer_uplink):
    """Something else on the port: an error, another attempt."""
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    peer = Peer(pki)
    peer.port = server.sockets[0].getsockname()[1]
    uplink = peer_uplink(peer)
    async with running(uplink):
        await until(lambda: uplink.state.startswith("waiting"))
    server.close()
    assert uplink.counters.connections == 0


async def test_a_silent_peer_does_not_hold_up_the_end(pki, peer_uplink, monkeypatch):
    """Closing while TLS or CONNACK is awaited does not wait for them."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = Peer(pki)
        peer.port = silent.getsockname()[1]
        uplink = peer_uplink(peer)
        async with running(uplink):
            accepted = await asyncio.to_thread(silent.accept)
        accepted[0].close()
        assert uplink.state == "closed"
        for thread in threading.enumerate():
            if thread.name == "uplink-connect":
                await asyncio.to_thread(thread.join)


async def test_a_missing_connack_ends_the_attempt(pki, peer_uplink, monkeypatch):
    """TLS alone is no connection."""
    monkeypatch.setattr(link_module, "ANSWER_S", 0.05)
    async with Peer(pki) as peer:
        uplink = peer_uplink(peer)
        async with running(uplink):
            await until(lambda: "no answer to CONNECT" in uplink.state)


async def test_a_missing_suback_ends_the_connection(pki, peer_uplink, monkeypatch):
    """Without subscriptions the twin would stay unheard for ever."""
    monkeypatch.setattr(link_module, "ANSWER_S", 0.05)
    async with Peer(pki, ACCEPT) as peer:
        uplink = peer_uplink(peer)
        async with running(uplink):
            await until(lambda: "no answer to SUBSCRIBE" in uplink.state)


def test_tls_is_modern():
    """Nothing below TLS 1.2, certificates and names are checked."""
    context = link_module._context(Route(address="h"))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
