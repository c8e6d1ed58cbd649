"""Collectors at work: drained by priority, reconfigured alone, restarted with back-off."""

import logging
from collections.abc import Callable

import pytest

from vedette.agent.collectors import Collected, Collector
from vedette.agent.losses import Loss
from vedette.agent.roster import RETRY_MAX_S, RETRY_MIN_S, Roster
from vedette.agent.sources import Unavailable
from vedette.wire.events import Event, Process
from vedette.wire.twin import Priority, Settings, settings_from


def event(command: str) -> Event:
    return Event(
        Process(event_type="EXEC", process_id=1, parent_process_id=0, commandline=command, user_id=0), 1.0
    )


def of(*priorities: Priority) -> Callable[[Collector], bool]:
    """Due are the collectors of these priorities."""
    return lambda collector: collector.priority(Settings()) in priorities


class Scripted:
    """A collector that does what a test tells it and writes down what was asked of it."""

    source = "a script"

    def __init__(self, name: str = "Process", *, starts: list[Exception | None] | None = None) -> None:
        self.name = name
        self.calls: list[str] = []
        self.held: list[Event] = []
        self.starts = starts or []
        self.fault: Exception | None = None

    def enabled(self, settings: Settings) -> bool:
        return not getattr(settings, f"{self.name.lower()}_disabled")

    def priority(self, settings: Settings) -> Priority:
        return getattr(settings, f"{self.name.lower()}_frequency")

    async def start(self, settings: Settings) -> None:
        self.calls.append("start")
        if self.starts and (fault := self.starts.pop(0)):
            raise fault

    async def collect(self) -> Collected:
        self.calls.append("collect")
        if self.fault:
            raise self.fault
        taken, self.held = self.held, []
        return Collected(taken, [Loss("a reason", 0, 2)])

    async def apply(self, settings: Settings) -> None:
        self.calls.append("apply")
        if self.fault:
            raise self.fault

    async def stop(self) -> Collected:
        self.calls.append("stop")
        taken, self.held = self.held, []
        return Collected(taken, [])


