"""Recommendations come and go with their cause."""

import re
from contextlib import closing
from pathlib import Path

import pytest
from detect_support import NOW, Rig, message

from vedette.hub.detect.changes import Changes, Position
from vedette.hub.detect.taxonomy import Observed
from vedette.hub.findings import findings
from vedette.hub.lake import Lake
from vedette.hub.posture import (
    Posture,
    Recommendations,
    configuration,
    exposure,
    fleet_score,
    messages,
    software,
    survey,
    transport,
)
from vedette.hub.posture.assess import Weakness
from vedette.hub.posture.survey import Survey
from vedette.hub.registry import Registry
from vedette.wire.events import (
    Baseline,
    FirewallConfiguration,
    FirewallRule,
    ListeningPort,
    ListeningPorts,
)
from vedette.wire.iothub import CLASSIC_MODULE, Identity


def check(number: str, result: str, severity: str = "Important") -> Baseline:
    return Baseline(
        event_id="scan",
        baseline_check_id=f"CIS-debian-12-SSH_Server-{number}" if number[0].isdigit() else number,
        baseline_check_result=result,
        baseline_check_description="Root logins over SSH are refused. Otherwise a guess is enough.",
        baseline_check_remediation="PermitRootLogin no",
        baseline_check_severity=severity,
        baseline_check_evidence=("/etc/ssh/sshd_config: PermitRootLogin yes",),
    )


def port(address: str, number: int) -> ListeningPort:
    return ListeningPort(protocol="TCP", local_address=address, local_port=number, user_id=0)


@pytest.fixture
def known(rig: Rig) -> Recommendations:
    return Recommendations(rig.database)


def states(known: Recommendations) -> dict[str, str]:
    return {one.name: one.state for one in known.list()}


async def test_a_failed_check_is_active_until_it_passes(rig: Rig, known: Recommendations):
    """Evidence stays, the state follows. ERROR tells nothing, SKIP that there is nothing left to check."""
    worker = rig.worker(posture=Posture())
    name = "IoT_CISBenchmarks_5.2.10"
    for minute, (result, state) in enumerate(
        [
            ("FAIL", "Active"),
            ("ERROR", "Active"),
            ("PASS", "Resolved"),
            ("FAIL", "Active"),
            ("SKIP", "Resolved"),
        ]
    ):
        await rig.send(message(check("5.2.10", result), at=NOW + 60 * minute))
        rig.judge(NOW + 60 * minute, worker)
        assert states(known) == {name: state}
    [one] = known.list()
    assert one.severity == "High"
    assert one.title == "Root logins over SSH are refused"
    assert one.remediation == "PermitRootLogin no"
    assert one.data["Evidence"] == ["/etc/ssh/sshd_config: PermitRootLogin yes"]
    assert one.resolved == NOW + 240


async def test_a_check_that_passed_from_the_start_is_no_recommendation(rig: Rig, known: Recommendations):
    """It only counts for the score."""
    await rig.send(message(check("5.2.10", "PASS")))
    rig.judge(worker=rig.worker(posture=Posture()))
    assert known.list() == []
    assert known.scores() == {"d1": 100.0}


async def test_an_old_scan_that_comes_late_does_not_undo_a_newer(rig: Rig, known: Recommendations):
    """Time is the device's."""
    worker = rig.worker(posture=Posture())
    await rig.send(message(check("5.2.10", "FAIL"), at=NOW))
    rig.judge(worker=worker)
    await rig.send(message(check("5.2.10", "PASS"), at=NOW - 3600, received=NOW + 60))
    rig.judge(NOW + 60, worker)
    assert states(known) == {"IoT_CISBenchmarks_5.2.10": "Active"}


async def test_the_self_test_shows_in_the_documented_query(rig: Rig):
    """A file on the device makes one more check fail, and this is how an owner looks for it."""
    await rig.send(message(check("CIS-debian-12-Self_Test-DIoTTest", "FAIL", "Informational")))
    rig.judge(worker=rig.worker(posture=Posture()))
    lake = Lake(rig.lake, findings(rig.database))
    result = lake.query(
        'SecurityRecommendation | where RecommendationName contains "IoT_CISBenchmarks_DIoTTest"'
        ' | where DeviceId contains "d1" | top 1 by TimeGenerated desc'
    )
    [row] = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    assert row["RecommendationState"] == "Active"
    assert row["RecommendationSeverity"] == "Low"


