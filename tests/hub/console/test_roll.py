"""Devices as a list: searched, filtered, sorted and paged by the database."""

from collections.abc import Iterator

import pytest

from vedette.hub.console.roll import Roll
from vedette.hub.detect.schema import Database
from vedette.hub.registry import Registry
from vedette.wire.iothub import Identity


@pytest.fixture
def registry(keyed_url: str) -> Iterator[Registry]:
    opened = Registry(keyed_url)
    yield opened
    opened.close()


@pytest.fixture
def roll(registry: Registry, keyed_url: str) -> Iterator[Roll]:
    database = Database(keyed_url)
    yield Roll(database.read)
    database.close()


def ids(found: tuple[object, int]) -> list[str]:
    return [entry.device_id for entry in found[0]]  # type: ignore[attr-defined]


def test_a_device_is_online_by_its_module_and_silent_after_it(registry: Registry, roll: Roll):
    """The agent connects as a module; the list shows devices."""
    for name in ("pump-1", "pump-2", "pump-3"):
        registry.add(Identity(name))
    module = Identity("pump-2", "vedette")
    registry.add(module)
    registry.record({module: 100.0})
    number = registry.connections.hold("gateway", [module])[module]
    assert ids(roll.page(state="online")) == ["pump-2"]
    assert ids(roll.page(state="never")) == ["pump-1", "pump-3"]
    registry.record({module: 200.0})
    registry.connections.leave([number])
    assert ids(roll.page(state="silent")) == ["pump-2"]
    totals = roll.totals()
    assert (totals.devices, totals.online, totals.silent, totals.never, totals.new) == (3, 0, 1, 2, 3)
    entries, _ = roll.page("pump-2")
    assert (entries[0].seen, entries[0].state) == (200.0, "silent")
    registry.set_enabled(Identity("pump-2"), False)
    assert roll.page("pump-2")[0][0].state == "disabled"


def test_pages_do_not_overlap_and_tell_the_whole_number(registry: Registry, roll: Roll):
    """Whatever is asked for, at most a page is read."""
    names = [f"d{i:03}" for i in range(25)]
    for name in names:
        registry.add(Identity(name))
    first, total = roll.page(limit=10)
    assert total == 25
    rest = [ids(roll.page(limit=10, offset=offset)) for offset in (10, 20, 30)]
    assert [e.device_id for e in first] + rest[0] + rest[1] == names
    assert rest[2] == []
    assert ids(roll.page(limit=3, descending=True)) == ["d024", "d023", "d022"]


def test_a_search_takes_its_text_literally_and_in_any_case(registry: Registry, roll: Roll):
    """Wildcards of the database, quotes and the like are just characters."""
    for name in ("Pump_1", "Pumpx1", "o'neil", "100%"):
        registry.add(Identity(name))
    assert ids(roll.page("pump_")) == ["Pump_1"]
    assert ids(roll.page("o'N")) == ["o'neil"]
    assert ids(roll.page("%")) == ["100%"]
    assert ids(roll.page("' OR 1=1 --")) == []
