"""`vedette enrollment` and the service's connection string, at the terminal."""

import json
from pathlib import Path

import pytest

from certificates import issue
from vedette.cli import main
from vedette.commands.hub import POLICIES
from vedette.hub.registry.policies import RIGHTS
from vedette.wire.dps import device_key


@pytest.fixture
def state(tmp_path: Path) -> str:
    assert main(["hub", "init", "--state", str(tmp_path), "--host", "hub.example"]) == 0
    return str(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints."""
    capsys.readouterr()
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_a_group_is_added_shown_and_removed(state: str, capsys: pytest.CaptureFixture[str]):
    """With its tags; a device's own key can be had; the list holds no key."""
    where = ("--state", state, "--json")
    tags = ("--tags", '{"site": "north"}')
    made = json.loads(said(capsys, "enrollment", "add", "pumps", "--group", *tags, *where))
    assert (made["group"], made["tags"]) == (True, {"site": "north"})
    key = said(capsys, "enrollment", "show", "pumps", "--group", "--for", "pump-17", "--state", state)
    assert key.strip() == device_key(made["primary_key"], "pump-17")
    listed = said(capsys, "enrollment", "list", *where)
    assert [one["name"] for one in json.loads(listed)] == ["pumps"]
    assert made["primary_key"] not in listed
    said(capsys, "enrollment", "remove", "pumps", "--group", *where)
    assert json.loads(said(capsys, "enrollment", "list", *where)) == []


def test_a_group_may_be_an_authority_s(state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Its certificates are shown, there are no keys, and none can be asked for."""
    paths = [tmp_path / name for name in ("now.pem", "next.pem")]
    pems = [issue(path.stem, ca=True).pem.decode() for path in paths]
    for path, pem in zip(paths, pems, strict=True):
        path.write_text(pem)
    given = [part for path in paths for part in ("--certificate", str(path))]
    where = ("--group", "--state", state, "--json")
    made = json.loads(said(capsys, "enrollment", "add", "presses", *given, *where))
    assert (made["proof"], made["certificates"]) == ("certificate", pems)
    assert "primary_key" not in made
    assert main(["enrollment", "show", "presses", "--for", "press-7", *where]) == 1
    assert "certificates, no keys" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "none"),
        ("remove", "none"),
        ("add", "a", "--tags", "[]"),
        ("add", "a", "--key", "short"),
        ("add", "a/b"),
        ("add", "a", "--certificate", "/none.pem"),
        ("add", "a", "--certificate", "/dev/null"),
        ("add", "a", "--group", "--device-id", "b"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_said(
    state: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
):
    """In one line, with the exit status of a failure."""
    capsys.readouterr()
    assert main(["enrollment", *arguments, "--state", state]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_service_gets_its_connection_string(state: str, capsys: pytest.CaptureFixture[str]):
    """The same each time; the port is in it because it is not 443."""
    owner = said(capsys, "hub", "connection-string", "--state", state)
    assert owner.startswith("HostName=hub.example:8443;SharedAccessKeyName=iothubowner;SharedAccessKey=")
    assert said(capsys, "hub", "connection-string", "--state", state) == owner
    reader = said(capsys, "hub", "connection-string", "--policy", "registryRead", "--state", state)
    assert reader.partition("SharedAccessKey=")[2] != owner.partition("SharedAccessKey=")[2]


def test_the_command_offers_every_policy():
    """A device that lacks the hub can still show the command's help."""
    assert set(POLICIES) == set(RIGHTS)


def test_an_authority_is_added_listed_and_removed(
    state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """With its subject; what is no authority's certificate is refused."""
    file = tmp_path / "ca.pem"
    file.write_bytes(issue("Factory", ca=True).pem)
    where = ("--state", state, "--json")
    (listed,) = json.loads(said(capsys, "authority", "add", "factory", str(file), *where))
    assert (listed["name"], listed["subject"]) == ("factory", "CN=Factory")
    file.write_bytes(issue("device").pem)
    assert main(["authority", "add", "other", str(file), "--state", state]) == 1
    said(capsys, "authority", "remove", "factory", *where)
    assert json.loads(said(capsys, "authority", "list", *where)) == []
    assert main(["authority", "remove", "factory", "--state", state]) == 1