async def test_open_ports_are_those_that_others_can_reach(rig: Rig, known: Recommendations):
    """Loopback does not count, and parts of a snapshot are judged together."""
    worker = rig.worker(posture=Posture())
    first = ListeningPorts(snapshot_id="a", ports=(port("127.0.0.1", 5432),))
    await rig.send(message(first))
    rig.judge(worker=worker)
    assert states(known) == {}
    parts = [
        ListeningPorts(snapshot_id="b", part=n, parts=2, ports=(port(address, 22),))
        for n, address in ((1, "0.0.0.0"), (2, "::"))
    ]
    await rig.send(message(parts[0], at=NOW + 60))
    rig.judge(NOW + 60, worker)
    assert states(known) == {}
    await rig.send(message(parts[1], at=NOW + 60))
    rig.judge(NOW + 70, worker)
    [one] = known.list()
    assert (one.name, one.data["Count"]) == ("IoT_OpenPorts", 2)


async def test_a_packet_filter_that_lets_everything_in_is_permissive(rig: Rig, known: Recommendations):
    """By its policy, by a rule that asks for nothing, or by not being there."""
    worker = rig.worker(posture=Posture())
    base = {"backend": "nftables", "family": "inet", "table": "filter", "direction": "In"}
    policy = FirewallRule(position=1, chain="input", policy=True, action="accept", **base)
    rule = FirewallRule(position=2, chain="input", action="accept", **base)
    narrow = FirewallRule(position=2, chain="input", action="accept", destination_port="22", **base)
    drop = FirewallRule(position=1, chain="input", policy=True, action="drop", **base)
    await rig.send(message(FirewallConfiguration(snapshot_id="a", rules=(policy, rule))))
    rig.judge(worker=worker)
    assert states(known) == {
        "IoT_PermissiveFirewallPolicy": "Active",
        "IoT_PermissiveInputFirewallRules": "Active",
    }
    await rig.send(message(FirewallConfiguration(snapshot_id="b", rules=(drop, narrow)), at=NOW + 60))
    rig.judge(NOW + 60, worker)
    assert set(states(known).values()) == {"Resolved"}
    await rig.send(message(FirewallConfiguration(snapshot_id="c"), at=NOW + 120))
    rig.judge(NOW + 120, worker)
    assert states(known)["IoT_PermissiveFirewallPolicy"] == "Active"


async def test_a_key_that_two_devices_share_is_found_and_never_shown(rig: Rig, known: Recommendations):
    """Both are named to each other; a key of their own resolves it."""
    registry = Registry(rig.url)
    key = "c2hhcmVkLXNoYXJlZC1zaGFyZWQtc2hhcmVkIQ=="
    own = "b3duLW93bi1vd24tb3duLW93bi1vd24tb3duIQ=="
    for device in ("a", "b"):
        registry.add(Identity(device), keys=(key, own.replace("b3", device * 2)))
    registry.add(Identity("c"))
    await rig.send(message(check("5.2.10", "PASS")))
    worker = rig.worker(posture=Posture())
    rig.judge(worker=worker)
    found = {one.device_id: one.data["Devices"] for one in known.list(name="IoT_SharedCredentials")}
    assert found == {"a": ["b"], "b": ["a"]}
    assert key not in str(known.list())
    registry.remove(Identity("b"))
    rig.judge(NOW + 3700, worker)
    registry.close()
    assert {o.device_id: o.state for o in known.list(name="IoT_SharedCredentials")}["a"] == "Resolved"


def test_a_large_fleet_is_looked_through_in_slices(
    rig: Rig, known: Recommendations, monkeypatch: pytest.MonkeyPatch
):
    """Keys are shared across slices; no call takes more devices than a slice has."""
    monkeypatch.setattr(survey, "SLICE", 3)
    key = "c2hhcmVkLXNoYXJlZC1zaGFyZWQtc2hhcmVkIQ=="
    with closing(Registry(rig.url)) as registry:
        for number in range(8):
            registry.add(Identity(f"d{number}"), keys=(key, key) if number in (0, 7) else None)
    look, found, calls = Survey(), [], 0
    while len(found) < 8:
        with rig.database.read.begin() as session:
            found += (assessed := look(session, NOW))
        assert len(assessed) <= 3
        calls += 1
    assert calls == 2 + 3  # all keys are read in 3 calls, of which the last begins to assess
    assert {one.device: one.data for one in found if not one.passed} == {
        "d0": {"Devices": ["d7"], "Count": 1},
        "d7": {"Devices": ["d0"], "Count": 1},
    }
    with rig.database.read.begin() as session:
        assert look(session, NOW + 60) == []


