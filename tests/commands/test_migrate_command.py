"""`vedette migrate`: a Defender micro agent's directory becomes ours, or it is said why not."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from vedette.agent.route import Proxy
from vedette.agent.settings import load_local
from vedette.cli import main

KEY = "c2VjcmV0c2VjcmV0"
CONNECTION = f"HostName=hub.example;DeviceId=pump;ModuleId=DefenderIotMicroAgent;SharedAccessKey={KEY}"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PRIVATE = "-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\n"
CONF = {
    "IothubModule_ProxyConfig": "10.0.0.1,3128,pump,hunter2",
    "IothubModule_TransportProtocol": "MQTT_WebSocket_Protocol",
    "SomethingElse": 7,
}
SYSINFO = {"HardwareVendor": "Acme", "FirmwareVersion": "1.2"}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The directory as that agent leaves it."""
    directory = tmp_path / "defender"
    directory.mkdir()
    (directory / "connection_string.txt").write_text(CONNECTION + "\r\n")
    (directory / "certificate_public.pem").write_text(CERTIFICATE)
    (directory / "certificate_private.pem").write_text(PRIVATE)
    (directory / "conf.json").write_text(json.dumps(CONF))
    (directory / "sysinfo.json").write_text(json.dumps(SYSINFO))
    return directory


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "vedette"


