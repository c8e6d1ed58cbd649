"""`vedette device` at the terminal: keys and certificates."""

import json
from pathlib import Path

import pytest

from certificates import issue
from vedette.cli import main
from vedette.hub.gateway.certificates import thumbprints
from vedette.hub.registry import Registry
from vedette.wire.iothub import ConnectionString, Identity

MODULE = Identity("press-7", "DefenderIotMicroAgent")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    assert main(["hub", "init", "--state", str(tmp_path), "--host", "hub.example"]) == 0
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command prints."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_a_device_gets_a_key(state: Path, capsys: pytest.CaptureFixture[str]):
    """It stands in the connection string, which can be had again."""
    made = said(capsys, "device", "add", "press-7", "--state", state)
    assert ConnectionString.parse(made).identity == MODULE
    again = said(capsys, "device", "show", "press-7", "--connection-string", "--state", state)
    assert again == made


@pytest.mark.parametrize("vouched", [False, True], ids=["certificate", "by-authority"])
def test_a_device_may_have_a_certificate_instead(
    state: Path, capsys: pytest.CaptureFixture[str], vouched: bool
):
    """Device and module are registered by it; there is no secret in the connection string."""
    own = issue("press-7")
    (state / "own.pem").write_bytes(own.pem)
    proof = ["--by-authority"] if vouched else ["--certificate", state / "own.pem"]
    made = said(capsys, "device", "add", "press-7", *proof, "--state", state, "--json")
    expected = "HostName=hub.example;DeviceId=press-7;ModuleId=DefenderIotMicroAgent;x509=true"
    assert json.loads(made)["connection_string"] == expected
    again = said(capsys, "device", "show", "press-7", "--connection-string", "--state", state)
    assert again.strip() == expected
    registry = Registry(f"sqlite:///{state}/registry.db")
    for identity in (Identity("press-7"), MODULE):
        profile = registry.fleet.profile(identity)
        assert profile.authentication == ("certificateAuthority" if vouched else "selfSigned")
        assert profile.primary_thumbprint == ("" if vouched else thumbprints(own.certificate)[1])
    registry.close()


@pytest.mark.parametrize("path", ["/dev/null", "/none.pem"])
def test_what_is_no_certificate_makes_no_device(state: Path, capsys: pytest.CaptureFixture[str], path: str):
    """The file is named."""
    assert main(["device", "add", "press-7", "--certificate", path, "--state", str(state)]) == 1
    assert path in capsys.readouterr().err
    assert json.loads(said(capsys, "device", "list", "--state", state, "--json")) == []
