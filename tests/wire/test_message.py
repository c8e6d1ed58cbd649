"""Security messages: what is packed reads back, sizes hold, what is metered is told."""

import uuid
from itertools import count, pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette import __version__
from vedette.wire.events import EVENT_TYPES, Event, Outcome, Process, Statistics
from vedette.wire.iothub import decode_properties
from vedette.wire.message import (
    INTERFACE_ID,
    MAX_EVENTS,
    MTI,
    PROPERTY_BYTES,
    MessageError,
    Window,
    decode,
    message_properties,
    metered_units,
    pack,
)

WINDOW = Window(1_800_000_000.0, 1_800_000_120.4)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
counts = st.integers(0, 2**63 - 1)
processes = st.builds(
    Process,
    event_type=st.sampled_from(["FORK", "EXEC", "EXIT"]),
    process_id=counts,
    parent_process_id=counts,
    commandline=texts,
    executable=texts,
    user_name=texts,
    user_id=counts,
    commandline_length=st.none() | counts,
)
statistics = st.builds(
    Statistics, name=texts, events=st.lists(st.builds(Outcome, texts, counts, counts), max_size=3).map(tuple)
)
events = st.builds(Event, processes | statistics, st.floats(0, 4e9), st.integers(1, 2**40))


def process(commandline: str = "id -u", **fields: object) -> Process:
    plain = {"event_type": "EXEC", "process_id": 7, "parent_process_id": 1, "user_id": 0}
    return Process(**{**plain, "commandline": commandline, **fields})


GOLDEN = (
    '{"security_module_id":"vedette","security_module_version":"VERSION","timezone":1,"events":['
    '{"id":"00000000000000000000000000000001","time":1800000120,"collection_interval":120,'
    '"timestamp":"2027-01-15T08:00:01.500Z","hit_count":3,"payload_type":"Process",'
    '"payload":{"event_type":"EXEC","process_id":7,"parent_process_id":1,"commandline":"id -u","user_id":0}},'
    '{"id":"00000000000000000000000000000002","time":1800000120,"collection_interval":120,'
    '"timestamp":"2027-01-15T08:00:02.000Z","hit_count":1,"payload_type":"Statistics",'
    '"payload":{"name":"Process","events":[{"description":"sent","hit_count":9,"events":4}]}}]}'
)


