"""Security messages: events packed into one body, and read back.

The body is JSON in the shape of the public RTOS agent schema 2.3 (names in snake case) with three
additions that every event has here: `timestamp` (first observation), `hit_count`, and a textual id.
`mti` in the topic says so: schema 2.3, JSON, Linux, raw.

    {"security_module_id": "vedette", "security_module_version": "0.1.0", "timezone": 0,
     "events": [{"id": "…", "time": 1767225600, "collection_interval": 120, "timestamp": "…Z",
                 "hit_count": 3, "payload_type": "Process", "payload": {…}}]}

Metering (what an IoT Hub bills) lives here too because packing must know it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator

import msgspec

from vedette import __version__
from vedette.wire.events import EVENT_TYPES, Event, Payload, UInt, type_of, utc_text
from vedette.wire.iothub import encode_properties

MTI = "2.3-0-1-0"
"""Message type of this format: schema 2.3, 0 = JSON, 1 = Linux, 0 = raw events."""

INTERFACE_ID = "urn:azureiot:Security:SecurityAgent:1"
"""Value of `$.ifid`, by which a hub tells security messages from telemetry."""

METERING_UNIT = 4096
"""Bytes of one metered message on paid tiers of the real service; started units count whole."""

MAX_MESSAGE_BYTES = 262_144
"""Largest device-to-cloud message of the real service, payload and properties together."""

DEFAULT_MESSAGE_BYTES = 50 * METERING_UNIT
"""Default packing limit: whole metering units, the 204,800 bytes of the classic agent's default."""

PROPERTY_BYTES = 512
"""Room kept in each message for its topic properties (ours take about 130 bytes)."""

MAX_EVENTS = 65_536
"""Events accepted in one message. 262,144 bytes cannot hold more: an event takes over 100."""


class MessageError(ValueError):
    """A body that is not a security message; the text names the field and the reason."""


class Window(msgspec.Struct, frozen=True):
    """The time that aggregated events stand for: seconds since the Unix epoch (UTC)."""

    start: float
    end: float


class WireEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a message. Its payload stays raw until its type is known.

    time: end of the aggregation window, Unix seconds; collection_interval: its length in seconds;
    timestamp: first observation, ISO 8601 UTC.
    """

    id: str
    time: UInt
    collection_interval: UInt
    timestamp: str
    hit_count: UInt = 1
    payload_type: str
    payload: msgspec.Raw

    def decode(self) -> Payload:
        """The payload, checked. Raises MessageError if the type is unknown or a field is wrong."""
        declared = EVENT_TYPES.get(self.payload_type)
        if declared is None:
            raise MessageError(f"payload_type: unknown event type {self.payload_type[:64]!r}")
        try:
            return msgspec.json.decode(self.payload, type=declared.payload)
        except msgspec.DecodeError as error:
            raise MessageError(f"payload of {self.payload_type}: {error}") from None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded security message."""

    security_module_id: str
    security_module_version: str
    timezone: int = 0
    events: list[WireEvent]


class Packed(msgspec.Struct, frozen=True):
    """A message ready for the outbox. `units` is what the real service would meter.

    bag: its encoded property bag, if that is not the one of this module's format.
    """

    message_id: str
    body: bytes
    events: int
    hits: int
    units: int
    bag: str = ""

    @property
    def properties(self) -> str:
        """The encoded property bag, for the end of its topic."""
        return self.bag or message_properties(self.message_id)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)


def metered_units(size: int, unit: int = METERING_UNIT) -> int:
    """Metered messages for `size` bytes of payload and properties: started units count whole."""
    return max(1, -(-size // unit))


def encode_event(event: Event, window: Window) -> bytes:
    """One event as JSON. Its id is new with every call."""
    wire = WireEvent(
        id=uuid.uuid4().hex,
        time=int(window.end),
        collection_interval=max(0, round(window.end - window.start)),
        timestamp=utc_text(event.first_seen),
        hit_count=event.hits,
        payload_type=type_of(event.payload).name,
        payload=msgspec.Raw(_encoder.encode(event.payload)),
    )
    return _encoder.encode(wire)


def pack(
    batches: Iterable[tuple[Iterable[Event], Window]],
    *,
    max_bytes: int = DEFAULT_MESSAGE_BYTES,
    timezone: int = 0,
) -> Iterator[Packed]:
    """Pack events into as few messages as `max_bytes` (properties included) allows, in order.

    One event larger than the limit still makes a message of its own, up to MAX_MESSAGE_BYTES: fields
    are bounded where they are read, so that none comes near it.
    """
    head = _encoder.encode(
        Message(
            security_module_id="vedette", security_module_version=__version__, timezone=timezone, events=[]
        )
    ).removesuffix(b"]}")
    room = max_bytes - PROPERTY_BYTES - len(head) - 2
    parts: list[bytes] = []
    size = hits = 0

    def seal() -> Packed:
        body = head + b",".join(parts) + b"]}"
        return Packed(uuid.uuid4().hex, body, len(parts), hits, metered_units(len(body) + PROPERTY_BYTES))

    for events, window in batches:
        for event in events:
            part = encode_event(event, window)
            if parts and size + len(part) + 1 > room:
                yield seal()
                parts, size, hits = [], 0, 0
            parts.append(part)
            size += len(part) + 1
            hits += event.hits
    if parts:
        yield seal()


def message_properties(message_id: str) -> str:
    """The encoded property bag of a message of this format, for the end of its topic."""
    return encode_properties(
        [
            ("$.mid", message_id),
            ("$.ct", "application/json"),
            ("$.ce", "utf-8"),
            ("$.ifid", INTERFACE_ID),
            ("mti", MTI),
        ]
    )


def decode(body: bytes) -> Message:
    """Read a body back. Raises MessageError naming the field and the reason."""
    try:
        message = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise MessageError(str(error)) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"not JSON in UTF-8: {error}") from None
    if len(message.events) > MAX_EVENTS:
        raise MessageError(f"events: {len(message.events)} in one message, {MAX_EVENTS} allowed")
    return message
