"""The agent as a whole, against a real gateway: what the twin asks for, what becomes of events meanwhile."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import jsonschema
import pytest
from spawning import needs_bpf, new_tag, spawn

from gateway_rig import DEVICE, HOST, MODULE, PATIENCE_S, Rig, pki, running
from support import free_port
from vedette.agent import app, governor
from vedette.agent.app import Agent, all_collectors
from vedette.agent.collectors import Collected, Collector
from vedette.agent.collectors.heartbeat import HeartbeatCollector
from vedette.agent.collectors.process import ProcessCollector
from vedette.agent.collectors.statistics import StatisticsCollector
from vedette.agent.meter import MeteredLoop
from vedette.agent.settings import CONNECTION_STRING, Local, load_local, write_private
from vedette.wire.classic import OBJECT, ClassicSettings
from vedette.wire.events import Event, Gap, Payload, Process, Statistics
from vedette.wire.iothub import CLASSIC_MODULE, ConnectionString, Identity
from vedette.wire.message import decode, metered_units
from vedette.wire.twin import KEYS, Priority, Settings, settings_from

CLASSIC = Identity(DEVICE.device_id, CLASSIC_MODULE)
SCHEMA = json.loads((Path(__file__).parent.parent.parent / "docs/reference/classic.schema.json").read_text())
QUIET = {f"{name}_Disabled": True for name in ("Heartbeat", "Statistics")}


async def until(condition: Callable[[], object], what: str) -> None:
    """Poll what another part of the system makes visible."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)
    assert condition(), what


class Scripted:
    """A collector that tells one new event whenever it is asked."""

    source = "a script"

    def __init__(self, name: str = "Process") -> None:
        self.name = name
        self.started: list[Settings] = []
        self.applied: list[Settings] = []
        self.told = 0

    def enabled(self, settings: Settings) -> bool:
        return not settings.document()[f"{self.name}_Disabled"]

    def priority(self, settings: Settings) -> Priority:
        return Priority(settings.document()[f"{self.name}_MessageFrequency"])

    async def start(self, settings: Settings) -> None:
        self.started.append(settings)

    async def collect(self) -> Collected:
        self.told += 1
        payload = Process(
            event_type="EXEC",
            process_id=1,
            parent_process_id=1,
            commandline=f"{self.name} {self.told}",
            user_id=0,
        )
        return Collected([Event(payload, 1_750_000_000.0)], [])

    async def apply(self, settings: Settings) -> None:
        self.applied.append(settings)

    async def stop(self) -> Collected:
        return Collected([], [])


def local(path: Path, connection: ConnectionString, port: int) -> Local:
    config = path / "config"
    config.mkdir(exist_ok=True)
    write_private(config / CONNECTION_STRING, connection.format().encode())
    return load_local(config, path / "state", ca_file=pki().ca, port=port)


def configured(path: Path, rig: Rig, identity: Identity = MODULE) -> Local:
    key = rig.device(identity).primary_key
    return local(path, ConnectionString(HOST, identity, key), rig.gateway.port)


@asynccontextmanager
async def at_work(settings: Local, collectors: Iterable[Collector]) -> AsyncIterator[Agent]:
    agent = Agent(settings, collectors)
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        agent.stop()
        await task


def in_force(**settings: object) -> dict[str, object]:
    """What is reported of settings: a twin holds no null, so what is null is not there."""
    document = Settings(**settings).document()
    return {key: value for key, value in document.items() if value is not None}


def reported(rig: Rig, identity: Identity = MODULE) -> dict[str, object]:
    return rig.registry.twin(identity).reported


def payloads(rig: Rig) -> list[tuple[Payload, int]]:
    """Everything that arrived, with its hits."""
    return [
        (event.decode(), event.hit_count)
        for inbound in rig.sink.received
        for event in decode(inbound.body).events
    ]


def test_every_setting_reaches_its_collector(tmp_path: Path):
    """The first word of a key is a collector's name; its switch and its priority are obeyed."""
    collectors = [*all_collectors(tmp_path), HeartbeatCollector(lambda: 0), StatisticsCollector()]
    names = {collector.name for collector in collectors}
    assert {key.partition("_")[0] for key in KEYS} - names == {"CollectorsCore", "IothubModule", "Agent"}
    for collector in collectors:
        paths = {"FileSystem_Paths": "/etc"}  # without any there is nothing to watch
        off = settings_from(paths | {f"{collector.name}_Disabled": True})
        high = settings_from({f"{collector.name}_MessageFrequency": "High"})
        assert collector.enabled(settings_from(paths))
        assert not collector.enabled(off)
        assert collector.priority(high) is Priority.HIGH


