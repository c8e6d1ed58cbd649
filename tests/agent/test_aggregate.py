"""The event cache: exact hit counts, a bound that holds, and every loss accounted for.

`Model` says naively what the cache should do; random histories must agree with it, under both policies.
"""

import logging
from collections.abc import Hashable
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from vedette.agent.aggregate import EventCache, Overflow
from vedette.agent.losses import CACHE_FULL, Loss
from vedette.wire.events import Category, Event, EventType, Kind, Payload, Process, Statistics, type_of

PROCESS = type_of(Process)


class Flow(Payload, frozen=True, kw_only=True):
    """An event whose identity is one field and which has two fields that add up."""

    peer: str
    pid: int
    sent: int
    received: int


FLOW = EventType(
    "Flow", Flow, Category.TRIGGERED, Kind.SECURITY, ("peer",), ("sent", "received"), (), attrgetter("peer")
)


def process(commandline: str, *, pid: int = 1, user: int = 0, kind: str = "EXEC") -> Process:
    return Process(
        event_type=kind, process_id=pid, parent_process_id=1, commandline=commandline, user_id=user
    )


def cache(capacity: int = 3, policy: Overflow = Overflow.DROP_OLDEST, **options: Any) -> EventCache:
    return EventCache(PROCESS, capacity, policy, setting="Process_CacheSize", **options)


def summary(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.payload.commandline, event.hits) for event in events]


# What is one event


def test_identical_events_become_one():
    """Hits add up; payload, process ids and time are those of the first observation."""
    box = cache()
    first = process("ls", pid=10)
    assert box.add(first, now=100.0)
    assert box.add(process("ls", pid=11), 4, now=101.0)
    assert box.add_hits(PROCESS.key(first), 5)
    assert box.drain() == ([Event(first, 100.0, 10)], [])


@pytest.mark.parametrize(
    "other", [process("ls -l"), process("ls", user=1000), process("ls", kind="FORK")], ids=str
)
def test_events_that_differ_in_identity_stay_apart(other):
    """Command line, user and type make a process event what it is."""
    box = cache()
    box.add(process("ls"), now=1.0)
    box.add(other, now=2.0)
    assert [event.hits for event in box.drain()[0]] == [1, 1]


@pytest.mark.parametrize("hits", [1, 2**31, 2**63, 10**30])
def test_hits_of_any_size_are_exact(hits):
    """Counts are whole numbers without a limit."""
    box = cache()
    box.add(process("yes"), hits, now=1.0)
    box.add(process("yes"), hits, now=2.0)
    [event], _ = box.drain()
    assert event.hits == 2 * hits


def test_declared_sums_add_up():
    """Fields that are amounts are added; the other fields keep their first value."""
    box = EventCache(FLOW, 8, setting="x")
    box.add(Flow(peer="a", pid=7, sent=1, received=10), now=1.0)
    box.add(Flow(peer="b", pid=8, sent=5, received=0), now=2.0)
    box.add(Flow(peer="a", pid=9, sent=2, received=2**70), 3, now=3.0)
    assert box.drain()[0] == [
        Event(Flow(peer="a", pid=7, sent=3, received=2**70 + 10), 1.0, 4),
        Event(Flow(peer="b", pid=8, sent=5, received=0), 2.0, 1),
    ]


def test_a_key_may_take_the_place_of_the_identity():
    """A source that knows a cheaper equal key hands it in, and addresses the event by it."""
    box = cache()
    box.add(process("ls"), 0, now=1.0, key=b"\x01")
    assert b"\x01" in box
    assert box.add_hits(b"\x01", 3)
    assert not box.add_hits(b"\x02", 3)
    assert summary(box.drain()[0]) == [("ls", 3)]


def test_an_event_without_hits_is_none():
    """A source may announce what it counts elsewhere; if it never counted, nothing is reported."""
    box = cache()
    box.add(process("ls"), 0, now=1.0)
    box.add(process("id"), 0, now=2.0)
    box.add_hits(PROCESS.key(process("id")), 2)
    assert len(box) == 2
    assert summary(box.drain()[0]) == [("id", 2)]


def test_types_without_identity_never_merge():
    """Where no two events are the same, equal payloads stay apart."""
    box = EventCache(type_of(Statistics), 8, setting="x")
    for _ in range(3):
        box.add(Statistics(name="Process", events=()), now=1.0)
    assert [event.hits for event in box.drain()[0]] == [1, 1, 1]


# Overflow


