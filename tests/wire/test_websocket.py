"""The client's WebSocket frames against another implementation's server side, joined by a fake link."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from vedette.wire.mqtt import Violation
from vedette.wire.websocket import MAX_ANSWER_BYTES, Client, State, masked


class Pair:
    """Both ends after the handshake."""

    def __init__(self) -> None:
        self.client = Client("hub.example")
        self.server = ServerProtocol(subprotocols=["mqtt"], max_size=2**20)
        self.server.receive_data(self.client.greeting())
        (self.request,) = self.server.events_received()
        assert isinstance(self.request, Request)
        self.server.send_response(self.server.accept(self.request))
        self.pump()

    def pump(self) -> bytes:
        """What the server has sent, brought to the client, and its answers back."""
        carried, back = self.client.receive(b"".join(self.server.data_to_send()))
        self.server.receive_data(back)
        return carried

    def frames(self) -> list[Frame]:
        return [event for event in self.server.events_received() if isinstance(event, Frame)]


def test_a_server_of_others_consents():
    """Path, version, key and subprotocol are what the dialect asks for."""
    pair = Pair()
    assert pair.client.open
    assert pair.request.path == "/$iothub/websocket"
    assert pair.request.headers["Host"] == "hub.example"
    assert pair.server.subprotocol == "mqtt"


@given(st.lists(st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 200_000]), max_size=4))
def test_what_is_framed_is_read_by_others(sizes: list[int]):
    """Every form of the length; a frame holds what was put in."""
    pair = Pair()
    for size in sizes:
        pair.server.receive_data(pair.client.frame(b"x" * size))
    assert [(frame.opcode, len(frame.data)) for frame in pair.frames()] == [(Opcode.BINARY, n) for n in sizes]


@given(st.lists(st.binary(max_size=70_000), max_size=4), st.integers(1, 5_000))
def test_what_others_frame_is_read_however_it_is_cut(payloads: list[bytes], step: int):
    """The stream that comes out is that which went in, whatever pieces the socket hands over."""
    pair = Pair()
    for payload in payloads:
        pair.server.send_binary(payload)
    data = b"".join(pair.server.data_to_send())
    carried = b"".join(pair.client.receive(data[i : i + step])[0] for i in range(0, len(data), step))
    assert carried == b"".join(payloads)


def test_fragments_are_one_stream_and_a_ping_between_them_is_answered():
    """A control frame may come in the middle of a message."""
    pair = Pair()
    pair.server.send_binary(b"one ", fin=False)
    pair.server.send_ping(b"there?")
    pair.server.send_continuation(b"two", fin=True)
    assert pair.pump() == b"one two"
    assert [(frame.opcode, frame.data) for frame in pair.frames()] == [(Opcode.PONG, b"there?")]


def test_a_farewell_is_answered_and_nothing_is_read_after_it():
    """The server closes the connection after our answer."""
    pair = Pair()
    pair.server.send_close(1001, "going away")
    pair.pump()
    assert pair.frames()[0].opcode is Opcode.CLOSE
    assert pair.client.state is State.CLOSED
    assert pair.client.receive(b"\x82\x01x") == (b"", b"")


GOOD = Client("h", key=b"0123456789abcdef")
ACCEPT = "BACScCJPNqyz+UBoqMH89VmURoA="


def answer(status: str = "101 Switching Protocols", accept: str = ACCEPT, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nUpgrade: websocket\r\nsec-websocket-ACCEPT: {accept}\r\n"
        f"Sec-WebSocket-Protocol: mqtt\r\n{more}\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (answer("403 Forbidden"), "refused with status 403"),
        (answer("gibberish\x1b[2J"), "refused with status no"),
        (answer(accept="AAAA"), "not to our request"),
        (answer(more="Sec-WebSocket-Extensions: permessage-deflate\r\n"), "without extensions"),
        (b"HTTP/1.1 101 x\r\n" + b"a" * MAX_ANSWER_BYTES, "longer than allowed"),
        (b"x" * (MAX_ANSWER_BYTES + 1), "longer than allowed"),
    ],
)
def test_an_answer_that_does_not_consent_is_a_violation(reply: bytes, reason: str):
    """The reason is a fixed text: nothing that a stranger sent goes into a log."""
    client = Client("h", key=b"0123456789abcdef")
    with pytest.raises(Violation, match=reason):
        client.receive(reply)


def test_the_answer_proves_that_the_server_has_read_the_key():
    """The worked value: SHA-1 of key and the RFC's constant."""
    client = Client("h", key=b"0123456789abcdef")
    client.receive(answer())
    assert client.open


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\x81\x01x", "not agreed on"),  # text
        (b"\xc2\x01x", "not agreed on"),  # a compressed one
        (b"\x83\x01x", "not agreed on"),
        (b"\x82\x81abcdx", "masked"),
        (b"\x80\x01x", "out of order"),  # continues nothing
        (b"\x02\x01x\x82\x01y", "out of order"),  # begins in the middle of another
        (b"\x09\x01x", "cut or too long"),  # a fragmented ping
        (b"\x89\x7e\x00\x7e", "cut or too long"),
    ],
)
def test_frames_that_a_server_may_not_send_are_violations(frame: bytes, reason: str):
    """RFC 6455 5.1 to 5.5."""
    client = Client("h", key=b"0123456789abcdef")
    client.receive(answer())
    with pytest.raises(Violation, match=reason):
        client.receive(frame)


def test_a_huge_frame_is_handed_on_as_it_comes():
    """A length of 2^63 makes nobody wait or buffer: the MQTT receiver judges what it carries."""
    client = Client("h", key=b"0123456789abcdef")
    client.receive(answer())
    assert client.receive(b"\x82\x7f" + (2**63).to_bytes(8, "big") + b"abc")[0] == b"abc"
    assert client.receive(b"def")[0] == b"def"


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_masking_twice_is_nothing(payload: bytes, mask: bytes):
    """And each byte has met its part of the mask."""
    once = masked(payload, mask)
    assert once == bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    assert masked(once, mask) == payload
