"""RTOS messages become events of our types; what else comes costs little and says why."""

import json
import struct
import time

import pytest
import rtos_messages as rtos
from flatbuffers import Builder
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_support import intake, sql

from vedette.hub.decode import Decoded, decode
from vedette.hub.decode.flat import MAX_THINGS
from vedette.hub.intake import Inbound, rows_of
from vedette.wire.events import EVENT_TYPES
from vedette.wire.iothub import Identity
from vedette.wire.message import INTERFACE_ID, MAX_MESSAGE_BYTES, MessageError

PROPERTIES = {"mti": "2.3-1-0-0", "$.ifid": INTERFACE_ID}
EVERY_KIND = [
    (1, rtos.network([("10.0.0.2", "10.0.0.9")], [("fe80::1", "2001:db8::1")])),
    (2, rtos.system()),
    (3, rtos.ports(("0.0.0.0", 23, 0), ("::", 5353, 1))),
    (4, rtos.heartbeat()),
    (5, rtos.baseline(("1.1", 0, 0), ("1.2", 1, 3))),
    (6, rtos.process()),
    (7, rtos.log("no time")),
]


def read(body: bytes) -> Decoded:
    return decode(PROPERTIES, body)


def facts(kind: int, write: rtos.Write) -> list[dict[str, object]]:
    return [reading.facts for reading in read(rtos.message((kind, write))).readings]


def test_a_message_names_its_agent_and_each_event_its_window():
    """Versions are packed into one number; an event's time is the end of its window."""
    decoded = read(rtos.message((4, rtos.heartbeat())))
    [reading] = decoded.readings
    assert (decoded.agent_version, decoded.source) == ("4.1.3", "RTOS")
    assert reading.id == bytes(range(16)).hex()
    assert [reading.window_start.timestamp(), reading.window_end.timestamp()] == [rtos.NOON - 60, rtos.NOON]
    assert reading.first_seen == reading.window_end


def test_a_process_is_read_with_its_hit_count():
    """Every field has its place in our event."""
    [reading] = read(rtos.message((6, rtos.process(hits=3)))).readings
    assert reading.hits == 3
    assert reading.facts == {
        "EventType": "EXEC",
        "ProcessId": 70,
        "ParentProcessId": 1,
        "Commandline": "telnetd -l",
        "Executable": "/bin/telnetd",
        "UserName": "operator",
        "UserId": 1000,
    }


def test_a_process_without_a_hit_count_ran_once():
    """The schema's default is 1; an encoder leaves defaults out."""

    def write(builder: Builder) -> int:
        return rtos.table(builder, f0="/bin/sh")

    [reading] = read(rtos.message((6, write))).readings
    assert reading.hits == 1
    assert reading.facts["EventType"] == "FORK"


def test_each_flow_is_an_event():
    """IPv4 and IPv6 flows of one payload become rows of one table."""
    four, six = facts(1, rtos.network([("10.0.0.2", "10.0.0.9")], [("fe80::1", "2001:db8::1")]))
    assert [
        four[key] for key in ("LocalAddress", "RemoteAddress", "LocalPort", "RemotePort", "Protocol")
    ] == [*("10.0.0.2", "10.0.0.9", 49152, 443, "UDP")]
    assert [four[key] for key in ("BytesIn", "BytesOut", "ProcessId", "Commandline")] == [
        *(1000, 2000, 70, "mqtt_client")
    ]
    assert [six["LocalAddress"], six["RemoteAddress"]] == ["fe80::1", "2001:db8::1"]


def test_listening_ports_are_one_snapshot_whose_id_tells_its_state():
    """The same ports in another order are the same state."""
    a, b = ("0.0.0.0", 23, 0), ("::", 5353, 1)
    [first] = facts(3, rtos.ports(a, b))
    [again] = facts(3, rtos.ports(b, a))
    [other] = facts(3, rtos.ports(a))
    assert first["Ports"] == [
        {"Protocol": "TCP", "LocalAddress": "0.0.0.0", "LocalPort": 23},
        {"Protocol": "UDP", "LocalAddress": "::", "LocalPort": 5353},
    ]
    assert first["SnapshotId"] == again["SnapshotId"] != other["SnapshotId"]


def test_each_check_of_a_baseline_is_an_event():
    """Checks of one scan share its id."""
    passed, failed = facts(5, rtos.baseline(("1.1", 0, 0), ("1.2", 1, 3)))
    assert [passed["BaselineCheckId"], passed["BaselineCheckResult"], passed["BaselineCheckSeverity"]] == [
        *("1.1", "PASS", "Critical")
    ]
    assert [failed["BaselineCheckId"], failed["BaselineCheckResult"], failed["BaselineCheckSeverity"]] == [
        *("1.2", "FAIL", "Informational")
    ]
    assert passed["EventId"] == failed["EventId"]


def test_every_payload_gives_only_keys_that_its_event_type_declares():
    """What is not declared would not show anywhere."""
    readings = read(rtos.message(*EVERY_KIND)).readings
    assert {reading.name for reading in readings} == {
        *("NetworkActivity", "SystemInformation", "ListeningPorts", "Heartbeat", "Baseline", "Process", "Log")
    }
    for reading in readings:
        assert set(reading.facts) <= set(EVENT_TYPES[reading.name].details)
    assert [reading.index for reading in readings] == list(range(len(readings)))


