"""What the intake makes of messages: rows, dead letters, duplicates; and when they may be acknowledged."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lake_support import NOON, SECURITY, body, dead, intake, message, sql, stored

from vedette.hub.intake import DEAD_BODY_BYTES, Inbound, Intake, message_id, rows_of
from vedette.hub.lake import CommitFailed
from vedette.wire.events import EVENT_TYPES, Event, Outcome, Statistics, pascal
from vedette.wire.iothub import Identity
from vedette.wire.message import Window, pack


def inbound(raw: bytes, **properties: str) -> Inbound:
    return Inbound(Identity("d1", "m1"), SECURITY | properties, raw, NOON)


def altered(**fields: object) -> bytes:
    """A message whose only event has these fields changed."""
    document = json.loads(body("ls"))
    document["events"][0] |= fields
    return json.dumps(document).encode()


def test_event_details_have_the_declared_keys_in_their_order():
    """The text is compact and its keys stand where parsers that cut it by position expect them."""
    document = json.loads(body("ls -l", hits=3))
    event_id = document["events"][0]["id"]
    [row] = rows_of(inbound(json.dumps(document).encode()), "mid").events
    assert row.EventDetails == (
        f'{{"MessageSource":"Linux","OriginalEventId":"{event_id}","EventId":"{event_id}","HitCount":3,'
        '"TimestampUTC":"2026-01-01T12:00:00.000Z","EventType":"EXEC","ProcessId":7,"ParentProcessId":1,'
        '"Commandline":"ls -l","Executable":"","UserName":"","UserId":0,"CommandlineLength":null,'
        '"Masked":0,"ExitStatus":null,"ExitSignal":null}'
    )


def test_parts_of_a_payload_are_spelled_like_its_fields():
    """Structures inside a payload have PascalCase keys too."""
    statistics = Statistics(name="Process", events=(Outcome(description="sent", hit_count=4, events=2),))
    [packed] = pack([([Event(statistics, NOON)], Window(NOON - 60, NOON))])
    [row] = rows_of(inbound(packed.body), "mid").events
    assert json.loads(row.EventDetails)["Events"] == [{"Description": "sent", "HitCount": 4, "Events": 2}]


@pytest.mark.parametrize("declared", EVENT_TYPES.values(), ids=str)
def test_every_declared_key_of_event_details_has_a_source(declared):
    """A key is either common to all events or a field of the payload."""
    common = {"AzureResourceId", "DeviceId", "MessageSource", "OriginalEventId", "EventId", "HitCount"}
    common |= {"TimestampUTC", "ExtendedProperties"}
    fields = {pascal(field) for field in declared.payload.__struct_fields__}
    assert set(declared.details) <= common | fields


def test_a_row_knows_its_device_from_the_connection_and_its_time_from_the_hub():
    """TimeGenerated and the partition come from the hub's clock, TimeStamp and window from the device's."""
    [row] = rows_of(
        inbound(altered(timestamp="1970-01-01T00:00:01Z", time=61, collection_interval=60)), "m"
    ).events
    assert (row.DeviceId, row.ModuleId) == ("d1", "m1")
    assert row.TimeGenerated.isoformat() == "2026-01-01T12:00:00+00:00"
    assert row.EventDate.isoformat() == "2026-01-01"
    assert row.TimeStamp.isoformat() == "1970-01-01T00:00:01+00:00"
    assert [row.WindowStart.timestamp(), row.WindowEnd.timestamp()] == [1, 61]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"timestamp": "yesterday"}, "timestamp: 'yesterday' is not ISO 8601"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp: "),
        ({"time": 2**62}, "time: "),
        ({"time": 0, "collection_interval": 2**62}, "collection_interval: "),
        ({"payload_type": "Nonsense"}, "payload_type: unknown event type 'Nonsense'"),
        ({"payload": {}}, "payload of Process: "),
    ],
)
def test_an_unreadable_event_is_named_with_its_field(fields, reason):
    """The dead letter tells which field of which event is wrong."""
    rows = rows_of(inbound(altered(**fields)), "mid")
    assert rows.events == []
    assert rows.dead is not None
    assert rows.dead.Reason.startswith(reason)
    assert (rows.dead.EventIndex, rows.dead.Events) == (0, 1)


def test_readable_events_beside_an_unreadable_one_are_kept():
    """One bad event costs only itself; rows keep their place in the message."""
    document = json.loads(body("a", "b", "c"))
    document["events"][1]["payload_type"] = "Nonsense"
    rows = rows_of(inbound(json.dumps(document).encode()), "mid")
    assert [row.EventIndex for row in rows.events] == [0, 2]
    assert rows.dead is not None
    assert (rows.dead.EventIndex, rows.dead.Events) == (1, 1)
    assert json.loads(rows.dead.Body) == document["events"][1]


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"$.ifid": "", "mti": "nonsense"}, "mti: 'nonsense' is not"),
        ({"mti": "2.3-7-0-0"}, "mti: encoding 7 is neither"),
    ],
)
def test_a_message_of_another_encoding_is_a_dead_letter(properties, reason):
    """What the topic announces is believed, and named when it cannot be read."""
    rows = rows_of(inbound(body("ls"), **properties), "mid")
    assert rows.dead is not None
    assert rows.dead.Reason.startswith(reason)


def test_telemetry_is_a_dead_letter():
    """A message that neither `$.ifid` nor `mti` marks is not a security message."""
    rows = rows_of(Inbound(Identity("d1"), {}, b'{"temperature": 21}', NOON), "mid")
    assert rows.dead is not None
    assert rows.dead.Reason.startswith("not a security message")
    assert rows.dead.Body == b'{"temperature": 21}'


def test_a_dead_letter_keeps_a_bounded_part_of_the_body():
    """A quarter of a megabyte of nonsense does not go into the lake whole."""
    rows = rows_of(inbound(b"x" * 262_144), "mid")
    assert rows.dead is not None
    assert len(rows.dead.Body) == DEAD_BODY_BYTES


def test_a_message_without_an_id_is_known_by_properties_and_body():
    """Equal bytes give an equal id; another body or another property another."""
    first = message_id(inbound(b"a"))
    assert first == message_id(inbound(b"a"))
    assert len({first, message_id(inbound(b"b")), message_id(inbound(b"a", other="1"))}) == 3
    assert message_id(inbound(b"a", **{"$.mid": "given"})) == "given"
    assert len(message_id(inbound(b"a", **{"$.mid": "x" * 1000}))) == 32


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ["id", "time", "collection_interval", "timestamp", "hit_count", "payload_type", "payload"]


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """Nearly a message: bytes cut, or any field of message, event or payload replaced."""
    document = json.loads(body("ls -l", "id"))
    kind = draw(st.sampled_from(["bytes", "cut", "message", "event", "payload"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "cut":
        raw = body("ls")
        return raw[: draw(st.integers(0, len(raw)))]
    if kind == "message":
        document[draw(st.sampled_from(sorted(document)))] = draw(JSON)
    elif kind == "event":
        document["events"][0][draw(st.sampled_from(FIELDS))] = draw(JSON)
    else:
        field = draw(st.sampled_from(["commandline", "user_id", "user_name", "event_type", "new"]))
        document["events"][0]["payload"][field] = draw(JSON)
    return json.dumps(document).encode()


async def test_malformed_messages_never_stop_the_stream(tmp_path: Path):
    """Every mangled message is acknowledged, and a good one sent beside it is stored."""
    raws: list[bytes] = []

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mangled())
    def collect(raw: bytes) -> None:
        raws.append(raw)

    collect()
    raws += [b"\xff\xfe", b"[" * 100_000, altered(payload={"commandline": "\ud800"}), altered(id="\ud800")]
    async with intake(tmp_path / "lake") as hub:
        good = [message("good", mid=f"good {number}") for number in range(len(raws))]
        async with asyncio.timeout(60):
            await asyncio.gather(*(hub.submit(inbound(raw)) for raw in raws), *map(hub.submit, good))
    held = stored(tmp_path / "lake")
    assert all(held[f"good {number}/0"] == 1 for number in range(len(raws)))
    assert hub.counters.dead_letters == len(dead(tmp_path / "lake")) > 0


async def test_a_submitted_message_is_in_the_lake_when_submit_returns(tmp_path: Path):
    """Nothing is acknowledged that a reader could not see."""
    async with intake(tmp_path / "lake") as hub:
        await hub.submit(message("ls", "id", mid="a"))
        assert stored(tmp_path / "lake") == {"a/0": 1, "a/1": 1}
        assert (hub.counters.messages, hub.counters.events, hub.commits.commits) == (1, 2, 1)


async def test_messages_of_one_moment_share_a_commit(tmp_path: Path):
    """A hundred devices that send together cost one file, not a hundred."""
    async with intake(tmp_path / "lake") as hub:
        await asyncio.gather(*(hub.submit(message("ls", device=f"d{number}")) for number in range(100)))
        assert hub.commits.commits == 1
        assert hub.counters.events == 100


async def test_a_duplicate_in_flight_joins_the_first(tmp_path: Path):
    """Both are acknowledged by the same commit and stored once."""
    async with intake(tmp_path / "lake") as hub:
        await asyncio.gather(*(hub.submit(message("ls", mid="same")) for _ in range(5)))
        assert hub.counters.duplicates == 4
    assert stored(tmp_path / "lake") == {"same/0": 1}


async def test_a_message_sent_again_after_a_restart_is_stored_once(tmp_path: Path):
    """The index of messages is read back from the lake, for events and for dead letters."""
    repeated = [
        message("ls", mid="a", received=time.time()),
        Inbound(Identity("d1"), {"$.mid": "telemetry"}, b"21", time.time()),
    ]
    for _ in range(3):
        async with intake(tmp_path / "lake") as hub:
            await asyncio.gather(*map(hub.submit, repeated))
    assert hub.counters.duplicates == 2
    assert stored(tmp_path / "lake") == {"a/0": 1}
    assert len(dead(tmp_path / "lake")) == 1


async def test_the_same_message_id_of_two_devices_is_two_messages(tmp_path: Path):
    """Message ids are the device's own."""
    async with intake(tmp_path / "lake") as hub:
        await asyncio.gather(*(hub.submit(message("ls", mid="1", device=name)) for name in ("d1", "d2")))
    assert stored(tmp_path / "lake") == {"1/0": 2}


