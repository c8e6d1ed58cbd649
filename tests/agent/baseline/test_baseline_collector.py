"""The collector scans in the background and hands over whole scans."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from vedette.agent.collectors import Collector
from vedette.agent.collectors import baseline as module
from vedette.agent.collectors.baseline import BaselineCollector
from vedette.wire.events import EVENT_TYPES, Baseline, Event
from vedette.wire.message import Window, decode, pack
from vedette.wire.twin import Priority, settings_from

FAST = {"Baseline_CpuShare": 100, "Agent_MaxCpuPercent": 0}


def image(tmp_path: Path) -> Path:
    """A small system on disk."""
    root = tmp_path / "image"
    (root / "etc/ssh").mkdir(parents=True)
    (root / "etc/os-release").write_text("ID=demo\nVERSION_ID=1\n")
    (root / "etc/ssh/sshd_config").write_text("PermitRootLogin yes\n")
    return root


@asynccontextmanager
async def scanning(root: Path, **twin: object) -> AsyncIterator[BaselineCollector]:
    """A started collector whose first scan is complete."""
    collector = BaselineCollector(root, clock=lambda: 1_700_000_000.0)
    await collector.start(settings_from(FAST | twin))
    try:
        await collector.scanned.wait()
        yield collector
    finally:
        await collector.stop()


def payloads(events: list[Event]) -> dict[str, Baseline]:
    """Check id → payload."""
    found = {}
    for event in events:
        assert isinstance(event.payload, Baseline)
        found[event.payload.baseline_check_id] = event.payload
    return found


async def test_a_scan_yields_one_event_a_check_with_one_time_and_one_id(tmp_path: Path):
    """Users' queries join on the time of the latest scan."""
    async with scanning(image(tmp_path)) as collector:
        events, losses = await collector.collect()
    assert len(events) == 237
    assert losses == []
    assert {event.first_seen for event in events} == {1_700_000_000.0}
    assert len({payload.event_id for payload in payloads(events).values()}) == 1
    failed = payloads(events)["CIS-demo-1-SSH_Server-5.2.10"]
    assert failed.baseline_check_result == "FAIL"
    assert failed.baseline_check_evidence == ("/etc/ssh/sshd_config: PermitRootLogin yes",)
    assert failed.baseline_check_group == "SSH Server"


async def test_results_are_handed_over_once(tmp_path: Path):
    """The next cycle has the next scan, or nothing."""
    async with scanning(image(tmp_path)) as collector:
        assert len((await collector.collect()).events) == 237
        assert (await collector.collect()).events == []


async def test_only_failures_are_sent_if_asked_for(tmp_path: Path):
    """`Baseline_Results` = `failed`, as the first generation of the agent did."""
    async with scanning(image(tmp_path), Baseline_Results="failed") as collector:
        found = payloads((await collector.collect()).events)
    assert {payload.baseline_check_result for payload in found.values()} <= {"FAIL", "ERROR"}
    assert "CIS-demo-1-SSH_Server-5.2.10" in found


async def test_disabled_groups_and_checks_are_left_out(tmp_path: Path):
    """What the twin names is not run."""
    twin = {"Baseline_GroupsDisabled": "SSH Server", "Baseline_ChecksDisabled": "1.1.2, 1.1.3"}
    async with scanning(image(tmp_path), **twin) as collector:
        found = payloads((await collector.collect()).events)
    assert len(found) == 237 - 23 - 2
    assert not any("SSH_Server" in check_id for check_id in found)


async def test_new_settings_start_a_new_scan(tmp_path: Path):
    """Results of the old settings that were not collected are replaced by those of the new."""
    async with scanning(image(tmp_path)) as collector:
        await collector.collect()
        await collector.apply(settings_from(FAST | {"Baseline_Profile": "full"}))
        await collector.scanned.wait()
        found = payloads((await collector.collect()).events)
    assert found["CIS-demo-1-Filesystem_Integrity-1.3.1"].baseline_check_result == "FAIL"


