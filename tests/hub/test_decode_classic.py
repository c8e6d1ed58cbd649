"""The classic agent's envelope: events in the raw table as they were sent, and beside ours where they fit."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake_support import dead, intake, message, sql

from vedette.hub.decode import Decoded, decode
from vedette.hub.decode.classic import EVENTS
from vedette.hub.intake import Inbound, rows_of
from vedette.wire.iothub import Identity
from vedette.wire.message import INTERFACE_ID, MessageError

PROPERTIES = {"$.ifid": INTERFACE_ID, "$.ce": "application/json"}
AGGREGATED = {
    "StartTimeUtc": "2020-05-01T10:00:00Z",
    "EndTimeUtc": "2020-05-01T11:00:00.1234567Z",
    "StartTimeLocal": "2020-05-01T12:00:00+02:00",
    "EndTimeLocal": "2020-05-01T13:00:00+02:00",
}
PROCESS = {
    "Executable": "/bin/ls",
    "ProcessId": 4711,
    "ParentProcessId": 1,
    "UserId": "1000",
    "UserName": "pi",
    "CommandLine": "ls -l",
}
CONNECTION = {
    "RemoteAddress": "192.0.2.7",
    "RemotePort": "443",
    "LocalAddress": "10.0.0.2",
    "LocalPort": "49152",
    "Direction": "Out",
    "Protocol": "tcp",
    "ProcessId": 4711,
    "UserId": "0",
    "Executable": "/usr/bin/curl",
    "CommandLine": "curl",
}


def event(name: str, *items: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "EventType": "Security",
        "Category": "Triggered",
        "Name": name,
        "IsEmpty": not items,
        "PayloadSchemaVersion": "1.0",
        "Id": "11111111-2222-3333-4444-555555555555",
        "TimestampLocal": "2020-05-01T13:00:01+02:00",
        "TimestampUTC": "2020-05-01T11:00:01Z",
        "Payload": list(items),
    } | changed


def envelope(*events: dict[str, Any], **changed: Any) -> bytes:
    return json.dumps(
        {
            "AgentVersion": "0.0.7",
            "AgentId": "99999999-2222-3333-4444-555555555555",
            "MessageSchemaVersion": "1.0",
            "Events": list(events),
        }
        | changed
    ).encode()


def read(*events: dict[str, Any]) -> Decoded:
    return decode(PROPERTIES, envelope(*events))


def reason(*events: dict[str, Any]) -> str:
    [unreadable] = read(*events).unreadable
    return unreadable.reason


def test_an_item_keeps_the_keys_that_the_agent_gave_it():
    """Queries written for that agent find its fields under their names, values as they were sent."""
    [row] = rows_of(
        Inbound(Identity("d1"), PROPERTIES, envelope(event("ConnectionCreate", CONNECTION)), 0.0), ""
    ).events
    details = json.loads(row.EventDetails)
    assert (row.AgentVersion, row.RawEventName, row.RawEventType) == ("0.0.7", "ConnectionCreate", "Security")
    assert {key: details[key] for key in CONNECTION} == CONNECTION
    assert list(details)[:5] == ["MessageSource", "OriginalEventId", "EventId", "HitCount", "TimestampUTC"]
    assert row.TimeStamp == row.WindowStart == row.WindowEnd


@pytest.mark.parametrize("hits", [5, "5"])
def test_an_aggregated_event_has_its_window_and_its_hit_count(hits):
    """The C agent writes the count as a number, the C# agent as text."""
    [reading] = read(
        event("ProcessCreate", PROCESS | {"ExtraDetails": AGGREGATED | {"HitCount": hits}})
    ).readings
    assert reading.hits == 5
    assert reading.window_start.isoformat() == "2020-05-01T10:00:00+00:00"
    assert reading.window_end.isoformat() == "2020-05-01T11:00:00.123456+00:00"
    assert reading.first_seen.isoformat() == "2020-05-01T11:00:01+00:00"
    assert reading.facts["ExtraDetails"]["HitCount"] == hits


