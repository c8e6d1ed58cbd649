"""The uplink against peers that misbehave."""

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from uplink_rig import MODULE, QUICK, Desires, put, running, until

from vedette.agent import link as link_module
from vedette.agent.outbox import Outbox
from vedette.agent.route import Route
from vedette.agent.uplink import Uplink
from vedette.hub.tls import Pki, server_context
from vedette.wire.iothub import ConnectionString, Token
from vedette.wire.mqtt import MAX_PAYLOAD_BYTES, encode
from vedette.wire.packets import Publish


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