async def test_the_twin_is_judged_and_reported_in_full(tmp_path: Path):
    """Everything in force; a partial change keeps the rest, null is the default, all mistakes are listed."""
    async with running(tmp_path) as rig, at_work(configured(tmp_path, rig), [Scripted()]):
        fine = {"latest_state": "success", "latest_invalid_fields": []}
        await until(lambda: reported(rig) == in_force() | fine, "the first report")
        rig.registry.patch_desired(MODULE, {"Process_CacheSize": 9, "Login_UsePAM": True})
        rig.registry.patch_desired(MODULE, {"Process_CacheSize": 10})
        expected = in_force(process_cache_size=10, login_use_pam=True)
        await until(lambda: reported(rig) == expected | fine, "the change")
        rig.registry.patch_desired(
            MODULE, {"Process_CacheSize": 0, "Nonsense": 1, "Login_UsePAM": "yes", "SBoM_FullEvery": 3}
        )
        await until(lambda: reported(rig)["latest_state"] == "failed", "the refusal")
        mistakes = reported(rig)["latest_invalid_fields"]
        assert [str(text).partition(":")[0] for text in mistakes] == [
            "Login_UsePAM",
            "Nonsense",
            "Process_CacheSize",
        ]
        assert reported(rig) == expected | {"latest_state": "failed", "latest_invalid_fields": mistakes}
        rig.registry.patch_desired(
            MODULE,
            {"Process_CacheSize": None, "Nonsense": None, "Login_UsePAM": None, "SBoM_FullEvery": None},
        )
        await until(lambda: reported(rig) == in_force() | fine, "the repair")


async def test_a_reboot_offline_starts_with_the_last_good_settings(tmp_path: Path):
    """Neither a refused change nor the way back to a hub matters."""
    async with running(tmp_path) as rig:
        here = configured(tmp_path, rig)
        async with at_work(here, [Scripted()]):
            rig.registry.patch_desired(MODULE, {"Process_CacheSize": 9, "Process_MessageFrequency": "High"})
            await until(lambda: reported(rig).get("Process_CacheSize") == 9, "the change")
            rig.registry.patch_desired(MODULE, {"Process_CacheSize": 0})
            await until(lambda: reported(rig)["latest_state"] == "failed", "the refusal")
        connection = here.connection
    collector = Scripted()
    async with at_work(local(tmp_path, connection, free_port()), [collector]) as agent:
        await until(lambda: collector.started, "the start")
        assert collector.started == [Settings(process_cache_size=9, process_frequency=Priority.HIGH)]
        assert agent._version == 2


async def test_a_change_is_applied_after_everything_was_sent_by_the_old_settings(tmp_path: Path):
    """Each collector is drained once, the ones concerned are told, the others go on."""
    process, sbom = Scripted("Process"), Scripted("SBoM")
    async with running(tmp_path) as rig, at_work(configured(tmp_path, rig), [process, sbom]) as agent:
        rig.registry.patch_desired(MODULE, QUIET)
        await until(lambda: reported(rig).get("Statistics_Disabled"), "quiet")
        await until(lambda: not agent._outbox.depth, "an empty outbox")
        before = len(rig.sink.received)
        deadlines = dict(agent._schedule._next)
        rig.registry.patch_desired(
            MODULE, {"Process_CacheSize": 9, "CollectorsCore_PriorityIntervals": "30,60,1440"}
        )
        await until(lambda: reported(rig).get("Process_CacheSize") == 9, "the change")
        await rig.sink.wait(before + 1)
        (message,) = rig.sink.received[before:]
        texts = [event.decode().commandline for event in decode(message.body).events]
        assert texts == [f"Process {process.told}", f"SBoM {sbom.told}"]
        assert ([s.process_cache_size for s in process.applied], sbom.applied) == ([9], [])
        after = agent._schedule._next
        assert {name for name in after if after[name] != deadlines[name]} <= {"Medium"}
        assert len(process.started) == len(sbom.started) == 1


