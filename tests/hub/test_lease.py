"""One process at a time does what a lease is for, whatever their clocks say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vedette.hub.detect.schema import Database
from vedette.hub.registry import lease
from vedette.hub.registry.lease import LEASE_S, Lease, Superseded, holdings


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(url: str, tmp_path: Path) -> Iterator[Database]:
    made = Database(f"{url}?key_file={tmp_path / 'key'}")
    yield made
    made.close()


def claimant(database: Database, clock: Clock) -> Lease:
    return Lease("work", database.read, database.write, clock=clock)


def test_one_holds_it_and_the_other_takes_over_when_the_first_falls_silent(database: Database):
    """A holder that renews keeps it for ever; one that is dead loses it, to a higher token."""
    clock = Clock()
    first, second = claimant(database, clock), claimant(database, clock)
    for _ in range(10):
        assert (first.claim(), second.claim()) == (True, False)
        clock.now += LEASE_S / 2
    second.claim()
    clock.now += LEASE_S + 1
    assert second.claim()
    assert (first.token, second.token) == (1, 2)
    assert not first.claim()


def test_what_is_given_back_is_taken_at_once(database: Database):
    """Nobody waits for the end of a lease whose holder has stopped."""
    clock = Clock()
    first, second = claimant(database, clock), claimant(database, clock)
    assert first.claim()
    first.release()
    assert second.claim()
    first.release()
    assert second.claim(), "only the holder can give it back"


def test_a_holder_that_lost_it_unnoticed_is_told_in_its_transaction(database: Database):
    """It slept, another took over, and what it then wants to store is refused."""
    slow, fast = Clock(), Clock()
    first, second = claimant(database, slow), claimant(database, fast)
    assert (first.claim(), second.claim()) == (True, False)
    fast.now += LEASE_S + 1
    assert second.claim()
    assert first.claim(), "by its own clock no time has passed"
    with pytest.raises(Superseded, match="another process"), database.write.begin() as session:
        first.check(session)
    with database.write.begin() as session:
        second.check(session)


def test_wall_clocks_that_jump_change_nothing(database: Database, monkeypatch: pytest.MonkeyPatch):
    """Neither a holder in the year 2106 nor one in 1970 is taken for alive or dead by what its clock says."""
    clock = Clock()
    first, second = claimant(database, clock), claimant(database, clock)
    for wall in (4_291_747_200.0, 0.0):
        monkeypatch.setattr(lease.time, "time", lambda wall=wall: wall)
        assert (first.claim(), second.claim()) == (True, False)
        clock.now += LEASE_S / 2
    clock.now += LEASE_S + 1
    assert second.claim()


def test_who_holds_what_can_be_seen(database: Database):
    """Host, process, token; nothing of what was given back."""
    held, given_back = claimant(database, Clock()), Lease("other", database.read, database.write)
    assert held.claim()
    assert given_back.claim()
    given_back.release()
    with database.read.begin() as session:
        [holding] = holdings(session)
    assert (holding.name, holding.holder, holding.token) == ("work", held.holder, 1)
