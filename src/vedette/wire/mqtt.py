"""MQTT 3.1.1, the subset that the Azure IoT Hub dialect uses. No socket, no clock, no thread.

Theory. A connection is two streams of packets. A packet is one type byte (four bits type, four bits
flags), a length of one to four bytes, and that many bytes of body. `Receiver` turns one direction of a
connection into values: `feed` takes bytes as they come, `next_packet` hands out the next whole packet.
`encode` is the way back. Nothing else happens here: what a packet means is said in `hub.gateway.session`
for the hub and in `agent.link` for the device.

Rules.
1. Bounds come before bytes: length and type are judged as soon as the header is complete, so that a peer
   never makes us buffer more than the longest packet that it may send next.
2. What may come next is a table (`SERVER`, `CLIENT`): state and packet type give the next state; a pair that
   is not in the table is a violation.
3. Whatever a peer sends, the outcome is packets and then perhaps one `Violation`, always the same
   ones however the bytes were cut. After a violation nothing more is read.
4. Reasons of violations are fixed texts: they may be counted and logged.
5. Decoding is linear: each byte is copied a fixed number of times, however it comes.

Left out on purpose: QoS 2 (the dialect closes the connection), retained messages (nothing is retained) and
wills (read, bounded and forgotten: a silent device is noticed by the hub anyway).

Source: OASIS MQTT 3.1.1; numbers in brackets are its conformance statements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

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

MAX_PAYLOAD_BYTES = 262_144
"""Device-to-cloud limit of the real service."""

MAX_TOPIC_BYTES = 16_384
"""Topic with its property bag. The SDKs' own properties take about 300 bytes, percent-encoding included."""

MAX_CONNECT_BYTES = 8_192
"""Ids of 128 characters, a user name with product information and a token take about 2,000 bytes. This is
all that is waited for from a stranger."""

MAX_FILTERS = 16
"""Topic filters of one SUBSCRIBE or UNSUBSCRIBE; the dialect has five."""

MAX_FILTER_BYTES = 1_024
"""A filter: two ids of 128 characters, each percent-encoded to at most three bytes, and fixed text."""


