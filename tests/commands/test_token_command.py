"""`vedette token`: made, listed, removed; and the hub's state without a password on the screen."""

import json
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


def test_a_token_is_shown_once_and_works_until_it_is_removed(state: str, capsys: pytest.CaptureFixture[str]):
    """And who made it stands in the log of changes."""
    assert main(["token", "add", "nightly", "--role", "analyst", "--days", "2", "--state", state]) == 0
    text = capsys.readouterr().out.strip()
    registry = Registry(HubState(Path(state)).registry_url)
    grant = registry.tokens.check(text, 0.0)
    assert grant is not None
    assert grant.role.name == "ANALYST"
    assert registry.tokens.audit(1)[0].actor.startswith("command:")
    assert main(["token", "list", "--json", "--state", state]) == 0
    listed = capsys.readouterr().out
    assert json.loads(listed)[0]["name"] == "nightly"
    assert text.split("_", 2)[2] not in listed
    assert main(["token", "remove", "nightly", "--state", state]) == 0
    assert registry.tokens.check(text, 0.0) is None
    registry.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["add", "a b"], "name: "),
        (["add", "x", "--days", "0"], "--days"),
        (["remove", "x"], "no such token"),
    ],
)
def test_a_mistake_is_explained(
    state: str, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
):
    """In one line, with status 1."""
    assert main(["token", *arguments, "--state", state]) == 1
    assert reason in capsys.readouterr().err


def test_a_database_that_cannot_be_reached_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Without the password in its URL."""
    url = "postgresql://vedette:hush-hush@127.0.0.1:1/registry"
    assert main(["hub", "init", "--registry", url, "--state", str(tmp_path / "hub")]) == 1
    shown = capsys.readouterr()
    assert "cannot be used" in shown.err
    assert "hush-hush" not in shown.out + shown.err
