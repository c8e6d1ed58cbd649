"""Statements of several tellers become one event each."""

import random

import msgspec
import pytest

from vedette.agent.sources.signin import (
    RECENT,
    SAME_PROCESS_S,
    SESSIONS,
    WINDOW_S,
    Merge,
    Operation,
    SignIn,
    address,
    terminal,
)

LOG = SignIn(
    operation=Operation.FAILED, teller="log", time=100.0, program="sshd", log=True, user="alice",
    remote="192.0.2.7", port=9, process_id=7,
)  # fmt: skip
RECORD = msgspec.structs.replace(LOG, teller="btmp", log=False, program="", port=0)


def told(*facts: SignIn) -> list[SignIn]:
    merge = Merge()
    for fact in facts:
        merge.add(fact)
    return merge.take()


def changed(fact: SignIn, **fields: object) -> SignIn:
    return msgspec.structs.replace(fact, **fields)


@pytest.mark.parametrize("seed", range(20))
def test_as_many_events_as_the_more_talkative_teller_tells(seed: int):
    """Attempts of few processes within seconds, all in the log, some in the records too: none is doubled."""
    chance = random.Random(seed)
    log = [changed(LOG, time=100 + chance.random() * 30, process_id=chance.randint(1, 5)) for _ in range(40)]
    records = [changed(RECORD, time=fact.time + 0.2, process_id=fact.process_id) for fact in log]
    facts = sorted([*log, *chance.sample(records, 25)], key=lambda fact: fact.time)
    assert len(told(*facts)) == 40


@pytest.mark.parametrize(
    "other",
    [
        changed(RECORD, user="bob"),
        changed(RECORD, remote="192.0.2.8"),
        changed(RECORD, process_id=8, remote=""),
        changed(RECORD, time=LOG.time + SAME_PROCESS_S + 1),
        changed(RECORD, process_id=8, time=LOG.time + WINDOW_S + 1),
        changed(RECORD, program="login"),
        changed(LOG),
    ],
)
def test_what_does_not_fit_together_is_two_events(other: SignIn):
    """Another user, address, process, time or program; or the same teller speaking again."""
    assert len(told(LOG, other)) == 2


def test_each_field_is_from_who_knows_it_best():
    """Process and address from the log, the terminal from the record, the whole name, the earliest time."""
    login = changed(LOG, operation=Operation.LOGIN, user="a" * 40)
    record = changed(
        RECORD, operation=Operation.LOGIN, user="a" * 32, terminal="pts/1", process_id=8, time=99.0
    )
    for facts in ((login, record), (record, login)):
        (event,) = told(*facts)
        assert (event.user, event.terminal, event.remote, event.process_id, event.time) == (
            "a" * 40, "pts/1", "192.0.2.7", 7, 99.0,
        )  # fmt: skip


def test_what_was_taken_is_not_told_again():
    """A statement that comes after its event has gone still finds it."""
    merge = Merge()
    merge.add(LOG)
    assert merge.settle(LOG.time + WINDOW_S) == []
    assert merge.take() == [LOG]
    merge.add(RECORD)
    assert merge.take() == []


def test_memory_is_bounded():
    """Events in waiting and open sessions, whatever comes; nothing is lost of the former."""
    merge = Merge()
    for number in range(RECENT + 100):
        merge.add(changed(LOG, process_id=number))
    assert len(merge.settle(LOG.time)) == 100
    for number in range(SESSIONS + 100):
        merge.add(changed(LOG, operation=Operation.LOGIN, process_id=number))
    assert len(merge.sessions()) == SESSIONS


def test_a_terminal_that_was_never_logged_in_on_is_not_logged_out_of():
    """The end of a getty is written like the end of a session, but names nobody."""
    assert (
        told(SignIn(operation=Operation.LOGOUT, teller="wtmp", time=1.0, terminal="tty2", process_id=9)) == []
    )


def test_spellings():
    """Of terminals and hosts."""
    assert [terminal(name) for name in ("/dev/pts/1", "ssh", "ssh:notty", "none")] == ["pts/1", "", "", ""]
    assert [address(name) for name in ("::ffff:192.0.2.7", "UNKNOWN", "::1")] == ["192.0.2.7", "", "::1"]
