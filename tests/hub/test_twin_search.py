"""Twin queries by the database: the same answers as of one twin after the other, on SQLite and PostgreSQL."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from vedette.hub.api.documents import twin_document
from vedette.hub.registry import Draft, Registry, TwinChange, patience
from vedette.hub.registry.conditions import (
    UNDEFINED,
    All,
    Among,
    Compare,
    Condition,
    Defined,
    Not,
    Some,
    Starts,
    holds,
    lookup,
)
from vedette.hub.registry.profiles import ProfileRow
from vedette.hub.registry.query import QueryError, parse
from vedette.hub.registry.schema import IdentityRow, TwinRow
from vedette.hub.registry.times import NEVER, time_text
from vedette.wire.iothub import Identity

DEVICES = [Identity(name) for name in ("a", "b", "c", "d")]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-(2**53), 2**53),
    st.floats(-1e6, 1e6).map(lambda number: round(number, 3)),
    st.sampled_from(
        ["", "x", "y", "X", "\u00e9", "\U0001f9ca", "\uffff", "1", "true", "null", 'q"\\/', "\n\t"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4),
)
keys = st.sampled_from(["a", "b", "1", "a-b", "\u00e9", "$x"])
objects = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda below: st.one_of(st.lists(below, max_size=2), st.dictionaries(keys, below, max_size=2)),
        max_leaves=4,
    ),
    max_size=3,
)
instants = st.one_of(st.none(), st.integers(1, 2_000_000_000_000).map(lambda ms: ms / 1_000))


class Twins(msgspec.Struct):
    """What the fleet is made to be, a device each."""

    tags: dict[str, Any]
    desired: dict[str, Any]
    reported: dict[str, Any]
    enabled: bool
    seen: float | None
    reason: str


fleets = st.lists(
    st.builds(Twins, objects, objects, objects, st.booleans(), instants, st.sampled_from(["", "x"])),
    min_size=len(DEVICES),
    max_size=len(DEVICES),
)
paths = st.one_of(
    st.tuples(st.sampled_from(["tags"]), keys),
    st.tuples(st.sampled_from(["tags"]), keys, keys),
    st.tuples(st.just("properties"), st.sampled_from(["desired", "reported"]), keys),
    st.sampled_from(
        [
            *[("deviceId",), ("moduleId",), ("status",), ("statusReason",), ("version",), ("etag",)],
            *[("tags",), ("properties",), ("nothing",), ("modelId",), ("capabilities", "iotEdge")],
            *[("properties", "desired", "$version"), ("x509Thumbprint", "primaryThumbprint")],
            *[("cloudToDeviceMessageCount",), ("authenticationType",), ("connectionState",)],
        ]
    ),
)
wanted = st.one_of(scalars, st.sampled_from(["a", "enabled", "sas", "t1d1", "Disconnected", 1]))
signs = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
leaves = st.one_of(
    st.builds(Compare, paths, signs, wanted),
    st.builds(Among, paths, st.lists(wanted, min_size=1, max_size=4).map(tuple)),
    st.builds(Defined, paths),
    st.builds(Starts, paths, st.text(max_size=2)),
    st.builds(
        Compare,
        st.just(("lastActivityTime",)),
        signs,
        instants.map(lambda at: NEVER if at is None else time_text(datetime.fromtimestamp(at, UTC))),
    ),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Some, st.lists(inner, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(url, tmp_path / "key")
    for identity in DEVICES:
        opened.fleet.create(Draft(identity), TwinChange(tags={}))
    yield opened
    opened.close()


def make(registry: Registry, fleet: list[Twins]) -> None:
    """Give the devices their twins, in one go."""
    with registry._write.begin() as session:
        for identity, twin in zip(DEVICES, fleet, strict=True):
            who = {"device_id": identity.device_id, "module_id": ""}
            record = {"enabled": twin.enabled, "last_activity": twin.seen}
            session.execute(update(IdentityRow).filter_by(**who).values(**record))
            sections = {"desired": _json(twin.desired), "reported": _json(twin.reported)}
            session.execute(update(TwinRow).filter_by(**who).values(**sections))
            profile = {"tags": _json(twin.tags), "status_reason": twin.reason}
            session.execute(update(ProfileRow).filter_by(**who).values(**profile))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
SOME, MANY = (settings(max_examples=number, suppress_health_check=CHECKS) for number in (15, 300))
ODD = Twins({"a": "true", "1": [1], "b": {"a": None}}, {"$x": 1}, {"a": 1.0}, True, None, "")


def compare(registry: Registry, fleet: list[Twins], condition: Condition) -> None:
    make(registry, fleet)
    documents = [twin_document(entry) for entry in registry.fleet.page(10)]
    expected = [document["deviceId"] for document in documents if holds(condition, document)]
    found = registry.fleet.page(10, condition=condition)
    assert [entry.device.identity.device_id for entry in found] == expected
    assert registry.fleet.groups((), condition=condition, limit=1).total() == len(expected)


@SOME
@given(fleets, conditions)
@example([ODD] * len(DEVICES), Compare(("tags", "a"), "=", True))
@example([ODD] * len(DEVICES), Defined(("tags", "1", "0")))
@example([ODD] * len(DEVICES), Not(Among(("properties", "reported", "a"), (1, None))))
def test_a_database_answers_as_a_plain_evaluation(
    registry: Registry, fleet: list[Twins], condition: Condition
):
    """Any condition, on any fleet."""
    compare(registry, fleet, condition)


@pytest.mark.slow
@pytest.mark.timeout(900)
@MANY
@given(fleets, conditions)
def test_a_database_answers_as_a_plain_evaluation_of_many(
    registry: Registry, fleet: list[Twins], condition: Condition
):
    """The same, with more patience."""
    compare(registry, fleet, condition)


@SOME
@given(fleets, paths)
def test_a_database_groups_as_a_plain_evaluation(
    registry: Registry, fleet: list[Twins], path: tuple[str, ...]
):
    """By the value at any path; what is no value is refused."""
    make(registry, fleet)
    values = [lookup(twin_document(entry), path) for entry in registry.fleet.page(10)]
    try:
        counted = registry.fleet.groups(path, limit=10)
    except QueryError:
        assert all(isinstance(value, dict) for value in values)
        return
    assert counted == Counter(_json(None if value is UNDEFINED else value) for value in values)


def test_groups_are_bounded(registry: Registry):
    """More than so many values are an error, not a part of the answer."""
    assert registry.fleet.groups(("deviceId",), limit=4) == {'"a"': 1, '"b"': 1, '"c"': 1, '"d"': 1}
    with pytest.raises(QueryError, match="more than 3 groups"):
        registry.fleet.groups(("deviceId",), limit=3)


def test_modules_have_ids_of_their_own(registry: Registry):
    """They are searched apart from devices."""
    registry.add(Identity("a", "agent"))
    condition = parse("SELECT * FROM devices.modules WHERE moduleId = 'agent' AND deviceId >= 'a'").condition
    (found,) = registry.fleet.page(10, modules=True, condition=condition)
    assert found.device.identity == Identity("a", "agent")
    assert not registry.fleet.page(10, condition=condition)


def test_a_search_that_takes_too_long_is_ended(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """With an error that says so; the next one is served."""
    long = Some(tuple(Starts(("tags", f"k{number}"), "x" * 99) for number in range(400)))
    make(registry, [ODD] * len(DEVICES))
    with monkeypatch.context() as changed:
        changed.setattr(patience, "SEARCH_S", 0.001)
        changed.setattr(patience, "STEPS", 1)
        with pytest.raises(QueryError, match="narrow it down"):
            registry.fleet.page(10, condition=long)
    assert registry.fleet.page(10, condition=long) == []


def test_a_long_list_is_one_condition(registry: Registry):
    """As many values as a query's text can hold."""
    values = ",".join(str(number) for number in range(1_000))
    condition = parse(f"SELECT * FROM devices WHERE tags.a IN [{values}]").condition
    make(registry, [Twins({"a": 7}, {}, {}, True, None, "")] * len(DEVICES))
    assert len(registry.fleet.page(10, condition=condition)) == len(DEVICES)