@pytest.fixture
def numbered_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids count up instead of being random."""
    numbers = count(1)
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers)))


@pytest.mark.usefixtures("numbered_ids")
def test_the_text_of_a_message():
    """What a hub, ours or any other, receives, byte for byte."""
    batch = [
        Event(process(), 1_800_000_001.5, 3),
        Event(Statistics(name="Process", events=(Outcome("sent", 9, 4),)), 1_800_000_002.0),
    ]
    [message] = pack([(batch, WINDOW)], timezone=1)
    assert message.body.decode() == GOLDEN.replace("VERSION", __version__)
    assert (message.events, message.hits) == (2, 4)


@given(st.lists(events, max_size=20), st.floats(0, 4e9), st.floats(0, 1e6))
def test_packed_events_read_back(batch, start, length):
    """Payload, hits and times survive; each event gets an id of its own."""
    window = Window(start, start + length)
    wire = [event for packed in pack([(batch, window)]) for event in decode(packed.body).events]
    assert [event.decode() for event in wire] == [event.payload for event in batch]
    assert [event.hit_count for event in wire] == [event.hits for event in batch]
    assert all(event.time == int(window.end) for event in wire)
    assert all(abs(event.collection_interval - length) <= 1 for event in wire)
    assert len({event.id for event in wire}) == len(batch)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 3000), max_size=40), st.integers(8192, 20_000))
def test_messages_keep_to_the_limit(sizes, limit):
    """No message with its properties exceeds the limit; order is kept; none is needlessly small."""
    batch = [Event(process(f"{i}".ljust(size, "x")), 0.0) for i, size in enumerate(sizes)]
    messages = list(pack([(batch, WINDOW)], max_bytes=limit))
    assert all(len(message.body) + PROPERTY_BYTES <= limit for message in messages)
    order = [event.decode().commandline for message in messages for event in decode(message.body).events]
    assert order == [event.payload.commandline for event in batch]
    for one, following in pairwise(messages):
        first = len(msgspec.json.encode(decode(following.body).events[0]))
        assert len(one.body) + first + 1 + PROPERTY_BYTES > limit


def test_collectors_due_together_share_a_message():
    """Batches of several collectors go into one message, each event with the window of its own."""
    other = Window(1_799_000_000.0, 1_800_000_120.4)
    [message] = pack([([Event(process("a"), 0.0)], WINDOW), ([Event(process("b"), 0.0)], other)])
    assert [event.collection_interval for event in decode(message.body).events] == [120, 1_000_120]


def test_an_event_beyond_the_limit_goes_alone():
    """It is not lost, and does not take others with it."""
    batch = [Event(process(text), 0.0) for text in ("a", "b" * 10_000, "c")]
    messages = list(pack([(batch, WINDOW)], max_bytes=8192))
    assert [message.events for message in messages] == [1, 1, 1]


def test_nothing_makes_no_message():
    """No events, no metered unit."""
    assert list(pack([])) == []
    assert list(pack([([], WINDOW), ([], WINDOW)])) == []


def test_counts_of_each_message():
    """Every message tells its events and hits, so that losses can be counted exactly."""
    batch = [Event(process("x" * 3000), 0.0, hits) for hits in (1, 20, 300, 4000)]
    messages = list(pack([(batch, WINDOW)], max_bytes=8192))
    assert [(message.events, message.hits) for message in messages] == [(2, 21), (2, 4300)]
    assert len({message.message_id for message in messages}) == 2


@pytest.mark.parametrize(
    ("size", "unit", "units"),
    [(0, 4096, 1), (1, 4096, 1), (4096, 4096, 1), (4097, 4096, 2), (262_144, 4096, 64), (513, 512, 2)],
)
def test_started_units_count_whole(size, unit, units):
    """As the service bills: 4 KB on paid tiers, 0.5 KB on the free one."""
    assert metered_units(size, unit) == units


@given(st.lists(events, min_size=1, max_size=10))
def test_units_cover_body_and_properties(batch):
    """The units told are never fewer than the service would meter for what is sent."""
    for message in pack([(batch, WINDOW)]):
        sent = len(message.body) + len(message_properties(message.message_id))
        assert metered_units(sent) <= message.units <= metered_units(sent) + 1


def test_the_properties_of_a_message():
    """By these a hub knows a security message and its encoding."""
    bag = message_properties("4f" * 16)
    assert decode_properties(bag) == {
        "$.mid": "4f" * 16,
        "$.ct": "application/json",
        "$.ce": "utf-8",
        "$.ifid": INTERFACE_ID,
        "mti": MTI,
    }
    assert "%24.ifid=urn%3Aazureiot%3ASecurity%3ASecurityAgent%3A1" in bag
    assert len(bag) < PROPERTY_BYTES


# What a hub must expect


def body(**changes: object) -> bytes:
    [message] = pack([([Event(process(), 0.0)], WINDOW)])
    return msgspec.json.encode(msgspec.json.decode(message.body) | changes)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (b"", "truncated"),
        (b"{}", "security_module_id"),
        (b"[]", "Expected `object`"),
        (b"\xff\xfe", "not JSON in UTF-8|malformed|invalid"),
        (b'{"security_module_id":"\xff"}', "not JSON in UTF-8"),
        (b"[" * 100_000, "not JSON in UTF-8|Expected"),
        (body(security_module_id=1), r"security_module_id"),
        (body(events=None), r"\$\.events"),
        (body(events=[{}]), r"events\[0\]"),
        (body(events=[{"id": "x", "time": -1}]), r"events\[0\]\.time|events\[0\]"),
        (body(timezone="x"), "timezone"),
    ],
)
def test_a_wrong_body_is_refused_by_field(wrong, reason):
    """Whatever a device sends gets a clear error."""
    with pytest.raises(MessageError, match=reason):
        decode(wrong)


def test_too_many_events_are_refused():
    """The bound is above what a legal message can hold."""
    event = {"id": "", "time": 0, "collection_interval": 0, "timestamp": "", "payload_type": "", "payload": 0}
    with pytest.raises(MessageError, match=f"{MAX_EVENTS + 1} in one message"):
        decode(body(events=[event] * (MAX_EVENTS + 1)))


def wire_event(payload_type: str, payload: object) -> bytes:
    event = {"id": "", "time": 0, "collection_interval": 0, "timestamp": ""}
    return body(events=[event | {"payload_type": payload_type, "payload": payload}])


@pytest.mark.parametrize(
    ("payload_type", "payload", "reason"),
    [
        ("Nothing", {}, "unknown event type 'Nothing'"),
        ("x" * 1000, {}, "unknown event type"),
        ("Process", {}, "payload of Process: .*event_type"),
        ("Process", 3, "payload of Process: Expected `object`"),
        ("Process", {"event_type": "SING"}, "payload of Process: Invalid enum value 'SING'"),
        (
            "Process",
            {"event_type": "EXEC", "process_id": -1, "parent_process_id": 1, "commandline": "", "user_id": 0},
            "process_id",
        ),
    ],
)
def test_a_wrong_payload_is_refused_by_field(payload_type, payload, reason):
    """The message around it can still be read: each payload is judged for itself."""
    [event] = decode(wire_event(payload_type, payload)).events
    with pytest.raises(MessageError, match=reason) as caught:
        event.decode()
    assert len(str(caught.value)) < 300


@given(st.binary(max_size=300))
def test_no_body_raises_anything_else(content):
    """Any bytes are a message or a MessageError."""
    try:
        message = decode(content)
        [event.decode() for event in message.events]
    except MessageError:
        return


def test_fields_of_a_newer_agent_are_no_error():
    """A hub may be older than its devices."""
    assert decode(body(colour="red")).security_module_id == "vedette"


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_every_declared_type_has_a_decoder(name):
    """A payload that is not of the type is refused, not taken as it is."""
    [event] = decode(wire_event(name, [1])).events
    with pytest.raises(MessageError, match=f"payload of {name}"):
        event.decode()