async def test_a_twin_that_the_device_refuses_or_that_blinds_it(rig: Rig, known: Recommendations):
    """The fields are named."""
    registry = Registry(rig.url)
    identity = Identity("d1", "agent")
    registry.add(Identity("d1"))
    registry.add(identity)
    registry.patch_desired(identity, {"Process_Disabled": True})
    registry.patch_reported(identity, {"latest_state": "failed", "latest_invalid_fields": ["Process_Mode"]})
    await rig.send(message(check("5.2.10", "PASS")))
    rig.judge(worker=rig.worker(posture=Posture()))
    registry.close()
    assert {one.name: one.data for one in known.list()} == {
        "IoT_TwinConfigurationConflict": {"Fields": ["Process_Mode"]},
        "IoT_TwinConfigurationNotOptimal": {"Disabled": ["Process"], "Wasteful": []},
    }


async def test_the_score_weighs_and_the_fleet_view_counts(rig: Rig, known: Recommendations):
    """High 10, Medium 5, Low 1; the fleet's score is the mean."""
    await rig.send(
        message(
            check("5.2.10", "FAIL"),
            check("5.2.8", "PASS", "Warning"),
            check("5.2.19", "PASS", "Informational"),
        ),
        message(check("5.2.10", "FAIL"), check("5.2.9", "PASS"), device="d2"),
        message(check("5.2.10", "PASS"), device="d3"),
    )
    rig.judge(worker=rig.worker(posture=Posture()))
    scores = known.scores()
    assert scores == {"d1": 37.5, "d2": 50.0, "d3": 100.0}
    assert fleet_score(scores) == 62.5
    assert [(one.name, one.devices, one.since) for one in known.fleet()] == [
        ("IoT_CISBenchmarks_5.2.10", 2, NOW)
    ]


def test_every_recommendation_is_documented_with_its_severity():
    """docs/alerts.md lists them all."""
    modules = (configuration, exposure, messages, software, transport)
    known = [value for module in modules for value in vars(module).values() if isinstance(value, Weakness)]
    text = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text()
    listed = dict(re.findall(r"^\| `(IoT_\w+)` \| (\w+)", text, re.MULTILINE))
    severities = {one.name: one.severity for one in known}
    assert listed == severities | {software.VULNERABLE.name: "that"}


def sent(hour: int, *, long: bool, device: str = "d1") -> Observed:
    """An hour's message, above a metered unit or below."""
    at = NOW + 3600 * hour
    name = f"{device}-{hour}"
    return Observed(name, device, "agent", "Heartbeat", {}, at, at, at, 1, name, 5000 if long else 500)


def test_small_messages_are_told_after_a_day_of_them(rig: Rig, known: Recommendations):
    """A tenth is enough, larger ones resolve it; a device of less than a day is not judged."""
    with closing(Registry(rig.url)) as registry:
        for device in ("d1", "d2"):
            registry.add(Identity(device))
    posture, told = Posture(), []
    first = [sent(hour, long=hour % 8 > 0) for hour in range(25)]
    later = [sent(hour, long=True) for hour in range(25, 49)]
    for day, events in enumerate(([*first, sent(24, long=False, device="d2")], later), 1):
        with rig.database.write.begin() as session:
            posture(session, events, NOW + day * 24 * 3600)
        [one] = known.list(name="IoT_SmallMessages")
        told.append((one.device_id, one.state, one.data))
    data = {"Messages": 24, "Under4KB": 3}
    assert told == [("d1", "Active", data), ("d1", "Resolved", data)]


async def test_an_event_tells_how_long_its_details_are(rig: Rig):
    """As they are stored, which small messages are told by."""
    await rig.send(message(check("5.2.10", "PASS")))
    [event] = Changes(rig.lake).after(Position(0, 0.0)).events
    [(stored,)] = Lake(rig.lake).query("SELECT length(EventDetails) FROM raw_events", "sql").rows
    assert event.size == stored > 100