def migrate(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    """Run the command; status, its JSON, and what it said on standard error."""
    status = main(["migrate", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err
    assert KEY not in captured.out + captured.err
    return status, json.loads(captured.out), captured.err


def actions(report: Any) -> dict[str, str]:
    return {row["file"]: row["action"] for row in report["files"]}


def test_everything_is_taken_over_and_the_agent_understands_it(
    old: Path, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Identity, proxy, transport and board; our files are for their owner alone."""
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    status, report, _ = migrate(capsys, old, "--config", ours)
    assert status == 0
    assert set(actions(report).values()) == {"write"}
    local = load_local(ours, tmp_path / "state")
    assert local.connection.identity.client_id == "pump/DefenderIotMicroAgent"
    assert local.connection.key == KEY
    assert (local.route.websocket, local.route.port) == (True, 443)
    assert local.route.proxy == Proxy("10.0.0.1", 3128, "pump", "hunter2")
    assert json.loads((ours / "sysinfo.json").read_text()) == SYSINFO
    assert {path.stat().st_mode & 0o777 for path in ours.iterdir()} == {0o600}
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before


def test_a_dry_run_shows_the_same_and_writes_nothing(
    old: Path, ours: Path, capsys: pytest.CaptureFixture[str]
):
    """What one reads is what would happen."""
    _, dry, _ = migrate(capsys, old, "--config", ours, "--dry-run")
    assert not ours.exists()
    _, wet, _ = migrate(capsys, old, "--config", ours)
    assert dry["files"] == wet["files"]


def test_a_second_run_changes_nothing(old: Path, ours: Path, capsys: pytest.CaptureFixture[str]):
    """It may stand in a provisioning script."""
    migrate(capsys, old, "--config", ours)
    inode = (ours / "connection_string.txt").stat().st_ino
    status, report, _ = migrate(capsys, old, "--config", ours)
    assert status == 0
    assert set(actions(report).values()) == {"keep"}
    assert (ours / "connection_string.txt").stat().st_ino == inode


def test_ours_is_overwritten_only_when_told(old: Path, ours: Path, capsys: pytest.CaptureFixture[str]):
    """A device that is enrolled already keeps its identity, and nothing else is written either."""
    ours.mkdir(parents=True)
    (ours / "connection_string.txt").write_text("HostName=new;DeviceId=d;SharedAccessKey=bmV3")
    status, _, said = migrate(capsys, old, "--config", ours)
    assert status == 1
    assert "ours differs" in said
    assert os.listdir(ours) == ["connection_string.txt"]
    status, _, _ = migrate(capsys, old, "--config", ours, "--replace")
    assert status == 0
    assert CONNECTION in (ours / "connection_string.txt").read_text()


def test_a_directory_without_identity_is_refused(old: Path, ours: Path, capsys: pytest.CaptureFixture[str]):
    """Not a micro agent's directory, probably."""
    (old / "connection_string.txt").unlink()
    status, _, said = migrate(capsys, old, "--config", ours)
    assert status == 1
    assert "no identity" in said
    assert not ours.exists()
    assert main(["migrate", str(old), "--config", str(ours)]) == 1
    shown = capsys.readouterr().out
    assert "(nothing is written)" in shown
    assert "next:" not in shown


def test_optional_files_may_be_missing(old: Path, ours: Path, capsys: pytest.CaptureFixture[str]):
    """The common case: a connection string and nothing else."""
    for path in old.iterdir():
        if path.name != "connection_string.txt":
            path.unlink()
    status, report, _ = migrate(capsys, old, "--config", ours)
    assert status == 0
    assert sorted(actions(report).values()) == ["skip"] * 4 + ["write"]


def test_amqp_becomes_mqtt_by_the_same_kind_of_port(
    old: Path, ours: Path, capsys: pytest.CaptureFixture[str]
):
    """We do not speak AMQP; a firewall that lets 443 pass lets WebSocket pass."""
    (old / "conf.json").write_text('{"IothubModule_TransportProtocol": "AMQP_WebSocket_Protocol"}')
    status, report, _ = migrate(capsys, old, "--config", ours)
    assert status == 0
    assert "becomes MQTT_WebSocket_Protocol" in str(report)
    assert "MQTT_WebSocket_Protocol" in (ours / "conf.json").read_text()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (
            "connection_string.txt",
            "HostName=h;DeviceId=d;SharedAccessKey=hunter2!",
            "shared access key: not base64",
        ),
        ("certificate_public.pem", "hunter2", "no PEM certificate"),
        ("certificate_private.pem", CERTIFICATE, "no PEM private key"),
        ("conf.json", "hunter2", "malformed"),
        ("conf.json", '{"IothubModule_ProxyConfig": "a,b,c,hunter2"}', "not address,port"),
        ("conf.json", '{"IothubModule_ProxyConfig": 7}', "not a text"),
        ("conf.json", '{"IothubModule_TransportProtocol": "hunter2"}', "not one that we know"),
        ("sysinfo.json", '{"HardwareVendor": 7}', "HardwareVendor: not a text"),
        ("sysinfo.json", "x" * 70_000, "larger than"),
    ],
)
def test_a_file_that_is_not_understood_stops_all_and_is_named(
    old: Path, ours: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, reason: str
):
    """File and reason, without its secret; half a migration would be worse than none."""
    (old / file).write_text(content)
    status, _, said = migrate(capsys, old, "--config", ours)
    assert status == 1
    assert f"{file}: " in said
    assert reason in said
    assert not ours.exists()


@pytest.mark.parametrize(
    ("missing", "conf", "reason"),
    [
        ("certificate_private.pem", {}, r"certificate_private\.pem: not there, but .* x509=true"),
        ("", CONF, r"conf\.json: IothubModule_TransportProtocol: .* no client certificate"),
    ],
    ids=["no key", "WebSocket"],
)
def test_a_certificate_s_device_has_all_that_it_needs_or_is_not_taken_over(
    old: Path, ours: Path, capsys: pytest.CaptureFixture[str], missing: str, conf: Any, reason: str
):
    """Each file is right by itself, but the agent would not start with them together."""
    (old / "connection_string.txt").write_text("HostName=hub.example;DeviceId=pump;x509=true")
    (old / "conf.json").write_text(json.dumps(conf))
    if missing:
        (old / missing).unlink()
    status, _, said = migrate(capsys, old, "--config", ours)
    assert status == 1
    assert re.search(reason, said)
    assert not ours.exists()
