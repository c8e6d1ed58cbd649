"""Messages in the classic dialect: valid, with the documented identities and zeroed fields."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.hub.decode.classic import decode
from vedette.wire.classic import ClassicSettings
from vedette.wire.classic_events import (
    CONFIGURATION,
    DROPPED,
    MESSAGES,
    PROPERTIES,
    Origin,
    Ready,
    classic_events,
    classic_messages,
    told,
)
from vedette.wire.classic_items import ConfigurationError, DroppedEvents, MessageStatistics
from vedette.wire.events import (
    Baseline,
    ConnectedHardware,
    Event,
    FirewallConfiguration,
    FirewallRule,
    HardwareDevice,
    Heartbeat,
    ListeningPort,
    ListeningPorts,
    LocalUser,
    LocalUsers,
    Log,
    Login,
    NetworkActivity,
    Payload,
    Process,
    SystemInformation,
)
from vedette.wire.iothub import decode_properties
from vedette.wire.message import Window

SCHEMA = json.loads((Path(__file__).parent.parent.parent / "docs/reference/classic.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
ORIGIN = Origin("072f3eca-3db0-45ba-8174-fa383bc93caf", "pump", 4711, 7200)
WINDOW = Window(1_750_000_000.0, 1_750_003_600.0)
MERGED = ClassicSettings()
SINGLE = ClassicSettings(
    aggregate_process_create=False, aggregate_process_terminate=False, aggregate_connection_create=False
)


def process(command: str = "ls -l", user: int = 0, event: str = "EXEC", **fields: object) -> Process:
    return Process(
        event_type=event,
        process_id=77,
        parent_process_id=1,
        commandline=command,
        executable=f"/bin/{command.split()[0]}",
        user_name="root",
        user_id=user,
        **fields,
    )


def flow(local: int, remote: int, command: str = "curl x", **fields: object) -> NetworkActivity:
    facts = {"local_address": "192.0.2.7", "remote_address": "198.51.100.9", "protocol": "TCP"}
    return NetworkActivity(
        **(facts | fields),
        local_port=local,
        remote_port=remote,
        process_id=9,
        user_id=33,
        commandline=command,
        bytes_in=5,
    )


EVERYTHING: list[Payload] = [
    process(),
    process("make", event="FORK"),
    process("ls", event="EXIT", exit_status=2),
    process("ls", event="EXIT", exit_signal=9),
    flow(40_000, 443),
    flow(22, 50_000),
    flow(0, 0, protocol="ICMP"),
    flow(22, 50_000, local_address="2001:db8::1", remote_address="2001:db8::2"),
    Login(operation="Login", user_name="eve", executable="pts/0", remote_address="203.0.113.5", process_id=5),
    Login(operation="LoginFailed", user_name="UNKNOWN", remote_address="host.example"),
    Login(operation="Logout", user_name="eve"),
    ListeningPorts(
        snapshot_id="a",
        ports=(
            ListeningPort(
                protocol="TCP", local_address="::", local_port=22, user_id=0, executable="/usr/sbin/sshd"
            ),
        ),
    ),
    LocalUsers(
        snapshot_id="b",
        users=(LocalUser(user_name="daemon", user_id=1, group_ids=(1, 2), group_names=("daemon", "bin")),),
    ),
    FirewallConfiguration(
        snapshot_id="c",
        rules=(
            FirewallRule(
                position=1,
                backend="nftables",
                family="inet",
                table="f",
                chain="input",
                direction="In",
                action="drop",
                policy=True,
            ),
            FirewallRule(
                position=2,
                backend="iptables",
                family="ip",
                table="filter",
                chain="FORWARD",
                direction="Forward",
                action="accept",
                protocol="tcp",
                destination_port="22",
            ),
            FirewallRule(
                position=3, backend="iptables", family="ip", table="filter", chain="x", action="jump y"
            ),
        ),
    ),
    FirewallConfiguration(snapshot_id="none"),
    ConnectedHardware(
        snapshot_id="d",
        devices=(
            HardwareDevice(bus="USB", address="1-1", vendor_id="0bda", product_id="8153", vendor="Realtek"),
        ),
    ),
    SystemInformation(os_dist="Debian GNU/Linux", os_version="Debian 12", agent_version="1", kernel="6.1"),
    *(
        Baseline(
            event_id="s",
            baseline_check_id="CIS-debian-12-Time-2.2.1.1",
            baseline_check_result=result,
            baseline_check_description="A clock is kept",
            baseline_check_severity="Warning",
        )
        for result in ("PASS", "FAIL", "SKIP", "ERROR")
    ),
    Log(level="ERROR", logger="vedette.agent", template="t %s", message="t x"),
    Heartbeat(agent_uptime=1, system_uptime=2, boot_id="b"),
]
ABOUT_US = [
    *told(
        CONFIGURATION,
        [
            ConfigurationError(
                configuration_name="snapshotFrequency",
                error_type="TypeMismatch",
                used_configuration="PT13H",
                message="not a duration",
            )
        ],
        WINDOW.end,
        ORIGIN,
    ),
    *told(DROPPED, [DroppedEvents(queue="Low", collected_events=5, dropped_events=1)], WINDOW.end, ORIGIN),
    *told(MESSAGES, [MessageStatistics(messages_sent=3, small=2, failed=0)], WINDOW.end, ORIGIN),
]


def written(
    payloads: list[Payload], settings: ClassicSettings = MERGED, hits: int = 1
) -> list[dict[str, object]]:
    """The events of one cycle as they stand in a message, which is valid."""
    events = [Event(payload, WINDOW.start + 60.25, hits) for payload in payloads]
    ready = [ready for _, ready in classic_events(events, WINDOW, settings, ORIGIN)]
    found: list[dict[str, object]] = []
    for message in classic_messages(ready, ORIGIN, max_bytes=204_800):
        document = json.loads(message.body)
        VALIDATOR.validate(document)
        found += document["Events"]
    return found


def items(events: list[dict[str, object]], name: str) -> list[dict[str, object]]:
    return [item for event in events if event["Name"] == name for item in event["Payload"]]


@pytest.mark.parametrize("settings", [MERGED, SINGLE])
def test_every_event_is_valid(settings):
    """All that collectors can yield, aggregated or not, in the envelope of the public schema."""
    events = written(EVERYTHING, settings)
    assert {event["Name"] for event in events} == {
        *("ProcessCreate", "ProcessTerminate", "ConnectionCreate", "Login", "ListeningPorts"),
        *("LocalUsers", "OSBaseline"),
        *("FirewallConfiguration", "SystemInformation", "ConnectedHardware", "Diagnostic"),
    }
    message = next(classic_messages([ready for _, ready in ABOUT_US], ORIGIN, max_bytes=204_800))
    document = json.loads(message.body)
    VALIDATOR.validate(document)
    assert [event["Name"] for event in document["Events"]] == [
        "ConfigurationError",
        "DroppedEventsStatistics",
        "MessageStatistics",
    ]


@pytest.mark.parametrize(
    "path",
    [[], ["Events", 0], ["Events", 0, "Payload", 0]],
    ids=["message", "event", "item"],
)
def test_extra_keys_are_invalid(path):
    """At every level; and so are ports that are numbers."""
    ready = [r for _, r in classic_events([Event(process(), 1.0)], WINDOW, MERGED, ORIGIN)]
    document = json.loads(next(classic_messages(ready, ORIGIN, max_bytes=8192)).body)
    VALIDATOR.validate(document)
    place = document
    for step in path:
        place = place[step]
    place["Extra"] = "x"
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(document)


def test_the_envelope():
    """Who speaks, in which schema; times in UTC and in local time with its offset."""
    ready = [r for _, r in classic_events([Event(process(), 1.0)], WINDOW, MERGED, ORIGIN)]
    (message,) = classic_messages(ready, ORIGIN, max_bytes=8192)
    document = json.loads(message.body)
    event = document.pop("Events")[0]
    assert document.pop("AgentVersion")
    assert document == {"AgentId": ORIGIN.agent_id, "MessageSchemaVersion": "1.0"}
    assert event["TimestampUTC"] == "2025-06-15T16:06:40.000Z"
    assert event["TimestampLocal"] == "2025-06-15T18:06:40.000+02:00"
    assert message.properties == PROPERTIES
    assert decode_properties(message.properties) == {
        "$.ce": "application/json",
        "$.ifid": "urn:azureiot:Security:SecurityAgent:1",
    }


def test_aggregated_processes():
    """Process ids are 0; how often, and from the last flush to this one, stands in ExtraDetails."""
    (item,) = items(written([process()], hits=42), "ProcessCreate")
    assert item == {
        "Executable": "/bin/ls",
        "ProcessId": 0,
        "ParentProcessId": 0,
        "UserId": "0",
        "UserName": "root",
        "CommandLine": "ls -l",
        "ExtraDetails": {
            "HitCount": "42",
            "StartTimeUtc": "2025-06-15T15:06:40.000Z",
            "EndTimeUtc": "2025-06-15T16:06:40.000Z",
            "StartTimeLocal": "2025-06-15T17:06:40.000+02:00",
            "EndTimeLocal": "2025-06-15T18:06:40.000+02:00",
        },
    }


def test_processes_without_aggregation():
    """Each with its ids and at its own time; forks are no creations in this dialect."""
    events = written([process(), process("make", event="FORK")], SINGLE)
    assert [event["TimestampUTC"] for event in events] == ["2025-06-15T15:07:40.250Z"]
    (item,) = items(events, "ProcessCreate")
    assert (item["ProcessId"], item["ParentProcessId"]) == (77, 1)
    assert "ExtraDetails" not in item


def test_aggregated_ends_of_processes():
    """Executable and exit status tell them apart; what a signal ended has a shell's status, and says so."""
    ended = [process("ls", event="EXIT", exit_status=2), process("ls", event="EXIT", exit_signal=9)]
    by_status, by_signal = items(written(ended, hits=7), "ProcessTerminate")
    assert (by_status["Executable"], by_status["ProcessId"], by_status["ExitStatus"]) == ("/bin/ls", 0, 2)
    assert (by_status["ExtraDetails"]["HitCount"], by_signal["ExitStatus"]) == ("7", 137)
    assert "Signal" not in by_status["ExtraDetails"]
    assert by_signal["ExtraDetails"]["Signal"] == "9"