async def test_a_connection_that_goes_away_does_not_take_its_message_along(tmp_path: Path):
    """Cancelling submit leaves the message in the commit, and its repetition finds it there."""
    async with intake(tmp_path / "lake") as hub:
        waiting = asyncio.create_task(hub.submit(message("ls", mid="a")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await hub.submit(message("ls", mid="a"))
        assert hub.counters.duplicates == 1
    assert stored(tmp_path / "lake") == {"a/0": 1}


async def test_a_closed_intake_stores_what_waits_and_refuses_what_comes(tmp_path: Path):
    """Stopping loses nothing that was taken and acknowledges nothing that was not."""
    async with intake(tmp_path / "lake") as hub:
        waiting = asyncio.create_task(hub.submit(message("ls", mid="before")))
        await asyncio.sleep(0)
        await hub.close()
        await waiting
        with pytest.raises(CommitFailed):
            await hub.submit(message("ls", mid="after"))
    assert stored(tmp_path / "lake") == {"before/0": 1}


async def test_rows_are_sorted_by_device_within_a_file(tmp_path: Path):
    """One device's rows stand together, so that a query for it reads little."""
    async with intake(tmp_path / "lake") as hub:
        devices = [f"d{number % 7}" for number in range(50)]
        await asyncio.gather(*(hub.submit(message("ls", device=name)) for name in devices))
    order = [name for (name,) in sql(tmp_path / "lake", "SELECT DeviceId FROM raw_events")]
    assert order == sorted(order)


async def test_a_batch_over_midnight_is_filed_under_both_days(tmp_path: Path):
    """Rows go to the partition of their own day of receipt."""
    midnight = NOON + 12 * 3600
    async with intake(tmp_path / "lake") as hub:
        await asyncio.gather(
            hub.submit(message("late", received=midnight - 1)),
            hub.submit(message("early", received=midnight)),
        )
        assert hub.commits.commits == 1
    rows = sql(tmp_path / "lake", "SELECT EventDate::VARCHAR, count(*) FROM raw_events GROUP BY 1 ORDER BY 1")
    assert rows == [("2026-01-01", 1), ("2026-01-02", 1)]


def test_counters_are_plain_values(tmp_path: Path):
    """They can be shown as JSON before anything has started."""
    assert msgspec.to_builtins(Intake(tmp_path).counters)["messages"] == 0