def test_the_oldest_event_makes_room():
    """Oldest is what was first observed longest ago, however often it was seen since."""
    box = cache(2)
    box.add(process("a"), 7, now=1.0)
    box.add(process("b"), now=2.0)
    box.add(process("a"), now=3.0)
    assert box.add(process("c"), now=4.0)
    events, losses = box.drain()
    assert summary(events) == [("b", 1), ("c", 1)]
    assert losses == [Loss(CACHE_FULL, events=1, hits=8)]


def test_nothing_new_gets_in_under_drop_new():
    """Known events still count; new ones are dropped until the next cycle."""
    box = cache(2, Overflow.DROP_NEW)
    box.add(process("a"), now=1.0)
    box.add(process("b"), now=2.0)
    assert not box.add(process("c"), 5, now=3.0)
    assert box.add(process("a"), 2, now=4.0)
    events, losses = box.drain()
    assert summary(events) == [("a", 3), ("b", 1)]
    assert losses == [Loss(CACHE_FULL, events=1, hits=5)]
    assert box.add(process("c"), now=5.0)


@pytest.mark.parametrize("policy", Overflow)
def test_the_log_hears_of_an_overflow_once_a_cycle(policy, caplog):
    """One warning, which names the setting to raise; the next cycle may warn again."""
    box = cache(1, policy)
    for _ in range(2):
        for name in "abcdef":
            box.add(process(name), now=1.0)
        box.drain()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "Process_CacheSize" in caplog.records[0].message


def test_a_cache_that_suffices_says_nothing(caplog):
    """Full is not overflowing."""
    box = cache(3)
    for name in "abcabc":
        box.add(process(name), now=1.0)
    assert len(box.drain()[0]) == 3
    assert not caplog.records


def test_an_evicted_event_leaves_its_source_too():
    """The source is asked for what it still held; those hits are lost with the event, and counted."""
    asked: list[Hashable] = []

    def forget(key: Hashable) -> int:
        asked.append(key)
        return 40

    box = cache(1, forget=forget)
    box.add(process("a"), 2, now=1.0, key="A")
    box.add(process("b"), 1, now=2.0, key="B")
    events, losses = box.drain()
    assert asked == ["A"]
    assert "A" not in box
    assert summary(events) == [("b", 1)]
    assert losses == [Loss(CACHE_FULL, events=1, hits=42)]


def test_losses_from_before_the_cache_are_told_with_the_others():
    """A source counts what it lost where its collector looks."""
    box = cache()
    box.drop("kernel ring full", hits=3)
    box.drop("kernel ring full", hits=4)
    assert box.drain() == ([], [Loss("kernel ring full", events=0, hits=7)])
    assert box.drain() == ([], [])


@pytest.mark.parametrize(
    ("capacity", "policy", "kept"),
    [
        (32, Overflow.DROP_OLDEST, range(68, 100)),  # processes of the early micro agent
        (64, Overflow.DROP_NEW, range(64)),  # connections of the RTOS agent
        (256, Overflow.DROP_OLDEST, range(100)),  # the default
    ],
)
def test_generations_of_the_documented_agents(capacity, policy, kept):
    """Buffers of 32 processes and of 64 connections that take nothing new are settings."""
    box = cache(capacity, policy)
    for i in range(100):
        box.add(process(str(i)), now=float(i))
    events, losses = box.drain()
    assert [event.payload.commandline for event in events] == [str(i) for i in kept]
    assert sum(loss.events for loss in losses) == 100 - len(kept)


def test_a_smaller_limit_holds_at_once():
    """A change of settings makes the oldest leave, counted; a larger one makes room."""
    box = cache(4)
    for name in "abcd":
        box.add(process(name), now=1.0)
    box.limit(2, Overflow.DROP_NEW)
    assert len(box) == 2
    assert not box.add(process("e"), now=2.0)
    box.limit(3, Overflow.DROP_NEW)
    assert box.add(process("f"), now=3.0)
    events, losses = box.drain()
    assert summary(events) == [("c", 1), ("d", 1), ("f", 1)]
    assert losses == [Loss(CACHE_FULL, events=3, hits=3)]


def test_a_cache_holds_at_least_one_event():
    """A capacity below one is a mistake of ours."""
    with pytest.raises(ValueError, match="capacity"):
        cache(0)


# Against the model