def test_ends_of_processes_without_aggregation():
    """Each with its process id and at its own time."""
    events = written([process("ls", event="EXIT", exit_status=0)], SINGLE)
    assert [event["TimestampUTC"] for event in events] == ["2025-06-15T15:07:40.250Z"]
    assert items(events, "ProcessTerminate") == [{"Executable": "/bin/ls", "ProcessId": 77, "ExitStatus": 0}]


def test_aggregated_connections():
    """Outgoing ones that differ in the source port, and accepted ones in the client's, are the same."""
    payloads = [flow(40_000 + i, 443) for i in range(5)] + [flow(22, 50_000 + i, "sshd") for i in range(3)]
    outgoing, accepted = items(written([*payloads, flow(41_000, 8443)]), "ConnectionCreate")[:2]
    assert (outgoing["Direction"], outgoing["LocalPort"], outgoing["RemotePort"]) == ("Out", "0", "443")
    assert (accepted["Direction"], accepted["LocalPort"], accepted["RemotePort"]) == ("In", "22", "0")
    assert [item["ExtraDetails"]["HitCount"] for item in (outgoing, accepted)] == ["5", "3"]
    assert (outgoing["ProcessId"], outgoing["UserId"], outgoing["Executable"]) == (0, "33", "curl")


@pytest.mark.parametrize(
    "other",
    [
        flow(40_001, 443, "wget x"),
        flow(40_001, 444),
        flow(40_001, 443, protocol="UDP"),
        flow(40_001, 443, local_address="192.0.2.8"),
        flow(40_001, 443, remote_address="198.51.100.1"),
        flow(443, 40_001),
    ],
)
def test_other_connections_stay_apart(other):
    """Command line, direction, addresses, protocol and target port belong to the identity."""
    assert len(items(written([flow(40_000, 443), other]), "ConnectionCreate")) == 2


