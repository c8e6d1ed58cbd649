"""Two dialects, one agent: what is drained when, what waits, what is told of refusals and losses."""

import json
import uuid
from pathlib import Path

import pytest

from vedette.agent.app import all_collectors, dialect_of
from vedette.agent.classic import AGENT_ID, SNAPSHOT, Classic, agent_id
from vedette.agent.collectors.statistics import StatisticsCollector
from vedette.agent.dialect import Micro, Plan, Traffic
from vedette.agent.losses import CACHE_FULL, Loss
from vedette.agent.roster import Batch
from vedette.agent.settings import save_cached
from vedette.wire.classic import OBJECT
from vedette.wire.events import Event, Login, Process
from vedette.wire.message import Window, decode
from vedette.wire.twin import InvalidSettings, Priority, Settings

WINDOW = Window(1_750_000_000.0, 1_750_003_600.0)


def classic(traffic: Traffic = Traffic()) -> Classic:  # noqa: B008  it is frozen
    return Classic(str(uuid.uuid4()), lambda: traffic)


def asked(**values: object) -> dict[str, object]:
    return {OBJECT: {key: {"value": value} for key, value in values.items()}}


def login(user: str = "eve") -> Batch:
    return Batch("Login", [Event(Login(operation="Login", user_name=user), WINDOW.start)], WINDOW, [])


def process(command: str = "ls", hits: int = 3, event: str = "EXEC") -> Batch:
    payload = Process(event_type=event, process_id=5, parent_process_id=1, commandline=command, user_id=0)
    return Batch("Process", [Event(payload, WINDOW.start, hits)], WINDOW, [])


def told(dialect: Classic, plan: Plan, batches: list[Batch], due: set[str]) -> list[dict[str, object]]:
    """The events of the messages that a send makes."""
    messages = list(dialect.messages(plan, batches, due))
    return [event for message in messages for event in json.loads(message.body)["Events"]]


@pytest.mark.parametrize(
    ("module", "choice", "kind"),
    [
        ("azureiotsecurity", "", Classic),
        ("DefenderIotMicroAgent", "", Micro),
        ("", "", Micro),
        ("azureiotsecurity", "micro", Micro),
        ("anything", "classic", Classic),
    ],
)
def test_the_module_name_decides_unless_an_option_does(tmp_path: Path, module, choice, kind):
    """A device of the classic generation is recognised by its connection string."""
    assert isinstance(dialect_of(module, tmp_path, Traffic, choice), kind)


def test_the_agent_id_lasts(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A GUID in the state directory, private; a damaged one is made anew."""
    made = agent_id(tmp_path)
    assert str(uuid.UUID(made)) == made == agent_id(tmp_path)
    assert (tmp_path / AGENT_ID).stat().st_mode & 0o777 == 0o600
    (tmp_path / AGENT_ID).write_text("no id")
    assert agent_id(tmp_path) != made
    assert "a new id is made" in caplog.text


def test_micro_timers_are_the_priorities(tmp_path: Path):
    """Every collector is drained by its own priority's."""
    dialect = Micro()
    plan = dialect.plan({"Process_MessageFrequency": "High", "CollectorsCore_PriorityIntervals": "1,2,3"})
    assert plan.timers == {"High": 60, "Medium": 120, "Low": 180}
    for collector in all_collectors(tmp_path):
        assert dialect.timer(plan, collector) == collector.priority(plan.settings)


def test_micro_sends_what_was_drained():
    """At once, in order."""
    dialect = Micro()
    (message,) = dialect.messages(dialect.plan({}), [login(), process()], {"Low"})
    assert [event.payload_type for event in decode(message.body).events] == ["Login", "Process"]


def test_classic_timers(tmp_path: Path):
    """Aggregated events have an interval each, snapshots one together; the others go with their priority."""
    dialect = classic()
    plan = dialect.plan({})
    assert plan.timers == {
        "High": 420,
        "Low": 18_000,
        SNAPSHOT: 46_800,
        "Process": 3600,
        "NetworkActivity": 3600,
    }
    running = [*all_collectors(tmp_path), StatisticsCollector()]
    timers = {c.name: dialect.timer(plan, c) for c in running if c.enabled(plan.settings)}
    snapshots = "SystemInformation ListeningPorts LocalUsers FirewallConfiguration ConnectedHardware Baseline"
    assert timers == {
        "Process": "Process",
        "NetworkActivity": "NetworkActivity",
        "Login": "High",
        "Statistics": "Low",
        **dict.fromkeys(snapshots.split(), SNAPSHOT),
    }
    single = dialect.plan(
        asked(
            aggregationEnabledProcessCreate=False,
            aggregationEnabledConnectionCreate=False,
            eventPriorityProcessCreate="High",
        )
    )
    timers = {c.name: dialect.timer(single, c) for c in running}
    assert (timers["Process"], timers["NetworkActivity"]) == ("Process", "Low")
    assert single.timers["Process"] == single.timers["High"]


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"aggregationIntervalProcessTerminate": "PT5M"}, 300),
        ({"aggregationIntervalProcessTerminate": "PT2H"}, 3_600),
        ({"aggregationIntervalProcessTerminate": "PT5M", "eventPriorityProcessTerminate": "Off"}, 3_600),
        ({"aggregationIntervalProcessCreate": "PT2H", "aggregationEnabledProcessTerminate": False}, 7_200),
        ({"aggregationEnabledProcessTerminate": False, "eventPriorityProcessTerminate": "High"}, 420),
    ],
)
def test_starts_and_ends_of_processes_are_taken_together(settings, seconds):
    """When the first of the two needs it; one that is off needs nothing."""
    assert classic().plan(asked(**settings)).timers["Process"] == seconds


