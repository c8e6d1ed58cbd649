"""Which gateway holds a connection, and calls from one gateway to another, on either database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from vedette.hub.registry import Registry, calls, connections
from vedette.hub.registry.calls import Call, CallsFull, Outcome
from vedette.hub.registry.connections import Holding
from vedette.hub.registry.schema import IdentityRow
from vedette.wire.iothub import Identity

DEVICE, MODULE = Identity("pump"), Identity("pump", "vedette")
CALL = Call(MODULE, "restart", b"{}", 5.0, 1.0)


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Iterator[Registry]:
    made = Registry(url, tmp_path / "registry.key")
    made.add(DEVICE)
    made.add(MODULE)
    yield made
    made.close()


def gateway_of(registry: Registry, identity: Identity) -> str:
    found = registry.get(identity)
    assert found is not None
    assert registry.connections.holder(identity) == found.gateway
    return found.gateway


def test_the_newest_connection_is_the_one_that_counts(registry: Registry):
    """Its number is larger than those before, and everybody reads who holds whom."""
    first = registry.connections.hold("west", [MODULE, DEVICE])
    second = registry.connections.hold("east", [MODULE])
    assert max(first.values()) < second[MODULE] == registry.connections.last()
    assert gateway_of(registry, MODULE) == "east"
    assert registry.connections.newer(0) == [
        Holding(first[DEVICE], DEVICE, "west"),
        Holding(second[MODULE], MODULE, "east"),
    ]
    assert registry.connections.newer(second[MODULE]) == []


def test_a_late_farewell_does_not_end_a_newer_connection(registry: Registry):
    """Neither one on another gateway, nor one that came back to the same."""
    for gateway in ("east", "west"):
        older = registry.connections.hold("west", [MODULE])[MODULE]
        newer = registry.connections.hold(gateway, [MODULE])[MODULE]
        registry.connections.leave([older])
        assert gateway_of(registry, MODULE) == gateway
        registry.connections.leave([newer])
        assert gateway_of(registry, MODULE) == ""


def test_numbers_are_never_given_twice(registry: Registry):
    """Not even when nobody is connected any more: a reader would miss the next connection."""
    number = registry.connections.hold("west", [MODULE])[MODULE]
    registry.connections.leave([number])
    assert registry.connections.hold("west", [MODULE])[MODULE] > number


def test_a_gateway_that_starts_anew_holds_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """What others hold is left alone."""
    monkeypatch.setattr(connections, "PAGE", 1)
    held = registry.connections.hold("west", [DEVICE, MODULE])
    assert len(registry.connections.newer(0)) == 1, "a page"
    registry.connections.hold("east", [MODULE])
    registry.connections.release("west")
    assert (gateway_of(registry, DEVICE), gateway_of(registry, MODULE)) == ("", "east")
    registry.connections.leave(held.values())
    assert gateway_of(registry, MODULE) == "east"


def test_a_mark_without_a_connection_is_taken_back(registry: Registry):
    """An earlier release left it."""
    registry.connections.hold("west", [DEVICE])
    with registry._write.begin() as session:
        session.execute(update(IdentityRow).values(gateway="an.older.release"))
    registry.connections.release("east")
    found = registry.get(MODULE)
    assert found is not None
    assert not found.connected
    assert registry.connections.holder(DEVICE) == "west"


def test_a_call_is_seen_by_its_gateway_and_answered_once(registry: Registry):
    """The answer is forgotten when the asker has it."""
    number = registry.calls.ask("east", CALL, 60)
    assert registry.calls.last() == number
    assert registry.calls.waiting("west", 0) == []
    assert registry.calls.waiting("east", 0) == [(number, CALL)]
    assert registry.calls.waiting("east", number) == []
    assert registry.calls.answers([number]) == {}
    outcome = Outcome("answered", "", 200, b'{"ok":true}')
    registry.calls.answer(number, outcome)
    assert registry.calls.answers([number]) == {number: outcome}
    assert registry.calls.answers([number]) == {}
    registry.calls.answer(number, outcome)  # nobody waits any more


def test_calls_under_way_are_bounded_and_expire(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """One that nobody waits for any more makes room."""
    monkeypatch.setattr(calls, "MAX_WAITING", 2)
    registry.calls.ask("east", CALL, 60)
    registry.calls.ask("east", CALL, 60)
    with pytest.raises(CallsFull, match="2 direct methods"):
        registry.calls.ask("east", CALL, 60)
    monkeypatch.setattr(calls, "MAX_WAITING", 3)
    registry.calls.ask("east", CALL, -1)
    registry.calls.ask("east", CALL, 60)
