"""What was desired before, and what people keep under a name, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import sessionmaker

from vedette.hub.registry import Registry, RegistryError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.fleet import TwinChange
from vedette.hub.registry.history import VERSIONS_KEPT, History
from vedette.hub.registry.schema import open_engine
from vedette.hub.registry.shelf import Group, SavedQuery, Shelf
from vedette.wire.iothub import Identity

DEVICE = Identity("pump")


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Iterator[Registry]:
    made = Registry(url, tmp_path / "registry.key")
    made.add(DEVICE)
    yield made
    made.close()


@pytest.fixture
def reading(registry: Registry, url: str, tmp_path: Path) -> Iterator[sessionmaker]:
    engine = open_engine(url, tmp_path / "registry.key")
    yield sessionmaker(engine)
    engine.dispose()


def test_every_way_of_writing_desired_properties_is_kept_with_who_it_was(
    registry: Registry, reading: sessionmaker
):
    """A patch, a merge and a replacement; what a device reports is none of it."""
    with acting_as("user:ana"):
        registry.patch_desired(DEVICE, {"a": 1})
    with acting_as("token:backup"):
        registry.fleet.patch_twin(DEVICE, TwinChange(desired={"b": {"c": 2}}))
    registry.fleet.replace_twin(DEVICE, TwinChange(desired={"d": 3}))
    registry.fleet.patch_twin(DEVICE, TwinChange(tags={"site": "north"}))
    registry.patch_reported(DEVICE, {"a": 9})
    kept = History(reading).versions(DEVICE)
    assert [(one.version, one.actor, one.desired) for one in kept] == [
        (4, "hub", {"d": 3}),
        (3, "token:backup", {"a": 1, "b": {"c": 2}}),
        (2, "user:ana", {"a": 1}),
    ]


def test_the_oldest_versions_go(registry: Registry, reading: sessionmaker):
    """So that a program that writes every minute fills no disk."""
    for number in range(VERSIONS_KEPT + 5):
        registry.patch_desired(DEVICE, {"number": number})
    kept = History(reading).versions(DEVICE)
    assert len(kept) == VERSIONS_KEPT
    assert kept[0].desired == {"number": VERSIONS_KEPT + 4}


def test_a_device_that_goes_takes_its_history_along(registry: Registry, reading: sessionmaker):
    """One that comes later by its name begins anew."""
    registry.patch_desired(DEVICE, {"a": 1})
    registry.remove(DEVICE)
    registry.add(DEVICE)
    assert History(reading).versions(DEVICE) == []
    registry.patch_desired(DEVICE, {"b": 1})
    assert [one.desired for one in History(reading).versions(DEVICE)] == [{"b": 1}]


def test_groups_are_kept_replaced_and_dropped(registry: Registry, reading: sessionmaker):
    """By name; the condition has to be one."""
    shelf = Shelf(reading, reading)
    shelf.keep_group(Group("North", "tags.site = 'north'", "ana"))
    shelf.keep_group(Group("North", "tags.site = 'n'", "ana"))
    assert shelf.groups() == [Group("North", "tags.site = 'n'", "ana")]
    for wrong in ("tags.site =", "tags.site = 'x' GROUP BY tags.site", "1; DROP TABLE twins"):
        with pytest.raises(RegistryError, match="condition: query"):
            shelf.keep_group(Group("Wrong", wrong, "ana"))
    with pytest.raises(RegistryError, match="name:"):
        shelf.keep_group(Group(" ", "tags.site = 'n'", "ana"))
    shelf.drop_group("North")
    assert shelf.groups() == []


def test_saved_questions_are_ones_own_unless_shared(registry: Registry, reading: sessionmaker):
    """One's own first; names are each person's own."""
    shelf = Shelf(reading, reading)
    shelf.keep_query(SavedQuery("ana", "Mine", "kql", "Process | take 1"))
    shelf.keep_query(SavedQuery("bob", "Mine", "sql", "SELECT 1", shared=True))
    shelf.keep_query(SavedQuery("bob", "Secret", "sql", "SELECT 2"))
    assert [(one.owner, one.name) for one in shelf.queries("ana")] == [("ana", "Mine"), ("bob", "Mine")]
    assert {one.name for one in shelf.queries("bob")} == {"Mine", "Secret"}
    shelf.drop_query("bob", "Mine")
    assert [(one.owner, one.name) for one in shelf.queries("ana")] == [("ana", "Mine")]
    with pytest.raises(RegistryError, match="query:"):
        shelf.keep_query(SavedQuery("ana", "Empty", "kql", "  "))
