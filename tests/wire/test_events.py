"""Declarations of events: everything that is derived from them must be derivable, and honest."""

import json
import re
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.wire.events import (
    COMMON_DETAILS,
    EVENT_TYPES,
    Category,
    Event,
    Kind,
    Payload,
    Process,
    event_type,
    pascal,
    type_of,
    utc_text,
)

EVERY = pytest.mark.parametrize("declared", EVENT_TYPES.values(), ids=lambda declared: declared.name)


@EVERY
def test_every_declaration_is_consistent(declared):
    """Identity and sums are fields; the declaration is found by its payload; details have the common keys."""
    fields = set(declared.payload.__struct_fields__)
    assert set(declared.identity) | set(declared.sums) <= fields
    assert not set(declared.identity) & set(declared.sums)
    assert type_of(declared.payload) is declared
    assert set(declared.details) >= {*COMMON_DETAILS, *map(pascal, fields)} - {"EventId"}
    if declared.name != "NetworkActivity":  # its order is older than this rule
        assert declared.details[: len(COMMON_DETAILS)] == COMMON_DETAILS
    assert len(set(declared.details)) == len(declared.details)
    assert declared.table == declared.name


@EVERY
def test_every_payload_can_be_a_schema(declared):
    """The documentation of the format and its checks come from one declaration."""
    schema = json.loads(json.dumps(msgspec.json.schema(declared.payload)))
    properties = schema["$defs"][declared.payload.__name__]["properties"]
    assert list(properties) == [info.encode_name for info in msgspec.structs.fields(declared.payload)]


@EVERY
def test_payloads_cannot_be_changed_after_the_fact(declared):
    """Values between stages are frozen."""
    assert declared.payload.__struct_config__.frozen


def test_the_process_event_of_the_documented_agent():
    """Identity is type, command line and user; the keys of EventDetails are those that queries know."""
    declared = EVENT_TYPES["Process"]
    assert declared.identity == ("event_type", "commandline", "user_id")
    assert (declared.category, declared.kind) == (Category.TRIGGERED, Kind.SECURITY)
    assert set(declared.details) >= {
        *("MessageSource", "OriginalEventId", "EventId", "HitCount", "TimestampUTC", "EventType"),
        *("ProcessId", "ParentProcessId", "Commandline", "Executable", "UserName", "UserId"),
    }
    one = Process(event_type="EXEC", process_id=1, parent_process_id=2, commandline="ls", user_id=3)
    other = msgspec.structs.replace(one, process_id=9, parent_process_id=9, executable="/bin/ls")
    assert declared.key(one) == declared.key(other) == ("EXEC", "ls", 3)


def test_a_contradicting_declaration_is_refused():
    """A name that is taken, a field that does not exist: said when the module is loaded."""

    class Fact(Payload, frozen=True, kw_only=True):
        """A payload."""

        size: int

    with pytest.raises(ValueError, match="Process is declared twice"):
        event_type("Process", category=Category.TRIGGERED)(Fact)
    for wrong in ({"identity": ("colour",)}, {"sums": ("colour",)}):
        with pytest.raises(ValueError, match="Fact has no field colour"):
            event_type("Fact", category=Category.TRIGGERED, **wrong)(Fact)
    assert "Fact" not in EVENT_TYPES


def test_an_event_is_one_observation_unless_said_otherwise():
    """The hit count begins at one."""
    assert (
        Event(
            Process(event_type="EXEC", process_id=1, parent_process_id=1, commandline="", user_id=0), 0.0
        ).hits
        == 1
    )


def test_keys_are_spelled_as_queries_expect():
    """Each word with a capital; UTC all in capitals."""
    assert [pascal(name) for name in ("commandline", "parent_process_id", "timestamp_utc")] == [
        "Commandline",
        "ParentProcessId",
        "TimestampUTC",
    ]


@given(st.floats(0, 32_503_680_000))
def test_times_are_utc_with_milliseconds(seconds):
    """ISO 8601 with `Z`, to the millisecond, and it reads back."""
    text = utc_text(seconds)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert abs(datetime.fromisoformat(text).astimezone(UTC).timestamp() - seconds) < 0.001