def test_connections_without_aggregation():
    """All as they were."""
    found = items(written([flow(40_000, 443), flow(40_001, 443)], SINGLE), "ConnectionCreate")
    assert [(item["LocalPort"], item["ProcessId"]) for item in found] == [("40000", 9), ("40001", 9)]


def test_logins():
    """Each is an event of its own; what is no address is not called one."""
    events = written([p for p in EVERYTHING if isinstance(p, Login)])
    assert [(e["Name"], len(e["Payload"])) for e in events] == [("Login", 1)] * 3
    assert [item["Result"] for item in items(events, "Login")] == ["Success", "Fail", "Success"]
    failed = items(events, "Login")[1]
    assert "RemoteAddress" not in failed
    assert failed["ExtraDetails"] == {"RemoteHost": "host.example"}


def test_snapshots():
    """Lists joined by semicolons, rules as allowed or denied, an empty state said to be empty."""
    events = written(EVERYTHING)
    (user,) = items(events, "LocalUsers")
    assert (user["GroupIds"], user["GroupNames"]) == ("1;2", "daemon;bin")
    first, second, third = items(events, "FirewallConfiguration")
    assert [rule["Action"] for rule in (first, second, third)] == ["Deny", "Allow", "Other"]
    assert first["Direction"] == "In"
    assert "Direction" not in second
    assert second["ExtraDetails"]["Direction"] == "Forward"
    assert third["ExtraDetails"]["Action"] == "jump y"
    empty = [event for event in events if event["IsEmpty"]]
    assert [(event["Name"], event["Payload"]) for event in empty] == [("FirewallConfiguration", [])]
    assert [item["Result"] for item in items(events, "OSBaseline")] == ["Pass", "Fail", "Err"]