@pytest.mark.parametrize("marks", [pytest.param(None, marks=needs_bpf)])
async def test_no_execution_is_lost_or_doubled_over_changes_under_load(tmp_path: Path, marks):
    """Real executions, counted in the kernel, while settings change all the time: every one arrives once."""
    tag, batch, enough = new_tag(), 100, asyncio.Event()
    changes = [
        {"Process_CacheSize": 3000},
        {"Process_MessageFrequency": "High"},
        {"Process_OverflowPolicy": "drop-new"},
        {"CollectorsCore_PriorityIntervals": "0.01,0.02,0.02"},
        {"Process_CacheSize": 256, "Process_MessageFrequency": "Low"},
        {"CollectorsCore_PriorityIntervals": "1,2,3", "Process_OverflowPolicy": None},
    ]
    async with running(tmp_path) as rig:
        async with at_work(configured(tmp_path, rig), [ProcessCollector()]) as agent:
            await until(lambda: reported(rig), "the first report")
            load = asyncio.create_task(_executions(batch, tag, enough))
            for change in changes * 2:
                seen = agent._version
                rig.registry.patch_desired(MODULE, change)
                await until(lambda seen=seen: agent._version != seen, "the change")
            enough.set()
            rounds = await load
        found: Counter[str] = Counter()
        lost = 0
        for payload, hits in payloads(rig):
            if isinstance(payload, Process) and tag in payload.commandline and payload.event_type == "EXEC":
                found[payload.commandline] += hits
            if isinstance(payload, Statistics) and payload.name == "Process":
                lost += sum(o.hit_count for o in payload.events if o.description != "sent")
    made = rounds * (batch + 1)  # the spawner itself is executed once a round
    assert sum(found.values()) <= made
    assert made - sum(found.values()) <= lost


async def _executions(batch: int, tag: str, enough: asyncio.Event) -> int:
    """One batch after the other until it is enough; how many."""
    rounds = 0
    while not enough.is_set():
        await spawn("exec", batch, tag, str(rounds % 5))
        rounds += 1
    return rounds


class Slow(Scripted):
    """A collector whose drain takes until a test lets it end."""

    def __init__(self) -> None:
        super().__init__()
        self.draining = asyncio.Event()
        self.go_on = asyncio.Event()

    async def collect(self) -> Collected:
        collected = await super().collect()
        self.draining.set()
        await self.go_on.wait()
        return collected


async def test_stopping_in_the_middle_of_a_send_loses_nothing(tmp_path: Path):
    """What was being drained is sent; a change that comes meanwhile starts nothing."""
    slow = Slow()
    async with running(tmp_path) as rig:
        rig.registry.patch_desired(MODULE, QUIET | {"CollectorsCore_PriorityIntervals": "0.01,0.01,0.01"})
        slow.go_on.set()
        async with at_work(configured(tmp_path, rig), [slow]) as agent:
            await until(lambda: "latest_state" in reported(rig), "the report")
            slow.go_on.clear()
            slow.draining.clear()
            await slow.draining.wait()  # by the clock
            agent.stop()
            rig.registry.patch_desired(MODULE, {"Process_MessageFrequency": "High"})
            await until(lambda: agent._turn._waiters, "the end of the drain is waited for")
            slow.go_on.set()
        texts = [payload.commandline for payload, _ in payloads(rig) if isinstance(payload, Process)]
        assert texts == [f"Process {number}" for number in range(1, slow.told + 1)]
        assert slow.told
        assert len(slow.started) == 1


async def test_daily_units_hold_back_from_low_up(tmp_path: Path):
    """The cap is kept, High is sent longest, and an event tells of the silence."""
    high, low = Scripted("Process"), Scripted("SBoM")
    async with running(tmp_path) as rig:
        rig.registry.patch_desired(
            MODULE,
            QUIET
            | {
                "CollectorsCore_PriorityIntervals": "0.01,0.01,0.01",
                "Process_MessageFrequency": "High",
                "Agent_DailyMessageUnits": 6,
            },
        )
        async with at_work(configured(tmp_path, rig), [high, low]) as agent:
            await until(lambda: len(agent._budget.held()) == 3, "everybody held back")
            told = low.told, high.told
            await until(lambda: agent._owed == {"High", "Medium", "Low"}, "deadlines that pass unused")
            assert (low.told, high.told) == told
        units = sum(metered_units(len(inbound.body) + 512) for inbound in rig.sink.received)
        gaps = [payload for payload, _ in payloads(rig) if isinstance(payload, Gap)]
        assert units <= 6
        assert low.told < high.told
        assert gaps[0].priorities == ("Low",)
        assert gaps[0].daily_units == 6