@pytest.mark.parametrize(
    ("name", "item", "zeroed"),
    [
        ("ProcessCreate", PROCESS, {"ProcessId", "ParentProcessId"}),
        ("ConnectionCreate", CONNECTION, {"ProcessId", "LocalPort"}),
        ("ConnectionCreate", CONNECTION | {"Direction": "In"}, {"ProcessId", "RemotePort"}),
        ("ProcessTerminate", {"Executable": "/bin/ls", "ExitStatus": 1}, {"ProcessId"}),
    ],
)
def test_what_aggregation_discards_appears_as_zero(name, item, zeroed):
    """Also where the agent left the field out; all other fields stay."""
    [single] = read(event(name, item)).readings
    [reading] = read(event(name, item | {"ExtraDetails": AGGREGATED | {"HitCount": 2}})).readings
    assert {key for key, value in reading.facts.items() if value == 0} == zeroed
    assert {key: item[key] for key in item.keys() - zeroed}.items() <= reading.facts.items()
    assert single.facts == item


def test_every_item_of_an_event_is_a_row_with_a_place_of_its_own():
    """Items are counted over the whole message."""
    ports = [{"Protocol": "tcp", "LocalAddress": "0.0.0.0", "LocalPort": str(port)} for port in (22, 80)]
    decoded = read(event("ListeningPorts", *ports, Category="Periodic"), event("ProcessCreate", PROCESS))
    assert [(r.index, r.name, r.category) for r in decoded.readings] == [
        (0, "ListeningPorts", "Periodic"),
        (1, "ListeningPorts", "Periodic"),
        (2, "ProcessCreate", "Triggered"),
    ]


def test_an_event_with_nothing_to_tell_is_a_row_that_says_so():
    """IsEmpty is set and there are no facts."""
    [reading] = read(event("ListeningPorts")).readings
    assert reading.empty
    assert reading.facts == {}


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_of_that_agent_is_taken(name):
    """With the fields that are known of it."""
    [reading] = read(event(name, dict.fromkeys(EVENTS[name], "1"))).readings
    assert reading.name == name


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (event("Nonsense"), "Name: unknown event 'Nonsense'"),
        (event("ProcessCreate", PROCESS | {"Extra": 1}), "Payload of ProcessCreate: unknown field 'Extra'"),
        (event("ProcessCreate", PROCESS, Surprise=1), "classic event: .*Surprise"),
        (event("ProcessCreate", PROCESS, TimestampUTC="noon"), "TimestampUTC: 'noon' is not ISO 8601"),
        (event("ProcessCreate", PROCESS, Category="Sometimes"), r"classic event: .*\$\.Category"),
        (event("ProcessCreate", PROCESS | {"ExtraDetails": []}), "ExtraDetails: not an object"),
        (
            event("ProcessCreate", PROCESS | {"ExtraDetails": {"HitCount": "many"}}),
            "ExtraDetails.HitCount: 'many' is not a count",
        ),
        (event("ProcessCreate", PROCESS | {"ExtraDetails": {"HitCount": 2**63}}), "ExtraDetails.HitCount"),
        (event("ProcessCreate", PROCESS | {"ExtraDetails": {"StartTimeUtc": 1}}), "StartTimeUtc: '1'"),
    ],
)
def test_an_unreadable_event_names_the_field_and_leaves_the_others(wrong, expected):
    """Keys beyond the schema are invalid in it."""
    decoded = read(event("ProcessCreate", PROCESS), wrong)
    assert [reading.name for reading in decoded.readings] == ["ProcessCreate"]
    [unreadable] = decoded.unreadable
    assert unreadable.index == 1
    assert json.loads(unreadable.body) == wrong
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(unreadable.reason)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (envelope(MessageSchemaVersion="2.0"), "classic envelope: .*MessageSchemaVersion"),
        (envelope(Surprise=1), "classic envelope: .*Surprise"),
        (b'{"Events": []}', "classic envelope: .*AgentVersion"),
    ],
)
def test_a_wrong_envelope_is_named(body, expected):
    """One of the envelope's own keys is enough to be taken for one."""
    with pytest.raises(MessageError, match=expected):
        decode(PROPERTIES, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([*event(""), *PROCESS, "ExtraDetails", "HitCount", "StartTimeUtc"]), JSON)