@given(
    st.lists(st.tuples(st.text(max_size=3000), st.integers(0, 5)), max_size=40, unique=True),
    st.integers(8192, 20_000),
    st.integers(1, 10**12),
)
def test_messages_keep_to_their_size_and_lose_nothing(commands, limit, hits):
    """Whatever the command lines hold: every item once, no message above the limit, hits add up."""
    events = [Event(process(f"x {c}", u), 1.0, hits) for c, u in commands]
    ready = [ready for _, ready in classic_events(events, WINDOW, MERGED, ORIGIN)]
    messages = list(classic_messages(ready, ORIGIN, max_bytes=limit))
    assert all(len(m.body) + len(m.properties) <= limit for m in messages if m.events > 1)
    documents = [json.loads(message.body) for message in messages]
    for document in documents:
        VALIDATOR.validate(document)
    found = [
        (item["CommandLine"], item["UserId"]) for d in documents for e in d["Events"] for item in e["Payload"]
    ]
    assert found == [(f"x {c}", str(u)) for c, u in commands]
    assert sum(message.hits for message in messages) == hits * len(commands)


def test_our_hub_reads_them():
    """Every item of ours becomes a row, none a dead letter."""
    events = [Event(payload, 1_750_000_000.0) for payload in EVERYTHING]
    ready: list[Ready] = [r for _, r in [*classic_events(events, WINDOW, MERGED, ORIGIN), *ABOUT_US]]
    (message,) = classic_messages(ready, ORIGIN, max_bytes=204_800)
    decoded = decode(message.body)
    assert decoded.unreadable == []
    written = [item or None for e in json.loads(message.body)["Events"] for item in e["Payload"] or [{}]]
    assert len(decoded.readings) == len(written)
