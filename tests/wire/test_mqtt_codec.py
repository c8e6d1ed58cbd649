"""The MQTT codec: what it reads, what it refuses, and that neither depends on how bytes are cut."""

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.wire.mqtt import (
    CLIENT,
    MAX_CONNECT_BYTES,
    MAX_FILTER_BYTES,
    MAX_FILTERS,
    MAX_PAYLOAD_BYTES,
    MAX_TOPIC_BYTES,
    SERVER,
    Receiver,
    State,
    Table,
    Violation,
    encode,
)
from vedette.wire.packets import (
    FAILURE,
    Connack,
    Connect,
    ConnectCode,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)

untimed = settings(deadline=None)
"""Examples may take long on a busy machine."""

HELLO = encode(Connect("device", "hub/device/", b"secret", 60, False))

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
topic = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=60)
packet_id = st.integers(1, 0xFFFF)
filters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
payload = st.binary(max_size=300)
connect = st.one_of(
    st.builds(Connect, text, st.none(), st.none(), st.integers(0, 0xFFFF), st.booleans()),
    st.builds(Connect, text, text, st.none() | st.binary(max_size=99), st.integers(0, 0xFFFF), st.booleans()),
)
publish = st.one_of(
    st.builds(Publish, topic, payload, st.just(0), st.just(0), st.just(False), st.booleans()),
    st.builds(Publish, topic, payload, st.just(1), packet_id, st.booleans(), st.booleans()),
)
from_client = st.one_of(
    publish,
    st.builds(Puback, packet_id),
    st.builds(
        Subscribe,
        packet_id,
        st.lists(st.tuples(filters, st.integers(0, 2)), min_size=1, max_size=MAX_FILTERS).map(tuple),
    ),
    st.builds(Unsubscribe, packet_id, st.lists(filters, min_size=1, max_size=MAX_FILTERS).map(tuple)),
    st.just(Pingreq()),
)
from_server = st.one_of(
    publish,
    st.builds(Puback, packet_id),
    st.builds(
        Suback,
        packet_id,
        st.lists(st.sampled_from([0, 1, 2, FAILURE]), min_size=1, max_size=MAX_FILTERS).map(tuple),
    ),
    st.builds(Unsuback, packet_id),
    st.just(Pingresp()),
)


def read(chunks: list[bytes], table: Table = SERVER) -> tuple[list[Packet], str | None]:
    """Everything a receiver makes of some chunks: packets, and the reason of the violation that ended it."""
    receiver = Receiver(table)
    packets: list[Packet] = []
    try:
        for chunk in chunks:
            receiver.feed(chunk)
            while (packet := receiver.next_packet()) is not None:
                packets.append(packet)
    except Violation as violation:
        return packets, violation.reason
    return packets, None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Data in pieces."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@untimed
@given(connect, st.lists(from_client, max_size=8))
def test_what_a_client_sends_is_read_back(hello: Connect, packets: list[Packet]):
    """A server reads exactly the packets that a client encoded."""
    said = [hello, *packets, Disconnect()]
    assert read([b"".join(map(encode, said))]) == (said, None)


@untimed
@given(st.builds(Connack, st.sampled_from(ConnectCode), st.booleans()), st.lists(from_server, max_size=8))
def test_what_a_server_sends_is_read_back(hello: Connack, packets: list[Packet]):
    """A client reads exactly the packets that a server encoded."""
    said = [hello, *packets]
    assert read([b"".join(map(encode, said))], CLIENT) == (said, None)


@untimed
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=12), st.booleans())
def test_arbitrary_bytes_end_in_packets_or_a_violation(data: bytes, places: list[int], greeted: bool):
    """Nothing but Violation is ever raised, and the outcome is the same however the bytes are cut."""
    data = HELLO + data if greeted else data
    assert read(cut(data, places)) == read([data])


