"""When properties of a twin were changed: `$metadata` as services read it and search by it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.hub.api.documents import twin_document
from vedette.hub.registry import Draft, Registry, TwinChange
from vedette.hub.registry.metadata import shown, stamped
from vedette.hub.registry.query import parse
from vedette.wire.iothub import Identity

PUMP = Identity("pump")
FIRST, SECOND = {"$u": "t1", "$v": 1}, {"$u": "t2", "$v": 2}

leaves = st.one_of(
    st.booleans(), st.integers(0, 3), st.floats(0, 2), st.text(max_size=2), st.lists(st.none())
)
documents = st.recursive(
    st.dictionaries(st.sampled_from("abc"), leaves, max_size=3),
    lambda below: st.dictionaries(st.sampled_from("abc"), st.one_of(leaves, below), max_size=3),
    max_leaves=8,
)


def names(document: Any) -> Any:
    """The keys of a document, nested."""
    return {key: names(value) for key, value in document.items()} if isinstance(document, dict) else {}


def bare(stamps: dict[str, Any]) -> dict[str, Any]:
    """The keys of stamps, nested."""
    return {key: bare(value) for key, value in stamps.items() if key not in FIRST}


@given(documents, documents)
def test_stamps_have_the_form_of_what_they_tell_of(before: dict[str, Any], after: dict[str, Any]):
    """One at each level, whatever became of it; what stayed as it was keeps its own."""
    first = stamped({}, {}, before, FIRST)
    second = stamped(first, before, after, SECOND)
    assert (bare(first), bare(second)) == (names(before), names(after))
    assert stamped(first, before, before, SECOND) == {**first, **SECOND}


def test_a_change_is_stamped_at_its_place_and_on_the_way():
    """Not beside it."""
    before = {"a": {"b": 1, "c": 1}, "d": 1}
    first = stamped({}, {}, before, FIRST)
    second = stamped(first, before, {"a": {"b": 2, "c": 1}, "d": 1}, SECOND)
    assert second == {**SECOND, "a": {**SECOND, "b": SECOND, "c": FIRST}, "d": FIRST}
    assert shown(second)["a"]["b"] == {"$lastUpdated": "t2", "$lastUpdatedVersion": 2}


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(url, tmp_path / "key")
    opened.fleet.create(Draft(PUMP), TwinChange(desired={"interval": 5}))
    yield opened
    opened.close()


def metadata(registry: Registry, section: str) -> dict[str, Any]:
    found: dict[str, Any] = twin_document(registry.fleet.get(PUMP))["properties"][section]["$metadata"]
    return found


def test_twins_tell_when_they_were_changed(registry: Registry):
    """By whichever way; versions in the desired section alone; what goes has no stamp any more."""
    assert metadata(registry, "desired")["interval"]["$lastUpdatedVersion"] == 2
    registry.patch_desired(PUMP, {"mode": {"a": 1}})
    registry.patch_reported(PUMP, {"ok": True})
    desired, reported = metadata(registry, "desired"), metadata(registry, "reported")
    assert desired["$lastUpdatedVersion"] == desired["mode"]["a"]["$lastUpdatedVersion"] == 3
    assert desired["interval"]["$lastUpdatedVersion"] == 2
    assert desired["mode"]["$lastUpdated"] == desired["$lastUpdated"] >= desired["interval"]["$lastUpdated"]
    assert set(reported) == {"$lastUpdated", "ok"}
    assert set(reported["ok"]) == {"$lastUpdated"}
    registry.patch_desired(PUMP, {"mode": None})
    assert "mode" not in metadata(registry, "desired")


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("properties.desired.$metadata.interval.$lastUpdatedVersion = 2", True),
        ("properties.desired.$metadata.interval.$lastUpdated > '2020-01-01'", True),
        ("properties.reported.$metadata.$lastUpdated < '2020-01-01T00:00:00+02:00'", False),
        ("IS_DEFINED(properties.reported.$metadata.interval)", False),
        ("IS_DEFINED(properties.desired.$metadata)", True),
    ],
)
def test_twins_are_found_by_their_changes(registry: Registry, condition: str, holds: bool):
    """By the database as by a plain evaluation."""
    asked = parse(f"SELECT * FROM devices WHERE {condition}")
    assert asked.where(twin_document(registry.fleet.get(PUMP))) is holds
    assert bool(registry.fleet.page(1, condition=asked.condition)) is holds