@pytest.mark.parametrize(
    ("create", "terminate", "disabled", "ends"),
    [("Low", "Off", False, False), ("Off", "Low", False, True), ("Off", "Off", True, False)],
)
def test_either_kind_of_process_events_may_be_off(create, terminate, disabled, ends):
    """The collector is needed for one of them, and tells ends only if they are wanted."""
    plan = classic().plan(asked(eventPriorityProcessCreate=create, eventPriorityProcessTerminate=terminate))
    assert (plan.settings.process_disabled, plan.settings.process_report_exit) == (disabled, ends)
    batches = [process(), process("", event="EXIT")]
    sent = {event["Name"] for event in told(classic(), plan, batches, {"Low"})}
    levels = {"ProcessCreate": create, "ProcessTerminate": terminate}
    assert sent == {name for name, level in levels.items() if level == "Low"}


def test_classic_events_wait_for_their_priority():
    """What was drained in between comes with the next message of High or Low, in order."""
    dialect = classic()
    plan = dialect.plan({})
    assert told(dialect, plan, [process("a"), login("eve")], {"Process"}) == []
    assert told(dialect, plan, [process("b")], {"Process"}) == []
    (event,) = told(dialect, plan, [], {"High"})
    assert event["Name"] == "Login"
    commands = [e["Payload"][0]["CommandLine"] for e in told(dialect, plan, [], {"High", "Low"})]
    assert commands == ["a", "b"]
    assert told(dialect, plan, [], {"High", "Low"}) == []


def test_events_that_are_off_are_not_sent():
    """Even if their collector tells them."""
    dialect = classic()
    plan = dialect.plan(asked(eventPriorityLogin="Off"))
    assert told(dialect, plan, [login()], {"High", "Low"}) == []


def test_what_waits_is_bounded_and_losses_are_told():
    """Half of the cache for each queue; the oldest leave, counted for us and for the hub."""
    dialect = classic(Traffic(sent=7, failed=2))
    plan = dialect.plan(asked(maxLocalCacheSizeInBytes=8193, maxMessageSizeInBytes=8192))
    for i in range(40):
        told(dialect, plan, [process(f"command-{i}")], {"Process"})
    (loss,) = dialect.losses.take()
    assert loss == Loss(CACHE_FULL, loss.events, 3 * loss.events)
    statistics = Batch("Statistics", [], WINDOW, [])
    events = told(dialect, plan, [statistics], {"Low"})
    kept = [e["Payload"][0]["CommandLine"] for e in events if e["Name"] == "ProcessCreate"]
    # Two statistics events came after the counts were taken, and drove the oldest out.
    (late,) = dialect.losses.take()
    assert kept == [f"command-{i}" for i in range(loss.events + late.events, 40)]
    by_name = {e["Name"]: e["Payload"] for e in events}
    assert by_name["DroppedEventsStatistics"] == [
        {"Queue": "High", "CollectedEvents": 0, "DroppedEvents": 0},
        {"Queue": "Low", "CollectedEvents": 40, "DroppedEvents": loss.events},
    ]
    assert by_name["MessageStatistics"] == [{"MessagesSent": 7, "MessagesUnder4KB": 0, "TotalFailed": 2}]


