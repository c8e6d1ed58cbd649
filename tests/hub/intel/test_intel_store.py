"""Lists in the registry's database, on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from vedette.hub.detect.schema import Database
from vedette.hub.intel import store
from vedette.hub.intel.indicators import Indicator, Refused, indicator
from vedette.hub.intel.schema import IntelPartRow
from vedette.hub.intel.store import Intel, IntelError
from vedette.hub.intel.watch import EXPIRY_PERIOD_S, Watched
from vedette.hub.registry import Registry

NOW = 1_767_614_400.0


@pytest.fixture
def database(url: str, tmp_path: Path) -> Iterator[Database]:
    located = f"{url}?key_file={tmp_path / 'registry.key'}"
    Registry(located).close()
    made = Database(located)
    yield made
    made.close()


def parts(database: Database) -> int:
    with database.read.begin() as session:
        return session.scalar(select(func.count()).select_from(IntelPartRow)) or 0


def test_an_import_replaces_its_list_and_leaves_others(database: Database, monkeypatch: pytest.MonkeyPatch):
    """Twice the same is the same; what was refused is counted; no part of the old list stays behind."""
    monkeypatch.setattr(store, "PART_ENTRIES", 2)
    intel = Intel(database)
    first = [indicator(f"203.0.113.{n}", confidence=n, expires=NOW + n, note="seen") for n in range(5)]
    for _ in range(2):
        made = intel.put_indicators("a", "a.txt", [*first, first[0], Refused("no"), Refused("no")])
        assert (made.entries, made.refused) == (5, {"no": 2, "listed twice": 1})
    assert parts(database) == 3
    intel.put_indicators("b", "b.txt", [indicator("bad.example")])
    assert [one.name for one in intel.lists()] == ["a", "b"]
    assert [one for _, one in intel.indicators("a")] == first
    intel.put_indicators("a", "a.txt", [indicator("203.0.113.9")])
    assert [(name, one.value) for name, one in intel.indicators()] == [
        ("a", "203.0.113.9"),
        ("b", "bad.example"),
    ]
    intel.remove("a")
    assert parts(database) == 1
    with pytest.raises(IntelError, match="no such list"):
        intel.remove("a")


def test_an_import_that_fails_changes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch):
    """Nor does one that holds nothing: a feed that came empty must not disarm the rules."""
    monkeypatch.setattr(store, "PART_ENTRIES", 1)
    intel = Intel(database)
    intel.put_indicators("a", "a.txt", [indicator("bad.example")])

    def broken() -> Iterator[Indicator]:
        yield indicator("other.example")
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        intel.put_indicators("a", "a.txt", broken())
    with pytest.raises(IntelError, match=r"a.txt: nothing to import: no \(1\)"):
        intel.put_indicators("a", "a.txt", [Refused("no")])
    assert [one.value for _, one in intel.indicators()] == ["bad.example"]
    assert parts(database) == 1


def test_a_list_has_room_for_so_many(database: Database, monkeypatch: pytest.MonkeyPatch):
    """What is beyond is counted."""
    monkeypatch.setattr(store, "MAX_INDICATORS", 2)
    made = Intel(database).put_indicators("a", "a", (indicator(f"203.0.113.{n}") for n in range(5)))
    assert (made.entries, made.refused) == (2, {"beyond the first 2": 3})


def test_a_value_is_found_with_its_list_and_what_is_said_of_it(database: Database):
    """By the indicators that cover it, expired ones included."""
    intel = Intel(database)
    intel.put_indicators("a", "a", [indicator("203.0.113.0/24", confidence=70), indicator("bad.example")])
    intel.put_indicators("b", "b", [indicator("203.0.113.66", expires=1.0, note="old")])
    hits = intel.check("203.0.113.66")
    assert [(hit.list, hit.indicator.value, hit.indicator.confidence) for hit in hits] == [
        ("a", "203.0.113.0/24", 70),
        ("b", "203.0.113.66", None),
    ]
    assert [hit.indicator.value for hit in intel.check("http://x.bad.example/y")] == ["bad.example"]
    assert intel.check("good.example") == []
    with pytest.raises(IntelError, match="no address, name, URL or hash"):
        intel.check("what?")


def test_the_lookup_follows_imports_and_expiry(database: Database):
    """It is made anew only when a list changed, or when something has expired."""
    intel, watched = Intel(database), Watched()

    def look(now: float) -> tuple[bool, bool]:
        with database.read.begin() as session:
            return watched.refresh(session, now), watched.lookup.name("bad.example")

    assert look(NOW) == (False, False)
    intel.put_indicators("a", "a", [indicator("bad.example", expires=NOW + 10), indicator("b.example")])
    assert look(NOW) == (True, True)
    assert look(NOW + 5) == (False, True)
    assert look(NOW + EXPIRY_PERIOD_S) == (True, False)
    intel.put_indicators("b", "b", [indicator("bad.example")])
    assert look(NOW + EXPIRY_PERIOD_S) == (True, True)
    intel.remove("b")
    assert look(NOW + EXPIRY_PERIOD_S) == (True, False)