class Violation(Exception):
    """The peer broke the protocol or a bound. `answer` is the CONNACK that is due before closing, if any."""

    def __init__(self, reason: str, answer: ConnectCode | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class State(Enum):
    """Where one direction of a connection stands."""

    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


Table: TypeAlias = Mapping[State, Mapping[type[Packet], State]]

SERVER: Table = {
    State.GREETING: {Connect: State.OPEN},
    State.OPEN: {
        Publish: State.OPEN,
        Puback: State.OPEN,
        Subscribe: State.OPEN,
        Unsubscribe: State.OPEN,
        Pingreq: State.OPEN,
        Disconnect: State.CLOSED,
    },
    State.CLOSED: {},
}
"""What a server may receive. A client may send on before it has read our CONNACK [3.1.4]."""

CLIENT: Table = {
    State.GREETING: {Connack: State.OPEN},
    State.OPEN: {
        Publish: State.OPEN,
        Puback: State.OPEN,
        Suback: State.OPEN,
        Unsuback: State.OPEN,
        Pingresp: State.OPEN,
    },
    State.CLOSED: {},
}
"""What a client may receive."""


class _Body:
    """A cursor over the body of one packet; reading past its end is a violation."""

    def __init__(self, data: bytes, flags: int) -> None:
        self.data = data
        self.flags = flags
        self.at = 0

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise Violation("packet: shorter than its fields")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def packet_id(self) -> int:
        value = self.number(2)
        if value == 0:
            raise Violation("packet id: zero")
        return value

    def text(self, limit: int = 0xFFFF) -> str:
        """A length-prefixed string; NUL is not allowed in one [1.5.3-2]."""
        raw = self.take(self.number(2))
        if len(raw) > limit:
            raise Violation("text: longer than allowed")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise Violation("text: not UTF-8") from None
        if "\0" in text:
            raise Violation("text: holds NUL")
        return text

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    @property
    def more(self) -> bool:
        return self.at < len(self.data)


_USERNAME, _PASSWORD, _WILL, _CLEAN = 0x80, 0x40, 0x04, 0x02
_WILL_QOS, _WILL_RETAIN, _RESERVED = 0x18, 0x20, 0x01


def _read_connect(body: _Body) -> Connect:
    if (body.text(), body.number(1)) != ("MQTT", 4):
        raise Violation("CONNECT: not MQTT 3.1.1", ConnectCode.BAD_PROTOCOL)
    flags, keep_alive = body.number(1), body.number(2)
    if flags & _RESERVED or (flags & _PASSWORD and not flags & _USERNAME):
        raise Violation("CONNECT: flags contradict each other")
    if flags & _WILL_QOS == _WILL_QOS or (flags & (_WILL_QOS | _WILL_RETAIN) and not flags & _WILL):
        raise Violation("CONNECT: flags contradict each other")
    client_id = body.text()
    if flags & _WILL:
        body.text(MAX_TOPIC_BYTES)
        body.take(body.number(2))
    username = body.text() if flags & _USERNAME else None
    password = body.take(body.number(2)) if flags & _PASSWORD else None
    return Connect(client_id, username, password, keep_alive, bool(flags & _CLEAN))


def _write_connect(packet: Connect) -> bytes:
    flags = _CLEAN if packet.clean_session else 0
    tail = _text(packet.client_id)
    if packet.username is not None:
        flags |= _USERNAME
        tail += _text(packet.username)
    if packet.password is not None:
        flags |= _PASSWORD
        tail += len(packet.password).to_bytes(2, "big") + packet.password
    return _text("MQTT") + bytes((4, flags)) + packet.keep_alive.to_bytes(2, "big") + tail


def _read_connack(body: _Body) -> Connack:
    present, code = body.number(1), body.number(1)
    if present > 1 or code > max(ConnectCode):
        raise Violation("CONNACK: value out of range")
    return Connack(ConnectCode(code), bool(present))


def _read_publish(body: _Body) -> Publish:
    qos, dup, retain = body.flags >> 1 & 3, bool(body.flags & 8), bool(body.flags & 1)
    if qos > 1:
        raise Violation("PUBLISH: QoS 2 is not offered" if qos == 2 else "PUBLISH: QoS 3")
    if dup and not qos:
        raise Violation("PUBLISH: DUP without QoS")  # [3.3.1-2]
    topic = body.text(MAX_TOPIC_BYTES)
    if not topic or "#" in topic or "+" in topic:
        raise Violation("PUBLISH: topic is empty or holds a wildcard")
    packet_id = body.packet_id() if qos else 0
    payload = body.rest()
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise Violation("PUBLISH: payload longer than allowed")
    return Publish(topic, payload, qos, packet_id, dup, retain)


def _write_publish(packet: Publish) -> bytes:
    packet_id = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
    return _text(packet.topic) + packet_id + packet.payload


def _filter(body: _Body) -> str:
    text = body.text(MAX_FILTER_BYTES)
    if not text:
        raise Violation("filter: empty")
    return text


def _read_subscribe(body: _Body) -> Subscribe:
    packet_id = body.packet_id()
    filters = []
    while body.more:
        filters.append((_filter(body), body.number(1)))
    if any(qos > 2 for _, qos in filters):
        raise Violation("SUBSCRIBE: QoS out of range")
    return Subscribe(packet_id, _counted(filters))


def _write_subscribe(packet: Subscribe) -> bytes:
    pairs = (_text(text) + bytes((qos,)) for text, qos in packet.filters)
    return packet.packet_id.to_bytes(2, "big") + b"".join(pairs)


def _read_suback(body: _Body) -> Suback:
    packet_id, codes = body.packet_id(), tuple(body.rest())
    if not codes or not set(codes) <= {0, 1, 2, FAILURE}:
        raise Violation("SUBACK: value out of range")
    return Suback(packet_id, codes)


def _read_unsubscribe(body: _Body) -> Unsubscribe:
    packet_id = body.packet_id()
    filters = []
    while body.more:
        filters.append(_filter(body))
    return Unsubscribe(packet_id, _counted(filters))


def _write_unsubscribe(packet: Unsubscribe) -> bytes:
    return packet.packet_id.to_bytes(2, "big") + b"".join(map(_text, packet.filters))


def _counted(filters: list[Any]) -> tuple[Any, ...]:
    if not 1 <= len(filters) <= MAX_FILTERS:
        raise Violation("filters: none, or more than allowed")
    return tuple(filters)


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def _write_id(packet: Puback | Unsuback) -> bytes:
    return packet.packet_id.to_bytes(2, "big")


def _write_nothing(packet: Packet) -> bytes:
    return b""


class _Shape(NamedTuple):
    """How one packet type looks on the wire. flags None: they are PUBLISH's own."""

    code: int
    type: type[Packet]
    flags: int | None
    longest: int
    read: Callable[[_Body], Packet]
    write: Callable[[Any], bytes]


_FILTER_LIST = 2 + MAX_FILTERS * (2 + MAX_FILTER_BYTES + 1)

_SHAPES = (
    _Shape(1, Connect, 0, MAX_CONNECT_BYTES, _read_connect, _write_connect),
    _Shape(2, Connack, 0, 2, _read_connack, lambda packet: bytes((packet.session_present, packet.code))),
    _Shape(3, Publish, None, MAX_PAYLOAD_BYTES + MAX_TOPIC_BYTES + 4, _read_publish, _write_publish),
    _Shape(4, Puback, 0, 2, lambda body: Puback(body.packet_id()), _write_id),
    _Shape(8, Subscribe, 2, _FILTER_LIST, _read_subscribe, _write_subscribe),
    _Shape(
        9,
        Suback,
        0,
        2 + MAX_FILTERS,
        _read_suback,
        lambda packet: packet.packet_id.to_bytes(2, "big") + bytes(packet.codes),
    ),
    _Shape(10, Unsubscribe, 2, _FILTER_LIST, _read_unsubscribe, _write_unsubscribe),
    _Shape(11, Unsuback, 0, 2, lambda body: Unsuback(body.packet_id()), _write_id),
    _Shape(12, Pingreq, 0, 0, lambda body: Pingreq(), _write_nothing),
    _Shape(13, Pingresp, 0, 0, lambda body: Pingresp(), _write_nothing),
    _Shape(14, Disconnect, 0, 0, lambda body: Disconnect(), _write_nothing),
)
_BY_CODE = {shape.code: shape for shape in _SHAPES}
_BY_TYPE = {shape.type: shape for shape in _SHAPES}


def encode(packet: Packet) -> bytes:
    """A packet as bytes."""
    shape = _BY_TYPE[type(packet)]
    flags = shape.flags or 0
    if isinstance(packet, Publish):
        flags = packet.dup << 3 | packet.qos << 1 | packet.retain
    body = shape.write(packet)
    return bytes((shape.code << 4 | flags,)) + _length(len(body)) + body


def _length(size: int) -> bytes:
    """Seven bits a byte, lowest first; the eighth says that another byte follows [2.2.3]."""
    out = bytearray()
    while True:
        size, low = size >> 7, size & 0x7F
        out.append(low | 0x80 if size else low)
        if not size:
            return bytes(out)


class _Header(NamedTuple):
    shape: _Shape
    flags: int
    start: int
    end: int


class Receiver:
    """One direction of a connection: bytes in, packets out, by the table of the receiving side."""

    def __init__(self, table: Table = SERVER) -> None:
        self.state = State.GREETING
        self._table = table
        self._buffer = bytearray()
        self._header: _Header | None = None
        self._violation: Violation | None = None

    @property
    def buffered(self) -> int:
        """Bytes that were fed and not yet handed out."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the peer."""
        if self._violation is None:
            self._buffer += data

    def next_packet(self) -> Packet | None:
        """The next whole packet, or None until more bytes are fed. Raises Violation, from then on always."""
        if self._violation is None:
            try:
                return self._next()
            except Violation as violation:
                self._violation = violation
                self._buffer.clear()
                self.state = State.CLOSED
        raise self._violation

    def _next(self) -> Packet | None:
        if self._header is None:
            self._header = self._read_header()
        header = self._header
        if header is None or len(self._buffer) < header.end:
            return None
        with memoryview(self._buffer) as view:
            body = _Body(bytes(view[header.start : header.end]), header.flags)
        # A bytearray drops its front by moving its start, not its bytes.
        del self._buffer[: header.end]
        self._header = None
        packet = header.shape.read(body)
        if body.more:
            raise Violation("packet: longer than its fields")
        self.state = self._table[self.state][header.shape.type]
        return packet

    def _read_header(self) -> _Header | None:
        length, shift = 0, 0
        for at in range(1, min(len(self._buffer), 5)):
            byte = self._buffer[at]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return self._judge(self._buffer[0], length, at + 1)
        if shift == 28:
            raise Violation("length: more than four bytes")
        return None

    def _judge(self, first: int, length: int, start: int) -> _Header:
        shape, flags = _BY_CODE.get(first >> 4), first & 0x0F
        if shape is None or shape.type not in self._table[self.state]:
            raise Violation("packet: of a type that may not come here")
        if shape.flags is not None and flags != shape.flags:
            raise Violation("packet: reserved flags are set")
        if length > shape.longest:
            raise Violation("packet: longer than allowed")
        return _Header(shape, flags, start, start + length)
