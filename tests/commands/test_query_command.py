"""`vedette query`: forms of the answer, errors with their place, tables of the registry."""

import csv
import io
import json

import pytest

from made_lake import make
from vedette.cli import main
from vedette.hub.registry import Registry
from vedette.hub.settings import HubState
from vedette.wire.iothub import Identity


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A hub that does not run: 400 events, a device with a module."""
    directory = tmp_path_factory.mktemp("hub")
    assert main(["hub", "init", "--state", str(directory)]) == 0
    make(directory / "lake", 400)
    registry = Registry(HubState(directory).registry_url)
    registry.add(Identity("dev1"))
    registry.add(Identity("dev1", "m"))
    registry.set_enabled(Identity("dev1"), False)
    registry.close()
    return str(directory)


def answer(state: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["query", "--state", state, *arguments]) == 0
    return capsys.readouterr().out


def test_the_forms_of_an_answer(state: str, capsys: pytest.CaptureFixture[str]):
    """JSON, CSV, and a table; KQL and SQL."""
    kql = "Process | summarize Runs=count() by UserName | order by UserName asc | take 1"
    assert json.loads(answer(state, capsys, kql, "--json")) == [{"UserName": "u0", "Runs": 34}]
    table = answer(state, capsys, kql).split()
    assert table == ["UserName", "Runs", "--------", "----", "u0", "34"]
    sql = "SELECT count(*) AS n FROM Process"
    assert list(csv.reader(io.StringIO(answer(state, capsys, "--sql", sql, "--csv")))) == [["n"], ["100"]]


def test_rows_beyond_the_limit_are_told(state: str, capsys: pytest.CaptureFixture[str]):
    """On the error stream, so that what is read by a program stays as it is."""
    capsys.readouterr()
    assert main(["query", "--state", state, "Process", "--json", "--rows", "3"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 3
    assert "first 3 rows" in said.err


def test_devices_and_twins_are_tables(state: str, capsys: pytest.CaptureFixture[str]):
    """In KQL and SQL; without keys."""
    [device] = json.loads(answer(state, capsys, "Devices", "--json"))
    assert device["DeviceId"] == "dev1"
    assert (device["Modules"], device["Enabled"], device["Connected"]) == (1, False, False)
    assert not {name for name in device if "key" in name.lower()}
    sql = "SELECT ModuleId, Desired, DesiredVersion FROM Twins ORDER BY ModuleId"
    twins = json.loads(answer(state, capsys, "--sql", sql, "--json"))
    assert [(twin["ModuleId"], twin["DesiredVersion"]) for twin in twins] == [("", 1), ("m", 1)]
    joined = "Process | join kind=inner Devices on DeviceId | summarize count() by Enabled"
    assert json.loads(answer(state, capsys, joined, "--json")) == [{"Enabled": False, "count_": 3}]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["Process\n| where Usr == 1"], "line 2, column 9: no column"),
        (["--sql", "SELECT *\nFROM Proces"], "line 2, column 6"),
    ],
)
def test_an_error_shows_its_place(
    state: str, capsys: pytest.CaptureFixture[str], arguments: list[str], shown: str
):
    """The line, and a mark below the column."""
    capsys.readouterr()
    assert main(["query", "--state", state, *arguments]) == 1
    lines = capsys.readouterr().err.rstrip("\n").split("\n")
    assert shown in lines[0]
    assert lines[-2][lines[-1].index("^") :].startswith(("Usr", "Proces"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--engine", "spark", "Process"], "--remote"),
        (["--engine", "spark", "--remote", "sc://127.0.0.1:1", "Process"], "cannot be reached"),
    ],
)
def test_an_engine_that_is_not_there_is_told_at_once(
    state: str, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
):
    """Instead of being tried for minutes."""
    capsys.readouterr()
    assert main(["query", "--state", state, *arguments]) == 1
    assert reason in capsys.readouterr().err
