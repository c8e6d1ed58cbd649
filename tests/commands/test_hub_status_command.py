"""`vedette hub status` tells of a hub that runs, of one that is down, and of one whose parts are away."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fleet_rig import Hub
from support import free_port
from vedette.cli import main
from vedette.hub import status
from vedette.hub.registry.hubs import HubRow
from vedette.hub.registry.lease import LeaseRow
from vedette.hub.settings import HubState

PASSWORD = "word-of-nobody"


def made(root: Path, *arguments: str) -> HubState:
    assert main(["hub", "init", "--state", str(root), "--bind", "127.0.0.1", *arguments]) == 0
    return HubState(root)


def ask(state: HubState, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    """Exit status and document."""
    capsys.readouterr()
    code = main(["hub", "status", "--json", "--state", str(state.root)])
    return code, json.loads(capsys.readouterr().out)


@contextmanager
def running(state: HubState) -> Iterator[Hub]:
    hub = Hub("all", state)
    hub.start()
    try:
        hub.wait()
        yield hub
    finally:
        if hub.runs:
            hub.end()


def test_a_hub_that_runs_and_one_that_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """It answers, with its leases, its lake and its connections; killed, it is told from its files."""
    state = made(tmp_path)
    with running(state) as hub:
        code, shown = ask(state, capsys)
        while not shown["registry"]["leases"]:  # detection takes its own at its first turn
            code, shown = ask(state, capsys)
        assert (code, shown["problems"]) == (0, [])
        local = shown["local"]
        assert (local["address"], local["answers"], local["ready"]) == (f"127.0.0.1:{hub.https}", True, True)
        assert "detection" in [lease["work"] for lease in shown["registry"]["leases"]]
        assert [hub["role"] for hub in shown["registry"]["hubs"]] == ["all"]
        assert [table["version"] for table in shown["lake"]["tables"]] == [0, 0]
        assert main(["hub", "status", "--state", str(tmp_path)]) == 0
        assert "ready (all)" in capsys.readouterr().out
        hub.end(signal.SIGKILL)
    code, shown = ask(state, capsys)
    assert code == 1
    assert not shown["local"]["answers"]
    [problem] = shown["problems"]
    assert problem.startswith("no hub answers at 127.0.0.1:")
    assert [table["fault"] for table in shown["lake"]["tables"]] == ["", ""]


def test_parts_that_are_away_are_named_and_the_rest_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Each fault stands beside where it belongs; no password and no key is shown."""
    state = made(tmp_path)
    port = free_port()
    away = {
        "registry": f"postgresql://vedette:{PASSWORD}@127.0.0.1:{port}/hub",
        "lake": "s3://away/fleet",
        "lake_options": {
            "aws_endpoint_url": f"http://127.0.0.1:{port}",
            "aws_access_key_id": "tester",
            "aws_secret_access_key": PASSWORD,
            "allow_http": "true",
        },
    }
    state.save(msgspec.structs.replace(state.load(), **away))
    code, shown = ask(state, capsys)
    assert code == 1
    assert "refused" in shown["lake"]["fault"]
    assert shown["lake"]["location"] == "s3://away/fleet"
    assert "cannot be used" in shown["registry"]["fault"]
    assert shown["certificate_expires"] is not None
    assert [problem.split(":")[0] for problem in shown["problems"][:2]] == ["lake", "registry"]
    assert main(["hub", "status", "--state", str(tmp_path)]) == 1
    assert PASSWORD not in json.dumps(shown) + capsys.readouterr().out


def test_settings_that_are_wrong_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A registry's URL that is none, a lake's that is none: the rest is still told."""
    state = made(tmp_path)
    state.save(msgspec.structs.replace(state.load(), registry="postgresql:/x y", lake="ftp://host/x"))
    code, shown = ask(state, capsys)
    assert code == 1
    assert "neither a path nor one of" in shown["lake"]["fault"]
    assert shown["registry"]["fault"]
    assert shown["disk"]["free"] > 0


def test_what_stands_still_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A silent holder of a lease, a silent hub, a full disk, a certificate at its end."""
    state = made(tmp_path)
    database = status.Database(state.registry_url)
    with database.write.begin() as session:
        session.add(LeaseRow(name="maintenance", holder="gone/1/a", token=1, beat=3, renewed=1_000.0))
        session.add(HubRow(name="gone:1", role="all", version="0", started=0.0, seen=1_000.0))
    database.close()
    monkeypatch.setattr(status, "DISK_FREE", 1.1)
    monkeypatch.setattr(status, "RENEWAL_DAYS", 10_000)
    code, shown = ask(state, capsys)
    assert code == 1
    told = "\n".join(shown["problems"])
    for part in (
        "maintenance: gone/1/a holds the lease, silent",
        "hub gone:1: silent",
        "disk: ",
        "expires in",
    ):
        assert part in told


def test_a_place_without_a_hub_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """There is nothing to tell of, and nothing is made."""
    assert main(["hub", "status", "--state", str(tmp_path / "none")]) == 1
    assert "holds no hub" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
