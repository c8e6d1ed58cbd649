"""Rules that stand in the registry, and what they do to a detection that runs."""

import json

import pytest
from detect_support import NOW, SHELL, Rig, message, process

from vedette.cli import main
from vedette.hub.detect.alerts import Suppression
from vedette.hub.detect.rulebook import LOOK_S, Rulebook
from vedette.hub.detect.rules import BUILT_IN, RuleError
from vedette.hub.detect.schema import Database
from vedette.hub.registry import Registry
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.fleet import TwinChange
from vedette.hub.settings import HubSettings, HubState
from vedette.wire.iothub import Identity

WORD = """
title: Word in a command
id: 5d0f7d84-6a07-4a3b-9a8b-9be2b7a8f1c2
logsource: {product: linux, category: process_creation}
level: low
detection: {word: {CommandLine|contains: xyzzy}, condition: word}
"""
SHELL_RULE = "IoT_ReverseShell"


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(rig: Rig, tmp_path, clock: Clock) -> Rulebook:
    return Rulebook(rig.database, tmp_path / "rules", clock)


def by_alert(book: Rulebook, alert: str):
    return next(rule for rule in book.rules().rules if rule.alert == alert)


async def test_a_rule_is_switched_off_and_on_while_detection_runs(rig: Rig, book: Rulebook, clock: Clock):
    """The worker that runs judges by what the registry says now."""
    rig.rules = book.rules()
    worker = rig.worker(changed=book.changed)
    await rig.send(message(process(SHELL)))
    rig.judge(worker=worker)
    assert rig.types() == [SHELL_RULE]
    book.switch(by_alert(book, SHELL_RULE).id, enabled=False, who="ana")
    clock.now += LOOK_S
    await rig.send(message(process(SHELL.replace("4444", "5555")), device="d2"))
    rig.judge(NOW + 60, worker)
    assert len(rig.found()) == 1, "it was off"
    book.switch(by_alert(book, SHELL_RULE).id, enabled=True, who="ana")
    clock.now += LOOK_S
    await rig.send(message(process(SHELL.replace("4444", "6666")), device="d3"))
    rig.judge(NOW + 120, worker)
    assert {alert.device_id for alert in rig.found()} == {"d1", "d3"}
    worker.release()


async def test_a_rule_that_is_saved_takes_effect_without_a_restart(rig: Rig, book: Rulebook, clock: Clock):
    """And is gone when it is removed."""
    rig.rules = book.rules()
    worker = rig.worker(changed=book.changed)
    book.save("word", WORD, "ana")
    clock.now += LOOK_S
    await rig.send(message(process("echo xyzzy")))
    rig.judge(worker=worker)
    assert rig.types() == ["Word in a command"]
    book.remove("word")
    clock.now += LOOK_S
    await rig.send(message(process("echo xyzzy"), device="d2"))
    rig.judge(NOW + 60, worker)
    assert len(rig.found()) == 1
    worker.release()


def test_another_hub_sees_what_was_saved(rig: Rig, book: Rulebook, tmp_path):
    """The registry holds it, not a directory of one of them."""
    other = Rulebook(rig.database, tmp_path / "elsewhere")
    other.rules()
    book.save("word", WORD, "ana")
    assert by_alert(other, "Word in a command").path == "registry:word"


def test_a_file_that_changes_is_noticed(book: Rulebook, tmp_path, clock: Clock):
    """As is one that goes."""
    book.rules()
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/word.yml").write_text(WORD)
    come = book.changed()
    assert come is not None
    assert "Word in a command" in {rule.alert for rule in come.rules}
    (tmp_path / "rules/word.yml").unlink()
    clock.now += LOOK_S
    gone = book.changed()
    assert gone is not None
    assert "Word in a command" not in {rule.alert for rule in gone.rules}
    clock.now += LOOK_S
    assert book.changed() is None, "nothing has changed since"


def test_a_rule_of_the_registry_replaces_the_built_in_one_of_its_id(book: Rulebook):
    """Removing it brings the built-in one back."""
    text = (BUILT_IN / "reverse_shell.yml").read_text()
    book.save("mine", text.replace("title: Reverse shell", "title: Our own reverse shell"), "ana")
    assert by_alert(book, SHELL_RULE).title == "Our own reverse shell"
    book.remove("mine")
    assert by_alert(book, SHELL_RULE).title == "Reverse shell"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("word", "title: [", "while parsing"),
        ("word", "", "holds no rule"),
        ("word", WORD.replace("CommandLine", "Colour"), "process_creation events have no Colour"),
        ("Word!", WORD, "name: 'Word!'"),
        ("../word", WORD, "name:"),
        ("word", WORD + "#" * 256_000, "larger than"),
    ],
)
def test_what_is_wrong_is_named_and_not_kept(book: Rulebook, name: str, text: str, reason: str):
    """Field and reason, as for a file."""
    with pytest.raises(RuleError, match=reason):
        book.save(name, text, "ana")
    assert book.own() == []


def test_what_is_not_there_is_not_switched_or_removed(book: Rulebook):
    """A typing error would otherwise look like success."""
    with pytest.raises(RuleError, match="no such rule"):
        book.switch("no-such-rule", enabled=False, who="ana")
    with pytest.raises(RuleError, match="no such rule"):
        book.remove("no-such-rule")


def test_changes_of_rules_are_in_the_audit_log(rig: Rig, book: Rulebook):
    """With who made them, and without the text."""
    with acting_as("user:ana"):
        book.save("word", WORD, "ana")
        book.switch(by_alert(book, "Word in a command").id, enabled=False, who="ana")
    registry = Registry(rig.url)
    seen = {
        (entry.actor, entry.action, entry.subject.partition("/")[0]) for entry in registry.tokens.audit(9)
    }
    registry.close()
    assert {("user:ana", "create", "own_rules"), ("user:ana", "create", "rule_switches")} <= seen


async def test_a_group_of_devices_is_suppressed_by_their_tag(rig: Rig):
    """`SecurityGroup` in the tags; devices without it, or with another, still raise alerts."""
    registry = Registry(rig.url)
    for device, group in (("d1", "press"), ("d2", "paint"), ("d3", "")):
        registry.add(Identity(device))
        if group:
            registry.fleet.patch_twin(Identity(device), TwinChange(tags={"SecurityGroup": group}))
    registry.close()
    made = rig.alerts.suppress(Suppression(group="press", until=NOW * 2, who="ana", why="maintenance"))
    await rig.send(*(message(process(SHELL), device=device, hits=3) for device in ("d1", "d2", "d3")))
    rig.judge()
    assert {alert.device_id for alert in rig.found()} == {"d2", "d3"}
    assert [(known.id, known.hits) for known in rig.alerts.suppressions()] == [(made.id, 3)]


def test_the_command_line_lists_what_the_registry_holds(tmp_path, capsys: pytest.CaptureFixture[str]):
    """With whether it is switched on."""
    state = HubState(tmp_path / "hub")
    state.save(HubSettings(host_names=("localhost",)))
    database = Database(state.registry_url)
    own = Rulebook(database, state.rules)
    own.save("word", WORD, "ana")
    own.switch(by_alert(own, "Word in a command").id, enabled=False, who="ana")
    database.close()
    assert main(["rules", "list", "--json", "--state", str(state.root)]) == 0
    listed = {rule["path"]: rule["enabled"] for rule in json.loads(capsys.readouterr().out)["rules"]}
    assert listed["registry:word"] is False