class Model:
    """The cache as one would explain it: a list of entries, looked through from the start."""

    def __init__(self, capacity: int, policy: Overflow) -> None:
        self.capacity, self.policy = capacity, policy
        self.entries: list[list[Any]] = []
        self.lost_events = self.lost_hits = 0

    def add(self, payload: Process, hits: int, now: float) -> bool:
        for entry in self.entries:
            known = entry[0]
            if (known.event_type, known.commandline, known.user_id) == (
                payload.event_type,
                payload.commandline,
                payload.user_id,
            ):
                entry[2] += hits
                return True
        if len(self.entries) == self.capacity:
            self.lost_events += 1
            if self.policy is Overflow.DROP_NEW:
                self.lost_hits += hits
                return False
            self.lost_hits += self.entries.pop(0)[2]
        self.entries.append([payload, now, hits])
        return True

    def drain(self) -> tuple[list[Event], list[Loss]]:
        events = [Event(*entry) for entry in self.entries if entry[2]]
        losses = []
        if self.lost_events:
            losses = [Loss(CACHE_FULL, self.lost_events, self.lost_hits)]
        self.entries, self.lost_events, self.lost_hits = [], 0, 0
        return events, losses


observations = st.builds(
    process,
    st.sampled_from("abcdefgh"),
    pid=st.integers(1, 9),
    user=st.sampled_from([0, 1000]),
    kind=st.sampled_from(["EXEC", "FORK"]),
)
histories = st.lists(st.tuples(observations, st.integers(0, 5)) | st.none(), max_size=80)


@pytest.mark.parametrize("policy", Overflow)
@given(capacity=st.integers(1, 10), history=histories)
def test_the_cache_agrees_with_the_model(policy, capacity, history):
    """Step by step, over several cycles: the same events in the same order, the same losses."""
    box, model = cache(capacity, policy), Model(capacity, policy)
    for now, step in enumerate(history):
        if step is None:
            assert box.drain() == model.drain()
        else:
            payload, hits = step
            assert box.add(payload, hits, now=float(now)) == model.add(payload, hits, float(now))
            assert (PROCESS.key(payload) in box) == any(
                PROCESS.key(entry[0]) == PROCESS.key(payload) for entry in model.entries
            )
        assert len(box) == len(model.entries) <= capacity
    assert box.drain() == model.drain()


@given(capacity=st.integers(1, 10), history=histories)
def test_policies_differ_only_in_who_leaves(capacity, history):
    """Without overflow both policies do the same; with it, both account for every hit."""
    boxes = {policy: cache(capacity, policy) for policy in Overflow}
    steps = [step for step in history if step]
    for box in boxes.values():
        for now, (payload, hits) in enumerate(steps):
            box.add(payload, hits, now=float(now))
    drained = {policy: box.drain() for policy, box in boxes.items()}
    total = sum(hits for _, hits in steps)
    for events, losses in drained.values():
        assert sum(event.hits for event in events) + sum(loss.hits for loss in losses) == total
        assert [event.first_seen for event in events] == sorted(event.first_seen for event in events)
    if len({PROCESS.key(payload) for payload, _ in steps}) <= capacity:
        assert drained[Overflow.DROP_OLDEST] == drained[Overflow.DROP_NEW]
        assert not drained[Overflow.DROP_NEW][1]
    else:
        assert all(losses for _, losses in drained.values())


class KernelMap(RuleBasedStateMachine):
    """A cache in front of a source that counts by itself, as the kernel does: no hit is lost unnoticed."""

    keys = st.integers(0, 6)

    @initialize(capacity=st.integers(1, 4))
    def begin(self, capacity: int) -> None:
        self.held: dict[Hashable, int] = {}
        self.seen = self.told = 0
        self.box = cache(capacity, forget=lambda key: self.held.pop(key))

    @rule(key=keys, count=st.integers(1, 5))
    def observe(self, key: int, count: int) -> None:
        """The kernel counts; only a key that is new to it is announced."""
        self.seen += count
        if key not in self.held:
            self.held[key] = 0
            assert self.box.add(process(str(key)), 0, now=1.0, key=key)
        self.held[key] += count

    @precondition(lambda self: self.held)
    @rule()
    def send(self) -> None:
        """At send time the kernel's counts are added to the events and its map is emptied."""
        for key, count in self.held.items():
            assert self.box.add_hits(key, count)
        self.held.clear()
        events, losses = self.box.drain()
        self.told += sum(event.hits for event in events) + sum(loss.hits for loss in losses)
        assert self.told == self.seen


TestKernelMap = KernelMap.TestCase