@untimed
@given(
    st.lists(from_client, min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    st.lists(st.integers(0, 4000), max_size=12),
)
def test_damaged_streams_do_not_depend_on_chunks(
    packets: list[Packet], damage: list[tuple[int, int]], places: list[int]
):
    """Valid streams with some bytes overwritten read the same, whole, in pieces and byte by byte."""
    data = bytearray(HELLO + b"".join(map(encode, packets)))
    for at, value in damage:
        data[at % len(data)] = value
    whole = read([bytes(data)])
    assert read(cut(bytes(data), places)) == whole
    assert read([bytes((byte,)) for byte in data]) == whole


def frame(first: int, body: bytes) -> bytes:
    """A packet with a body of less than 16,384 bytes."""
    size = len(body)
    return bytes((first, size)) + body if size < 128 else bytes((first, size & 127 | 128, size >> 7)) + body


def hello(name: bytes = b"\0\4MQTT", level: int = 4, flags: int = 2, rest: bytes = b"\0\1d") -> bytes:
    return frame(0x10, name + bytes((level, flags)) + b"\0\0" + rest)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(Pingreq()), "packet: of a type that may not come here"),
        (b"\x00\x00", "packet: of a type that may not come here"),
        (b"\xf0\x00", "packet: of a type that may not come here"),
        (b"\x11\x00", "packet: reserved flags are set"),
        (b"\x10\xff\xff\xff\xff", "length: more than four bytes"),
        (b"\x10\xff\xff\xff\x7f", "packet: longer than allowed"),
        (frame(0x10, b"\0\4MQ"), "packet: shorter than its fields"),
        (hello(b"\0\6MQIsdp", 3), "CONNECT: not MQTT 3.1.1"),
        (hello(level=5), "CONNECT: not MQTT 3.1.1"),
        (hello(flags=0x03), "CONNECT: flags contradict each other"),
        (hello(flags=0x42), "CONNECT: flags contradict each other"),
        (hello(flags=0x08), "CONNECT: flags contradict each other"),
        (hello(flags=0x1C), "CONNECT: flags contradict each other"),
        (hello(rest=b"\0\1\xff"), "text: not UTF-8"),
        (hello(rest=b"\0\3\xed\xa0\x80"), "text: not UTF-8"),
        (hello(rest=b"\0\1\0"), "text: holds NUL"),
        (hello(rest=b"\0\1dx"), "packet: longer than its fields"),
        (HELLO + HELLO, "packet: of a type that may not come here"),
        (HELLO + frame(0x34, b"\0\1t\0\1"), "PUBLISH: QoS 2 is not offered"),
        (HELLO + frame(0x36, b"\0\1t\0\1"), "PUBLISH: QoS 3"),
        (HELLO + frame(0x38, b"\0\1t"), "PUBLISH: DUP without QoS"),
        (HELLO + frame(0x32, b"\0\1t\0\0"), "packet id: zero"),
        (HELLO + frame(0x30, b"\0\0"), "PUBLISH: topic is empty or holds a wildcard"),
        (HELLO + frame(0x30, b"\0\3a/#"), "PUBLISH: topic is empty or holds a wildcard"),
        (HELLO + frame(0x30, b"\0\3+/a"), "PUBLISH: topic is empty or holds a wildcard"),
        (HELLO + frame(0x80, b"\0\1\0\1t\0"), "packet: reserved flags are set"),
        (HELLO + frame(0x82, b"\0\1"), "filters: none, or more than allowed"),
        (HELLO + frame(0x82, b"\0\1\0\1t\3"), "SUBSCRIBE: QoS out of range"),
        (HELLO + frame(0x82, b"\0\1\0\0\0"), "filter: empty"),
        (
            HELLO + frame(0x82, b"\0\1" + b"\0\1t\0" * (MAX_FILTERS + 1)),
            "filters: none, or more than allowed",
        ),
        (
            HELLO + frame(0x82, b"\0\1" + struct.pack(">H", MAX_FILTER_BYTES + 1) + b"t" * 2000),
            "text: longer than allowed",
        ),
        (HELLO + frame(0xA2, b"\0\1"), "filters: none, or more than allowed"),
        (HELLO + b"\xc0\x01", "packet: longer than allowed"),
        (HELLO + encode(Disconnect()) + encode(Pingreq()), "packet: of a type that may not come here"),
    ],
)
def test_a_violation_names_its_reason(data: bytes, reason: str):
    """Each broken rule has a fixed text of its own."""
    assert read([data])[1] == reason


def test_an_unknown_protocol_version_is_answered():
    """Only for a wrong protocol the codec itself knows the CONNACK."""
    receiver = Receiver()
    receiver.feed(hello(level=5))
    with pytest.raises(Violation) as caught:
        receiver.next_packet()
    assert caught.value.answer is ConnectCode.BAD_PROTOCOL


def test_a_stranger_cannot_make_us_wait_for_much():
    """Before CONNECT nothing longer than MAX_CONNECT_BYTES is waited for: the header alone decides."""
    size = MAX_CONNECT_BYTES + 1
    assert read([bytes((0x10, size & 127 | 128, size >> 7))]) == ([], "packet: longer than allowed")


def test_payload_and_topic_may_be_as_long_as_allowed_and_no_longer():
    """The largest message passes; one byte more in payload or topic does not."""
    largest = Publish("t" * MAX_TOPIC_BYTES, bytes(MAX_PAYLOAD_BYTES), 1, 1)
    assert read([HELLO + encode(largest)])[0][1:] == [largest]
    assert read([HELLO + encode(Publish("t", bytes(MAX_PAYLOAD_BYTES + 1)))])[1] == (
        "PUBLISH: payload longer than allowed"
    )
    assert read([HELLO + encode(Publish("t" * (MAX_TOPIC_BYTES + 1)))])[1] == "text: longer than allowed"


def test_a_will_is_read_over():
    """A CONNECT with a will is understood; the will is nobody's here."""
    will = b"\0\1w\0\2hi"
    packets, reason = read([hello(flags=0x06 | 0x20, rest=b"\0\1d" + will)])
    assert (packets, reason) == ([Connect("d")], None)


def test_after_a_violation_nothing_is_kept():
    """A violation is final: bytes are dropped and every further look raises it again."""
    receiver = Receiver()
    receiver.feed(b"\xf0\x00" + HELLO)
    for _ in range(2):
        with pytest.raises(Violation):
            receiver.next_packet()
        receiver.feed(HELLO)
    assert receiver.buffered == 0
    assert receiver.state is State.CLOSED


def test_packets_leave_the_buffer_as_they_are_handed_out():
    """Many packets of one read are decoded in one pass; what is left is counted."""
    count = 200_000
    receiver = Receiver()
    receiver.feed(HELLO + encode(Puback(7)) * count + b"\x40")
    assert isinstance(receiver.next_packet(), Connect)
    for _ in range(count):
        assert receiver.next_packet() == Puback(7)
    assert receiver.next_packet() is None
    assert receiver.buffered == 1


def test_secrets_do_not_show():
    """A CONNECT can be logged: its password is not in it."""
    assert "secret" not in repr(Connect("d", "u", b"secret"))
