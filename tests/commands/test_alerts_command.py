"""`vedette alerts` as its user sees it, where nothing was detected yet."""

import json
import os
from pathlib import Path

import pytest

from vedette.cli import main
from vedette.hub.registry import Registry
from vedette.hub.settings import HubState


@pytest.fixture
def state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    directory = str(tmp_path / "hub")
    assert main(["hub", "init", "--state", directory]) == 0
    capsys.readouterr()
    return directory


def test_a_suppression_is_made_listed_and_removed_and_it_is_written_down(
    state: str, capsys: pytest.CaptureFixture[str]
):
    """With who did it from the command line."""
    assert main(["alerts", "suppress", "--device", "pump-*", "--for", "8h", "--json", "--state", state]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["device"] == "pump-*"
    assert main(["alerts", "suppressions", "--state", state]) == 0
    assert "pump-*" in capsys.readouterr().out
    assert main(["alerts", "unsuppress", made["id"], "--state", state]) == 0
    registry = Registry(HubState(Path(state)).registry_url)
    log = [(entry.actor, entry.action, entry.subject) for entry in registry.tokens.audit(2)]
    registry.close()
    who, what = f"command:{os.getuid()}", f"suppressions/{made['id']}"
    assert log == [(who, "delete", what), (who, "create", what)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["show", "none"], "none"),
        (["suppress", "--for", "soon"], "soon"),
        (["suppress", "--for", "8h", "--where", "nonsense"], "nonsense"),
    ],
)
def test_a_mistake_is_explained(
    state: str, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
):
    """In one line, with status 1."""
    assert main(["alerts", *arguments, "--state", state]) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("command", ["alerts suppressions", "notify list", "intel list", "token list"])
def test_a_hub_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str):
    """By every command that works on one, with what makes it."""
    assert main([*command.split(), "--state", str(tmp_path / "none")]) == 1
    assert "vedette hub init" in capsys.readouterr().err