async def test_a_stop_in_the_middle_of_a_scan_hands_over_nothing(tmp_path: Path):
    """Half a scan would look like a device on which the other checks vanished."""
    collector = BaselineCollector(image(tmp_path))
    await collector.start(settings_from({"Baseline_CpuShare": 1}))
    await asyncio.sleep(0)
    assert (await collector.stop()).events == []


async def test_the_scan_runs_in_a_thread_that_yields_to_all_others(tmp_path: Path, monkeypatch):
    """Its niceness is its own: the agent's other threads keep theirs."""
    seen = set()
    real = module._step

    def spy(steps):
        thread = threading.get_native_id()
        seen.add((threading.current_thread().name, os.getpriority(os.PRIO_PROCESS, thread)))
        return real(steps)

    monkeypatch.setattr(module, "_step", spy)
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    async with scanning(image(tmp_path)):
        pass
    assert seen == {("baseline_0", module.NICENESS)}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.mark.parametrize(
    ("own", "agent", "percent"), [(10, 0, 10), (10, 50, 10), (10, 5, 4), (100, 100, 80), (1, 1, 0.8)]
)
def test_a_scan_stays_below_what_the_agent_may_take(own: int, agent: int, percent: float):
    """Or the governor would stop it each time; 0 is no limit."""
    settings = settings_from({"Baseline_CpuShare": own, "Agent_MaxCpuPercent": agent})
    assert module.share(settings) == pytest.approx(percent)


async def test_the_pauses_make_up_the_share(tmp_path: Path, monkeypatch):
    """After each step a rest in proportion to what the step took."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    clock = iter(range(1_000_000))
    monkeypatch.setattr(module.asyncio, "sleep", note)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock) / 100))
    collector = BaselineCollector(image(tmp_path))
    await collector.start(settings_from({"Agent_MaxCpuPercent": 5}))
    await collector.scanned.wait()
    await collector.stop()
    assert {round(pause, 6) for pause in pauses} == {0.24}  # 0.01 s of work, 4 % of 0.25 s


async def test_a_failure_of_the_scan_itself_reaches_who_collects(tmp_path: Path, monkeypatch):
    """It is ours, so that the roster restarts the collector and says so."""

    def broken(*_):
        raise RuntimeError("no scan today")
        yield

    monkeypatch.setattr(module, "run", broken)
    collector = BaselineCollector(image(tmp_path))
    await collector.start(settings_from(FAST))
    assert collector._task
    await asyncio.wait([collector._task])
    with pytest.raises(RuntimeError, match="no scan today"):
        await collector.collect()
    await collector.stop()


async def test_a_whole_scan_fits_few_messages_and_is_read_back(tmp_path: Path):
    """237 results travel, and the hub understands every one."""
    async with scanning(image(tmp_path)) as collector:
        events = (await collector.collect()).events
    packed = list(pack([(events, Window(1_699_999_000.0, 1_700_000_000.0))]))
    assert len(packed) <= 2
    back = [event.decode() for message in packed for event in decode(message.body).events]
    assert back == [event.payload for event in events]


def test_the_collector_keeps_the_contract_and_its_event_the_documented_keys():
    """The twin's switches, and the order of EventDetails that users' queries know."""
    collector: Collector = BaselineCollector()
    assert collector.enabled(settings_from({}))
    assert not collector.enabled(settings_from({"Baseline_Disabled": True}))
    assert collector.priority(settings_from({})) is Priority.LOW
    details = EVENT_TYPES["Baseline"].details
    assert [key for key in details if key.startswith("BaselineCheck")][:6] == [
        "BaselineCheckId",
        "BaselineCheckResult",
        "BaselineCheckDescription",
        "BaselineCheckRemediation",
        "BaselineCheckSeverity",
        "BaselineCheckError",
    ]
    assert msgspec.structs.fields(Baseline)[0].name == "event_id"