def test_the_classic_agent_counts_its_small_messages_itself(rig: Rig, known: Recommendations):
    """Its own number is believed."""
    worker, states = Posture(), []
    for minute, small in enumerate(("1", "0")):
        details = {"MessagesSent": "10", "MessagesUnder4KB": small}
        at = NOW + 60 * minute
        event = Observed(f"e{minute}", "d1", CLASSIC_MODULE, "MessageStatistics", details, at, at, at, 1, "m")
        with rig.database.write.begin() as session:
            worker(session, [event], at)
        states += [one.state for one in known.list()]
    assert states == ["Active", "Resolved"]


CLASSIC_OBJECT = "ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration"


@pytest.mark.parametrize(
    ("module", "in_force", "wasteful"),
    [
        ("agent", {"CollectorsCore_PriorityIntervals": "0.1,0.3,30"}, []),
        ("agent", {"CollectorsCore_PriorityIntervals": "30,120,1000"}, ["CollectorsCore_PriorityIntervals"]),
        ("agent", {"CollectorsCore_PriorityIntervals": ["much"]}, []),
        (CLASSIC_MODULE, {CLASSIC_OBJECT: {"maxMessageSizeInBytes": {"value": 204_800}}}, []),
        (
            CLASSIC_MODULE,
            {CLASSIC_OBJECT: {"maxMessageSizeInBytes": {"value": 9_000}}},
            ["maxMessageSizeInBytes"],
        ),
        (CLASSIC_MODULE, {CLASSIC_OBJECT: {"maxMessageSizeInBytes": [9_000]}}, []),
    ],
)
def test_a_twin_that_wastes_messages_is_not_optimal(
    rig: Rig, known: Recommendations, module, in_force, wasteful
):
    """Intervals that never fall together, and sizes that are paid for but cannot be filled."""
    registry = Registry(rig.url)
    identity = Identity("d1", module)
    registry.add(Identity("d1"))
    registry.add(identity)
    registry.patch_reported(
        identity, {"latest_state": "success"} | in_force if module == "agent" else in_force
    )
    registry.close()
    with rig.database.write.begin() as session:
        Posture()(session, [], NOW)
    found = {one.name: one.data["Wasteful"] for one in known.list()}
    assert found == ({"IoT_TwinConfigurationNotOptimal": wasteful} if wasteful else {})


def test_a_twin_that_is_mended_resolves(rig: Rig, known: Recommendations):
    """Of both dialects: what the device refused, and what blinded it."""
    registry = Registry(rig.url)
    micro, classic = Identity("d1", "agent"), Identity("d2", CLASSIC_MODULE)
    for identity in (Identity("d1"), micro, Identity("d2"), classic):
        registry.add(identity)
    names = ["IoT_TwinConfigurationConflict", "IoT_TwinConfigurationNotOptimal"]
    states = []
    for hour, good in enumerate((False, True)):
        registry.patch_desired(micro, {"Login_Disabled": not good})
        registry.patch_reported(micro, {"latest_state": "success" if good else "failed"})
        priority = {"value": "High" if good else "Off"}
        size = {"value": 204800 if good else 1}
        wanted = {"eventPriorityProcessCreate": priority, "maxMessageSizeInBytes": size}
        in_force = {"eventPriorityProcessCreate": priority, "maxMessageSizeInBytes": {"value": 204800}}
        registry.patch_desired(classic, {CLASSIC_OBJECT: wanted})
        registry.patch_reported(classic, {CLASSIC_OBJECT: in_force})
        with rig.database.write.begin() as session:
            Posture()(session, [], NOW + 3600 * hour)
        states.append({(one.device_id, one.name): one.state for one in known.list()})
        evidence = {one.name: one.data for one in known.list(device="d2")}
    registry.close()
    everything = [(device, name) for device in ("d1", "d2") for name in names]
    assert states == [dict.fromkeys(everything, "Active"), dict.fromkeys(everything, "Resolved")]
    assert evidence == {
        names[0]: {"Fields": ["maxMessageSizeInBytes"]},
        names[1]: {"Disabled": ["ProcessCreate"], "Wasteful": []},
    }
