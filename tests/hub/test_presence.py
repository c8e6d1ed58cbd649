"""Hub processes on one registry notice each other's end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vedette.hub import presence
from vedette.hub.presence import MISSED, Presence
from vedette.hub.registry import Registry
from vedette.wire.iothub import Identity

DEVICE = Identity("pump")


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Iterator[Registry]:
    made = Registry(url, tmp_path / "registry.key")
    made.add(DEVICE)
    yield made
    made.close()


def entered(registry: Registry, name: str) -> Presence:
    made = Presence(registry, name, "gateway", lambda: None)
    made._enter()
    return made


def names(registry: Registry) -> list[str]:
    return [hub.name for hub in registry.hubs.list()]


def test_a_process_that_stands_still_is_cleaned_up_after(registry: Registry):
    """Its connections are free, those of the living are not; it learns of it when it goes on."""
    west, east = entered(registry, "west"), entered(registry, "east")
    registry.connections.hold("east", [DEVICE])
    for _ in range(MISSED):
        assert west.beat()
    assert names(registry) == ["east", "west"]
    assert west.beat()
    assert names(registry) == ["west"]
    assert registry.connections.holder(DEVICE) == ""
    assert not east.beat()
    assert names(registry) == ["east", "west"]
    assert east.beat()


def test_a_process_that_lives_is_left_alone(registry: Registry):
    """However long; also one that comes back just before its time."""
    west, east = entered(registry, "west"), entered(registry, "east")
    registry.connections.hold("east", [DEVICE])
    for look in range(3 * MISSED):
        if look % MISSED == 0:
            assert east.beat()
        assert west.beat()
    assert registry.connections.holder(DEVICE) == "east"


async def test_a_process_tells_when_it_was_forgotten(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """So that its gateway starts its connections anew; at its end it leaves by itself."""
    monkeypatch.setattr(presence, "BEAT_S", 0.01)
    forgotten = []
    west = Presence(registry, "west", "all", lambda: forgotten.append(names(registry)))
    await west.start()
    registry.hubs.leave("west")
    while not forgotten:
        await presence.asyncio.sleep(0.01)
    assert forgotten == [["west"]]
    await west.close()
    assert names(registry) == []