def test_no_value_in_any_field_does_more_than_make_a_dead_letter(field: str, value: Any):
    """Each field in turn holds anything that JSON can say."""
    item = PROCESS | {"ExtraDetails": AGGREGATED | {"HitCount": 2}}
    entry = event("ProcessCreate", item)
    for part in (entry, item, item["ExtraDetails"]):
        if field in part:
            part[field] = value  # type: ignore[index]
    rows = rows_of(Inbound(Identity("d1"), PROPERTIES, envelope(entry), 0.0), "")
    assert rows.events or rows.dead is not None


def test_deep_nesting_is_a_dead_letter():
    """In an item whose keys are not declared anything may stand, up to what can be parsed."""
    deep = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    body = envelope(event("Login", {"x": 1})).replace(b'{"x": 1}', deep)
    rows = rows_of(Inbound(Identity("d1"), PROPERTIES, body, 0.0), "")
    assert rows.dead is not None


async def test_three_generations_fill_the_same_tables(tmp_path):
    """Ours and the classic agent's stand beside each other; the classic names are tables, too."""
    aggregated = PROCESS | {"ExtraDetails": AGGREGATED | {"HitCount": "3"}}
    body = envelope(
        event("ProcessCreate", aggregated),
        event("ProcessTerminate", {"Executable": "/bin/ls", "ProcessId": 9, "ExitStatus": 2}),
        event("ConnectionCreate", CONNECTION),
        event("ListeningPorts", {"Protocol": "tcp", "LocalAddress": "0.0.0.0", "LocalPort": "22"}),
        event("OSBaseline", {"CceId": "C1", "Result": "FAIL", "Severity": "Critical", "Description": "d"}),
        event("SystemInformation", {"OSName": "Ubuntu", "OSVersion": "18.04", "OsArchitecture": "armv7l"}),
    )
    async with intake(tmp_path) as hub:
        await hub.submit(message("id", device="new"))
        await hub.submit(Inbound(Identity("old"), PROPERTIES, body, time.time()))
        assert (hub.counters.events, hub.counters.dead_letters) == (7, 0)
    assert dead(tmp_path) == []
    columns = "DeviceId, EventType, Commandline, UserId, ProcessId, HitCount"
    assert sql(tmp_path, f"SELECT {columns} FROM Process ORDER BY DeviceId, EventType") == [
        ("new", "EXEC", "id", 0, 7, 1),
        ("old", "EXEC", "ls -l", 1000, 0, 3),
        ("old", "EXIT", None, None, 9, 1),
    ]
    assert sql(tmp_path, "SELECT Executable, ExitStatus FROM Process WHERE EventType = 'EXIT'") == [
        ("/bin/ls", 2)
    ]
    assert sql(tmp_path, "SELECT ExitStatus FROM ProcessTerminate") == [(2,)]
    assert sql(tmp_path, "SELECT CommandLine, ParentProcessId, WindowStart::VARCHAR FROM ProcessCreate") == [
        ("ls -l", 0, "2020-05-01 10:00:00")
    ]
    assert sql(tmp_path, "SELECT RemotePort, Commandline FROM NetworkActivity") == [(443, "curl")]
    assert sql(tmp_path, "SELECT Direction, LocalPort FROM ConnectionCreate") == [("Out", 49152)]
    assert sql(tmp_path, "SELECT BaselineCheckId, BaselineCheckResult FROM Baseline") == [("C1", "FAIL")]
    assert sql(tmp_path, "SELECT OsDist, OsArch FROM SystemInformation") == [("Ubuntu", "armv7l")]
    [(ports,)] = sql(tmp_path, "SELECT Ports FROM ListeningPorts")
    assert json.loads(str(ports)) == [{"Protocol": "tcp", "LocalAddress": "0.0.0.0", "LocalPort": "22"}]