class Hungry(Scripted):
    """A collector that keeps a core busy for half of the time while it works."""

    async def start(self, settings: Settings) -> None:
        await super().start(settings)
        self._task = asyncio.create_task(self._burn())

    async def _burn(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            end = loop.time() + 0.01
            while loop.time() < end:
                pass
            await asyncio.sleep(0.01)

    async def stop(self) -> Collected:
        self._task.cancel()
        return await self.collect()


def test_the_most_expensive_collector_rests_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """It is stopped, what it held is kept, it is said; after its rest it works again."""
    for name, value in {"WINDOW_S": 0.5, "WARM_UP_S": 0.2, "REST_MIN_S": 0.5}.items():
        monkeypatch.setattr(governor, name, value)
    monkeypatch.setattr(app, "LOOK_S", 0.05)
    hungry, modest = Hungry("Process"), Scripted("SBoM")
    connection = ConnectionString(HOST, MODULE, "c2VjcmV0")

    async def main() -> None:
        async with at_work(local(tmp_path, connection, free_port()), [hungry, modest]) as agent:

            def states() -> dict[str, str]:
                return {status.name: status.state for status in agent._roster.status()}

            await until(lambda: states()["Process"] == "resting: Agent_MaxCpuPercent", "the rest")
            assert states()["SBoM"] == "running"
            assert hungry.told == 1
            assert agent._outbox.depth == 1
            await until(lambda: len(hungry.started) == 2, "the return")
            use = agent._uses()["Process"]
            assert use.shed >= 0.5
            assert use.cpu > agent._uses()["SBoM"].cpu

    with asyncio.Runner(loop_factory=MeteredLoop) as runner:
        runner.run(main())
    assert "Process: stopped for a while" in caplog.text
    assert "Process: works again" in caplog.text


async def test_a_classic_module_is_served_in_its_dialect(tmp_path: Path):
    """Its object of settings, valid messages with its properties, a refused object told and not applied."""

    def values(**settings: object) -> dict[str, object]:
        return {OBJECT: {key: {"value": value} for key, value in settings.items()}}

    async with running(tmp_path) as rig:
        rig.registry.add(CLASSIC)
        rig.registry.patch_desired(
            CLASSIC,
            values(
                highPriorityMessageFrequency="PT1S",
                lowPriorityMessageFrequency="PT2S",
                aggregationIntervalProcessCreate="PT1S",
                snapshotFrequency="PT1S",
                eventPriorityProcessCreate="High",
            ),
        )
        collectors: list[Collector] = [Scripted("Process"), *all_collectors(tmp_path)[4:11]]
        async with at_work(configured(tmp_path, rig, CLASSIC), collectors):
            await until(
                lambda: reported(rig, CLASSIC).get(OBJECT, {}).get("snapshotFrequency") == {"value": "PT1S"},
                "the report",
            )
            before = reported(rig, CLASSIC)
            assert set(before) == {OBJECT}
            assert set(before[OBJECT]) == set(ClassicSettings().document()[OBJECT])
            rig.registry.patch_desired(CLASSIC, values(maxMessageSizeInBytes="much"))
            wanted = {"ProcessCreate", "ListeningPorts", "LocalUsers", "ConfigurationError"}
            await until(lambda: wanted <= {event["Name"] for event in events(rig)}, f"{wanted}")
            assert reported(rig, CLASSIC) == before
        validator = jsonschema.Draft202012Validator(SCHEMA)
        for inbound in rig.sink.received:
            validator.validate(json.loads(inbound.body))
            assert inbound.identity == CLASSIC
            assert inbound.properties == {
                "$.ce": "application/json",
                "$.ifid": "urn:azureiot:Security:SecurityAgent:1",
            }
        (error,) = [event["Payload"] for event in events(rig) if event["Name"] == "ConfigurationError"]
        assert error[0]["ConfigurationName"] == "maxMessageSizeInBytes"
        assert error[0]["UsedConfiguration"] == "204800"


def events(rig: Rig) -> list[dict[str, object]]:
    return [event for inbound in rig.sink.received for event in json.loads(inbound.body)["Events"]]