class Clock:
    """Monotonic time and the time of day, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def roster(self, *collectors: Scripted) -> Roster:
        return Roster(collectors, clock=lambda: 1_000_000 + self.now, monotonic=lambda: self.now)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_only_the_priorities_that_are_due_are_drained(clock: Clock):
    """A collector of another priority keeps what it holds."""
    process, statistics = Scripted("Process"), Scripted("Statistics")
    roster = clock.roster(process, statistics)
    await roster.start(Settings())
    process.held = [event("ls")]
    clock.now += 30
    (batch,) = await roster.collect(of(Priority.MEDIUM))
    assert (batch.name, batch.events) == ("Process", [event("ls")])
    assert batch.losses == [Loss("a reason", 0, 2)]
    assert statistics.calls == ["start"]


async def test_windows_follow_each_other_without_a_gap(clock: Clock):
    """Each cycle begins where the one before it ended, even when the clock is set back."""
    roster = clock.roster(Scripted())
    await roster.start(Settings())
    clock.now += 30
    (first,) = await roster.collect(of(Priority.MEDIUM))
    clock.now -= 10
    (second,) = await roster.collect(of(Priority.MEDIUM))
    assert (first.window.start, first.window.end) == (1_000_100, 1_000_130)
    assert (second.window.start, second.window.end) == (1_000_130, 1_000_130)


async def test_a_change_reaches_only_the_collectors_that_it_names(clock: Clock):
    """`Process_CacheSize` is no business of the statistics."""
    process, statistics = Scripted("Process"), Scripted("Statistics")
    roster = clock.roster(process, statistics)
    await roster.start(Settings())
    assert await roster.apply(Settings(), Settings(process_cache_size=9)) == []
    assert process.calls == ["start", "apply"]
    assert statistics.calls == ["start"]


async def test_switching_off_hands_over_what_was_held(clock: Clock):
    """Nothing is lost when the twin stops a collector, and it starts again when told to."""
    process = Scripted()
    roster = clock.roster(process)
    await roster.start(Settings())
    process.held = [event("last")]
    off = Settings(process_disabled=True)
    (batch,) = await roster.apply(Settings(), off)
    assert batch.events == [event("last")]
    assert await roster.collect(of(*Priority)) == []
    await roster.apply(off, Settings())
    assert process.calls == ["start", "stop", "start"]


async def test_a_failing_collector_leaves_the_others_alone(clock: Clock, caplog: pytest.LogCaptureFixture):
    """It is stopped, and started again after its back-off; the others are drained as ever."""
    broken, sound = Scripted("Process"), Scripted("Statistics")
    roster = clock.roster(broken, sound)
    await roster.start(Settings())
    broken.fault = OSError("gone")
    sound.held = [event("still here")]
    (batch,) = await roster.collect(of(*Priority))
    assert batch.name == "Statistics"
    assert "Process: failed" in caplog.text
    assert broken.calls == ["start", "collect", "stop"]
    assert [status.state for status in roster.status()] == ["failed: OSError", "running"]

    broken.fault = None
    assert roster.retry_at() == clock.now + RETRY_MIN_S
    await roster.revive(Settings())
    assert broken.calls[-1] == "stop", "too early"
    clock.now += RETRY_MIN_S
    await roster.revive(Settings())
    assert broken.calls[-1] == "start"
    assert roster.retry_at() == float("inf")


async def test_a_missing_source_is_reported_once_and_asked_for_ever_more_seldom(
    clock: Clock, caplog: pytest.LogCaptureFixture
):
    """`Unavailable` is a normal outcome: one line in the log, its reason in the status."""
    process = Scripted(starts=[Unavailable("no such kernel")] * 12)
    roster = clock.roster(process)
    with caplog.at_level(logging.INFO):
        await roster.start(Settings())
        delays = []
        for _ in range(11):
            delays.append(roster.retry_at() - clock.now)
            clock.now = roster.retry_at()
            await roster.revive(Settings())
    assert delays[:3] == [RETRY_MIN_S, 2 * RETRY_MIN_S, 4 * RETRY_MIN_S]
    assert delays[-1] == RETRY_MAX_S
    assert caplog.text.count("no such kernel") == 1
    assert [status.state for status in roster.status()] == ["no such kernel"]


async def test_stopping_collects_from_all(clock: Clock):
    """The last cycle of each collector comes out; a collector that never ran is left alone."""
    process, statistics = Scripted("Process"), Scripted("Statistics", starts=[Unavailable("not here")])
    roster = clock.roster(process, statistics)
    await roster.start(Settings())
    process.held = [event("end")]
    (batch,) = await roster.stop()
    assert batch.events == [event("end")]
    assert statistics.calls == ["start"]


@pytest.mark.parametrize("fault", [Unavailable("no source for that"), OSError("gone")])
async def test_a_failed_change_loses_nothing_that_was_observed(clock: Clock, fault: Exception):
    """The collector is released, and what it held comes with the next batches."""
    process = Scripted()
    roster = clock.roster(process)
    await roster.start(Settings())
    process.held = [event("before")]
    process.fault = fault
    (batch,) = await roster.apply(Settings(), Settings(process_cache_size=9))
    assert batch.events == [event("before")]
    assert process.calls == ["start", "apply", "stop"]
    assert roster.retry_at() < float("inf")


async def test_a_failed_drain_loses_nothing_that_the_collector_still_has(clock: Clock):
    """It is handed over with the next send, though the collector rests on its back-off."""
    process = Scripted()
    roster = clock.roster(process)
    await roster.start(Settings())
    process.held = [event("kept")]
    process.fault = OSError("gone")
    assert await roster.collect(of(*Priority)) == []
    (batch,) = await roster.collect(of())
    assert batch.events == [event("kept")]
    assert await roster.stop() == []


async def test_a_collector_that_rests_is_left_alone_until_it_is_restored(clock: Clock):
    """Neither a change of settings nor a retry starts it; what it held is handed over; time is counted."""
    process, statistics = Scripted("Process"), Scripted("Statistics")
    roster = clock.roster(process, statistics)
    await roster.start(Settings())
    process.held = [event("before")]
    (batch,) = await roster.shed("Process")
    assert batch.events == [event("before")]
    assert [status.state for status in roster.status()] == ["resting: Agent_MaxCpuPercent", "running"]
    changed = Settings(process_cache_size=9)
    assert await roster.apply(Settings(), changed) == []
    clock.now += 60
    await roster.revive(changed)
    assert await roster.collect(of(*Priority)) != []
    assert process.calls == ["start", "stop"]
    assert roster.rested("Process") == 60
    await roster.restore("Process", changed)
    clock.now += 60
    assert process.calls == ["start", "stop", "start"]
    assert (roster.rested("Process"), roster.rested("Statistics")) == (60, 0)


async def test_a_collector_that_is_switched_off_is_not_restored(clock: Clock):
    """The twin has the last word."""
    process = Scripted()
    roster = clock.roster(process)
    await roster.start(Settings())
    await roster.shed("Process")
    off = Settings(process_disabled=True)
    await roster.apply(Settings(), off)
    await roster.restore("Process", off)
    assert [status.state for status in roster.status()] == ["off"]


@pytest.mark.parametrize(
    ("name", "change", "concerned"),
    [
        ("FirewallConfiguration", {"FirewallConfiguration_FullEvery": 2}, True),
        ("ConnectedHardware", {"ConnectedHardware_FullEvery": 2}, True),
        ("LogCollector", {"LogCollector_MessageFrequency": "High"}, True),
        ("Login", {"LogCollector_MessageFrequency": "High"}, False),
        ("Baseline", {"CollectorsCore_PriorityIntervals": "1,2,3"}, True),
        ("Process", {"CollectorsCore_PriorityIntervals": "1,2,3"}, False),
    ],
)
async def test_whom_a_setting_concerns(clock: Clock, name: str, change: dict[str, object], concerned: bool):
    """Whoever's whole name it begins with; the baseline goes by the intervals, too."""
    collector = Scripted()
    collector.name = name
    roster = clock.roster(collector)
    collector.enabled = lambda settings: True
    await roster.start(Settings())
    await roster.apply(Settings(), settings_from(change))
    assert ("apply" in collector.calls) is concerned
