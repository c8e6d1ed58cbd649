"""Statistics add up to what happened: each outcome once, under its own name."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.collectors.statistics import AGENT, SENT, Gauges, StatisticsCollector, Use, resident_bytes
from vedette.agent.losses import CACHE_FULL, KERNEL_MAP_FULL, OUTBOX_AGE, Loss
from vedette.wire.events import Outcome, Statistics
from vedette.wire.twin import Settings


async def started(collector: StatisticsCollector, **settings: int) -> StatisticsCollector:
    """A collector at work."""
    await collector.start(Settings(**settings))
    return collector


def outcomes(events: list[object]) -> dict[str, dict[str, tuple[int, int]]]:
    """Name → description → (events, hits), without the agent's own figures."""
    payloads = [event.payload for event in events]
    return {
        payload.name: {outcome.description: (outcome.events, outcome.hit_count) for outcome in payload.events}
        for payload in payloads
        if payload.name != AGENT
    }


async def test_outcomes_are_told_by_collector():
    """What was sent, and what was dropped and why."""
    collector = await started(StatisticsCollector(clock=lambda: 1.8e9))
    collector.record("Process", events=3, hits=40, losses=[Loss(KERNEL_MAP_FULL, 0, 7)])
    collector.record("Process", events=1, hits=2)
    collector.record("Outbox", losses=[Loss(OUTBOX_AGE, 4, 42)])
    events, losses = await collector.collect()
    assert events[0].payload == Statistics(
        name="Outbox",
        events=(Outcome(description="dropped: older than the message timeout", hit_count=42, events=4),),
    )
    assert outcomes(events)["Process"] == {SENT: (4, 42), "dropped: kernel map full": (0, 7)}
    assert losses == []


async def test_a_cycle_starts_from_nothing():
    """What was told is not told again."""
    collector = await started(StatisticsCollector())
    collector.record("Process", events=1, hits=1)
    await collector.collect()
    assert outcomes((await collector.collect()).events) == {}


async def test_a_quiet_collector_is_not_mentioned():
    """No outcome, no event."""
    collector = await started(StatisticsCollector())
    collector.record("Process")
    assert outcomes((await collector.collect()).events) == {}


async def test_the_last_cycle_is_told_at_the_end():
    """Stopping hands over what was recorded until then."""
    collector = await started(StatisticsCollector())
    collector.record("Process", events=1, hits=9)
    assert outcomes((await collector.stop()).events) == {"Process": {SENT: (1, 9)}}


async def test_what_is_recorded_while_it_is_off_is_not_told():
    """Before it starts and after it has stopped, outcomes belong to no cycle."""
    collector = StatisticsCollector()
    collector.record("Process", events=1, hits=9)
    await started(collector)
    await collector.stop()
    collector.record("Process", events=1, hits=9)
    await started(collector)
    assert outcomes((await collector.collect()).events) == {}


async def test_the_agent_tells_what_it_used_in_the_cycle():
    """Processor time and metered units as differences, the outbox and memory as they are."""
    gauges, processor = Gauges(metered_units=10), 1.0
    collector = await started(StatisticsCollector(lambda: gauges, processor=lambda: processor))
    gauges, processor = Gauges(5, 1234, 17), 1.25
    payload = (await collector.collect()).events[-1].payload
    assert (payload.name, payload.cpu_seconds, payload.metered_units) == (AGENT, 0.25, 7)
    assert (payload.queue_messages, payload.queue_bytes) == (5, 1234)
    payload = (await collector.collect()).events[-1].payload
    assert (payload.cpu_seconds, payload.metered_units) == (0.0, 0)


def test_memory_is_that_of_this_process():
    """It grows by what is written to: 32 MB, give or take what else the process does meanwhile."""
    before = resident_bytes()
    held = bytearray(b"x" * 33_554_432)
    assert resident_bytes() - before > 0.8 * len(held)


async def test_names_beyond_the_cache_are_counted_as_lost():
    """Statistics_CacheSize bounds the memory; known names go on counting."""
    collector = await started(StatisticsCollector(), statistics_cache_size=2)
    for name in ("A", "B", "C", "A", "C"):
        collector.record(name, events=1, hits=1)
    events, losses = await collector.collect()
    assert outcomes(events) == {"A": {SENT: (2, 2)}, "B": {SENT: (1, 1)}}
    assert losses == [Loss(CACHE_FULL, 2, 0)]


@pytest.mark.parametrize("cycles", [1, 3])
@given(data=st.data())
async def test_sums_agree_with_what_was_recorded(cycles: int, data: st.DataObject):
    """Over any sequence of outcomes and cycles nothing is lost, doubled or put under another name."""
    collector = await started(StatisticsCollector())
    recorded: Counter[tuple[str, str]] = Counter()
    told: Counter[tuple[str, str]] = Counter()
    names, reasons, counts = st.sampled_from("AB"), st.sampled_from("xy"), st.integers(0, 10**12)
    for _ in range(cycles):
        for name, hits, reason, lost in data.draw(st.lists(st.tuples(names, counts, reasons, counts))):
            collector.record(name, events=1 if hits else 0, hits=hits, losses=[Loss(reason, 0, lost)])
            recorded[name, SENT] += hits
            recorded[name, f"dropped: {reason}"] += lost
        for name, by_description in outcomes((await collector.collect()).events).items():
            for description, (_, hits) in by_description.items():
                told[name, description] += hits
    assert told == +recorded


async def test_what_a_collector_used_is_told_by_the_cycle():
    """Processor time and rest since the last cycle, also of one that had no events; nothing for nothing."""
    uses = {"Process": Use(1.5, 0.0), "SBoM": Use()}
    collector = await started(StatisticsCollector(uses=lambda: dict(uses)))
    collector.record("Process", events=1, hits=1)
    first, _ = await collector.collect()
    uses |= {"Process": Use(1.75, 30.0), "SBoM": Use(0.0004, 0.0)}
    second, _ = await collector.collect()
    told = [
        [(e.payload.name, e.payload.cpu_seconds, e.payload.shed_seconds) for e in events[:-1]]
        for events in (first, second)
    ]
    assert told == [[("Process", 1.5, None)], [("Process", 0.25, 30.0)]]
