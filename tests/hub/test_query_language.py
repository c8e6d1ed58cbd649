"""The query language: what it selects, and what it says of text that is none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.hub.registry.query import MAX_CHARACTERS, MAX_NESTING, QueryError, parse

TWIN = {
    "deviceId": "pump",
    "status": "enabled",
    "tags": {"site": "no'rth", "floor": 3, "odd key": 1, "none": None},
    "properties": {"reported": {"ok": True, "$version": 2}, "desired": {}},
}


@pytest.mark.parametrize(
    "condition",
    [
        "tags.site = 'no''rth'",
        r"tags.site = 'no\'rth'",
        'tags.site = "no\'rth"',
        "tags.floor = 3.0",
        "tags.floor >= 3 AND tags.floor < 4",
        "tags.floor <> 4 and not tags.floor != 3",
        "tags['odd key'] = 1",
        "tags.none = null",
        "properties.reported.ok = true",
        "properties.reported.$version > 1",
        "deviceId IN ['a', 'pump']",
        "deviceId IN ('a', 'pump')",
        "deviceId NIN ['a']",
        "IS_DEFINED(tags.floor) AND NOT is_defined(tags.roof)",
        "STARTS_WITH(deviceId, 'pu')",
        "(tags.floor = 1 OR tags.floor = 3) AND status = 'enabled'",
        "tags.floor = 3 OR tags.floor = 1 AND status = 'x'",
        "tags.floor != '3'",
    ],
)
def test_conditions_that_hold(condition: str):
    """Both kinds of quotes, numbers by value, AND before OR, keywords in any case."""
    assert parse(f"SELECT * FROM devices WHERE {condition}").where(TWIN)


@pytest.mark.parametrize(
    "condition",
    [
        "tags.floor = '3'",
        "tags.floor > '1'",
        "properties.reported.ok = 1",
        "properties.reported.ok > false",
        "tags.roof != 3",
        "tags.roof NIN [3]",
        "tags.site.x = 1",
        "tags = null",
        "STARTS_WITH(tags.floor, '3')",
    ],
)
def test_conditions_that_do_not_hold(condition: str):
    """What is undefined, or of another type, is not equal, not less, not different."""
    assert not parse(f"SELECT * FROM devices WHERE {condition}").where(TWIN)


def test_what_is_selected():
    """Everything, or paths under their own or a given name; what is undefined is left out."""
    assert parse("SELECT * FROM devices").row(TWIN) == TWIN
    chosen = parse("SELECT deviceId, tags.site AS place, tags.roof FROM devices")
    assert chosen.row(TWIN) == {"deviceId": "pump", "place": "no'rth"}
    assert parse("SELECT TOP 5 * FROM devices.modules").top == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "SELECT expected instead of 'the end' (character 1)"),
        ("DELETE FROM devices", "SELECT expected"),
        ("SELECT * FROM jobs", "FROM devices"),
        ("SELECT * FROM devices WHERE", "a name expected"),
        ("SELECT * FROM devices WHERE tags.x", "a comparison expected"),
        ("SELECT * FROM devices WHERE tags.x = y", "a value expected instead of 'y' (character 38)"),
        ("SELECT * FROM devices WHERE tags['a\"b'] = 1", "in keys are not known (character 34)"),
        ("SELECT * FROM devices WHERE tags.x = 1e999", "a number of 64 bits"),
        ("SELECT * FROM devices WHERE tags.x = " + "9" * 400, "a number of 64 bits"),
        ("SELECT * FROM devices WHERE lastActivityTime > 'noon'", "'noon' is no time (ISO 8601)"),
        ("SELECT * FROM devices WHERE UPPER(tags.x) = 1", "are known (character 29)"),
        ("SELECT * FROM devices WHERE tags.x = 'open", "is not understood (character 38)"),
        ("SELECT * FROM devices LIMIT 5", "the end expected"),
        ("SELECT TOP 0 * FROM devices", "a number of rows"),
        ("SELECT status FROM devices GROUP BY status", "GROUP BY needs COUNT"),
        ("SELECT deviceId, COUNT() FROM devices", "only the GROUP BY path"),
        ("SELECT * FROM devices WHERE " + "(" * (MAX_NESTING + 1), "nested deeper"),
        ("SELECT * FROM devices" + " " * MAX_CHARACTERS, "longer than"),
    ],
)
def test_what_is_no_query_is_said(text: str, expected: str):
    """What was expected, and what stood there."""
    with pytest.raises(QueryError, match="query: ") as caught:
        parse(text)
    assert expected in str(caught.value)


words = st.sampled_from(
    [
        "SELECT",
        "*",
        "FROM",
        "devices",
        "WHERE",
        "tags.a",
        "=",
        "'x'",
        "AND",
        "(",
        ")",
        "NOT",
        "1",
        "COUNT()",
        "IN",
    ]
)


@given(st.one_of(st.text(), st.lists(words).map(" ".join)))
def test_any_text_is_a_query_or_an_error(text: str):
    """Never anything else; and what parses can be asked of any twin."""
    try:
        query = parse(text)
    except QueryError:
        return
    documents: list[dict[str, Any]] = [TWIN, {}]
    for document in documents:
        query.where(document)
        query.row(document)