def test_message_sizes_are_kept():
    """No message above maxMessageSizeInBytes."""
    dialect = classic()
    plan = dialect.plan(asked(maxMessageSizeInBytes=8192))
    batches = [process("x" * 900 + str(i)) for i in range(30)]
    messages = list(dialect.messages(plan, batches, {"Low"}))
    assert len(messages) > 3
    assert max(len(message.body) for message in messages) <= 8192


@pytest.mark.parametrize(
    ("values", "name", "error"),
    [
        ({"snapshotFrequency": 5}, "snapshotFrequency", "TypeMismatch"),
        ({"highPriorityMessageFrequency": "PT9H"}, "highPriorityMessageFrequency", "Conflict"),
    ],
)
def test_a_refused_object_becomes_an_event(values, name, error):
    """The setting, what is wrong with it, and what is in force instead; the report shows the latter."""
    dialect = classic()
    plan = dialect.plan(asked(snapshotFrequency="PT2H"))
    with pytest.raises(InvalidSettings) as caught:
        dialect.plan(asked(**values))
    dialect.refused(plan, caught.value)
    (event,) = told(dialect, plan, [], {"Low"})
    (item,) = event["Payload"]
    assert (event["Name"], item["ConfigurationName"], item["ErrorType"]) == (
        "ConfigurationError",
        name,
        error,
    )
    assert item["UsedConfiguration"] == plan.own.document()[OBJECT][name]["value"]
    assert dialect.report(plan, caught.value.fields)[OBJECT]["snapshotFrequency"] == {"value": "PT2H"}


@pytest.mark.parametrize(("size", "told_of"), [(8_192, []), (9_000, ["NotOptimal"])])
def test_a_wasteful_message_size_is_told(size, told_of):
    """It is in force: what is metered by 4 KB had better be cut by 4 KB."""
    dialect = classic()
    plan = dialect.plan(asked(maxMessageSizeInBytes=size))
    dialect.adopted(plan)
    items = [item for event in told(dialect, plan, [], {"Low"}) for item in event["Payload"]]
    assert [item["ErrorType"] for item in items] == told_of
    assert all(item["UsedConfiguration"] == str(size) for item in items)


@pytest.mark.parametrize(
    ("dialect", "desired"),
    [(Micro(), {"Process_CacheSize": 9}), (classic(), asked(snapshotFrequency="PT1H"))],
)
def test_the_last_good_plan_is_remembered(tmp_path: Path, dialect, desired):
    """Each dialect in its own file: changing over and back does not mix them up."""
    assert dialect.remembered(tmp_path) == dialect.plan({})
    plan = dialect.plan(desired)
    save_cached(tmp_path, dialect.document(plan) | {"$version": 4}, dialect.cache)
    assert dialect.remembered(tmp_path) == plan
    other = classic() if isinstance(dialect, Micro) else Micro()
    assert other.remembered(tmp_path) == other.plan({})


def test_a_cached_object_of_another_version_means_defaults(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Said, not guessed."""
    save_cached(tmp_path, asked(ofAnotherVersion=1), Classic.cache)
    assert classic().remembered(tmp_path) == classic().plan({})
    assert "cached twin" in caplog.text


def test_priorities_bear_the_names_of_the_timers():
    """What the daily units hold back is told by these names, in both dialects."""
    assert set(Micro().plan({}).timers) == set(Priority)
    assert {"High", "Low"} <= set(classic().plan({}).timers)
    assert Settings().daily_units == 0