def test_an_event_of_an_unknown_kind_costs_only_itself():
    """The others are kept, and the dead letter names the event and the number."""
    body = rtos.message((4, rtos.heartbeat()), (99, rtos.heartbeat()), (6, rtos.process()))
    rows = rows_of(Inbound(Identity("d1"), PROPERTIES, body, rtos.NOON), "mid")
    assert [(row.RawEventName, row.EventIndex) for row in rows.events] == [("Heartbeat", 0), ("Process", 2)]
    assert rows.dead is not None
    assert (rows.dead.Reason, rows.dead.EventIndex) == ("Message.events[1].payload_type: 99 is not known", 1)


def test_text_that_is_not_utf8_is_kept_visible():
    """A device's bytes are shown, not refused."""
    body = rtos.message((6, rtos.process("PLACE")))
    [reading] = read(body.replace(b"PLACE", b"\xffLACE")).readings
    assert reading.facts["Commandline"] == "\\xffLACE"


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"mti": "2.3-2-0-0"}, "mti: encoding 2"),
        ({"mti": "3.0-1-0-0"}, "mti: FlatBuffers of schema 3"),
    ],
)
def test_an_encoding_or_schema_that_is_not_known_is_named(properties, reason):
    """Nothing is guessed about field ids of a later schema."""
    with pytest.raises(MessageError, match=reason):
        decode(properties, rtos.message((4, rtos.heartbeat())))


def test_required_parts_are_required():
    """A message without a module id, or without events, is none."""
    builder = Builder(0)
    builder.Finish(rtos.table(builder, f0="agent"))
    with pytest.raises(MessageError, match=r"Message\.events: missing"):
        read(bytes(builder.Output()))
    with pytest.raises(MessageError, match=r"Message\.security_module_id: missing"):
        read(rtos.message((4, rtos.heartbeat()), module=""))


WHOLE = rtos.message(*EVERY_KIND)


@pytest.mark.parametrize("size", range(0, len(WHOLE), 3))
def test_a_truncated_message_is_refused_or_read_in_part(size):
    """At whatever byte it ends, the answer is a reading or a MessageError."""
    rows_of(Inbound(Identity("d1"), PROPERTIES, WHOLE[:size], rtos.NOON), "mid")


@settings(max_examples=1500)
@given(st.data())
def test_no_damage_does_more_than_make_a_dead_letter(data: st.DataObject):
    """Offsets, sizes and counts that were overwritten lead to an error that says where, never past it."""
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 4))
        value = data.draw(
            st.integers(0, 64) | st.integers(2**31 - 1, 2**31) | st.integers(2**32 - 8, 2**32 - 1)
        )
        struct.pack_into("<I", damaged, at, value)
    rows = rows_of(Inbound(Identity("d1"), PROPERTIES, bytes(damaged), rtos.NOON), "mid")
    assert rows.dead is None or ": " in rows.dead.Reason
    for row in rows.events:
        json.loads(row.EventDetails)


@given(st.binary(max_size=400))
def test_noise_is_a_dead_letter(noise: bytes):
    """Random bytes are no message."""
    rows = rows_of(Inbound(Identity("d1"), PROPERTIES, noise, rtos.NOON), "mid")
    assert rows.dead is not None or rows.events


def bomb(entries: int) -> bytes:
    """A message whose events are all one event, whose flows are all one flow: entries² of them."""
    builder = Builder(0)
    flow = rtos.flow(builder, "10.0.0.2", "10.0.0.9")
    flows = rtos.vector(builder, [flow] * entries)
    payload = rtos.table(builder, f0=("at", flows))
    events = rtos.vector(builder, [rtos.event(builder, 1, payload)] * entries)
    builder.Finish(rtos.table(builder, f0="agent", f3=("at", events)))
    return bytes(builder.Output())


def test_a_message_that_names_one_thing_many_times_is_stopped():
    """A quarter of a megabyte cannot be made to stand for a billion rows."""
    body = bomb(30_000)
    assert len(body) <= MAX_MESSAGE_BYTES
    with pytest.raises(MessageError, match=f"repeats more than {MAX_THINGS} tables"):
        read(body)


def test_a_port_list_that_many_events_share_is_stopped():
    """Structures count like tables."""
    builder = Builder(0)
    payload = rtos.ports(*[("10.0.0.1", port, 0) for port in range(10_000)])(builder)
    events = rtos.vector(builder, [rtos.event(builder, 3, payload)] * 10_000)
    builder.Finish(rtos.table(builder, f0="agent", f3=("at", events)))
    with pytest.raises(MessageError, match=f"repeats more than {MAX_THINGS} tables"):
        read(bytes(builder.Output()))


async def test_rtos_rows_stand_in_the_tables_of_their_types(tmp_path):
    """Process, NetworkActivity and ListeningPorts show an RTOS device; it needs no message id."""
    inbound = Inbound(Identity("rtos-1"), PROPERTIES, WHOLE, time.time())
    async with intake(tmp_path) as hub:
        await hub.submit(inbound)
        await hub.submit(inbound)
        assert hub.counters.duplicates == 1
    assert sql(tmp_path, "SELECT DeviceId, Commandline, HitCount, UserId FROM Process") == [
        ("rtos-1", "telnetd -l", 3, 1000)
    ]
    assert sql(tmp_path, "SELECT RemoteAddress, RemotePort FROM NetworkActivity ORDER BY 1") == [
        ("10.0.0.9", 443),
        ("2001:db8::1", 443),
    ]
    assert len(sql(tmp_path, "SELECT * FROM Baseline WHERE BaselineCheckResult = 'FAIL'")) == 1
