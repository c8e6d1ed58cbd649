"""`vedette hub init` puts the lake where it is told, or says why not and changes nothing."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import msgspec
import pytest

import object_store
from support import free_port
from vedette.cli import main
from vedette.hub.lake.tables import RAW_EVENTS, opened
from vedette.hub.settings import HubState


def test_the_lake_may_be_in_an_object_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Its keys come from the environment or the settings, and are not shown."""
    try:
        server = object_store.s3()
        with server as store:
            options = dict(store.options)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options.pop("aws_secret_access_key"))
            given = [f"--lake-option={key}={value}" for key, value in options.items()]
            command = ["hub", "init", "--state", str(tmp_path), "--json", "--lake", store.url, *given]
            assert main(command) == 0
            assert main(["hub", "init", "--state", str(tmp_path), "--retention", "dead_letters=7"]) == 0
            state = HubState(tmp_path)
            assert opened(RAW_EVENTS.files(state.lake)).version() == 0
            state.lake.put("readable", b"by both clients")
            assert state.lake.get("readable") == b"by both clients"
    except object_store.CannotInstall as error:
        pytest.skip(str(error))
    shown, _ = json.JSONDecoder().raw_decode(capsys.readouterr().out)
    assert shown["lake"] == store.url
    assert shown["lake_options"] == sorted(options)
    settings = state.load()
    assert (settings.lake, settings.retention) == (store.url, {"dead_letters": 7})
    assert stat.S_IMODE(state.settings_file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--lake", "ftp://host/lake"], "neither a path nor one of"),
        (["--lake", "s3://bucket/x", "--lake-option", "aws_nonsense=1"], "aws_nonsense"),
        (["--lake", "/proc/lake"], "lake: /proc/lake cannot be used"),
        (["--retention", "nonsense=7"], "nonsense"),
        (["--retention", "raw_events=0"], "retention"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
):
    """The settings stay as they were."""
    assert main(["hub", "init", "--state", str(tmp_path)]) == 0
    before = HubState(tmp_path).settings_file.read_bytes()
    assert main(["hub", "init", "--state", str(tmp_path), *arguments]) != 0
    assert reason in capsys.readouterr().err
    assert HubState(tmp_path).settings_file.read_bytes() == before


def test_a_hub_whose_lake_is_away_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Where and why, in one line, and it ends."""
    assert main(["hub", "init", "--state", str(tmp_path), "--bind", "127.0.0.1"]) == 0
    state = HubState(tmp_path)
    (tmp_path / "file").touch()
    state.save(msgspec.structs.replace(state.load(), lake=str(tmp_path / "file" / "lake")))
    ports = [f"--mqtt-port={free_port()}", f"--https-port={free_port()}"]
    assert main(["hub", "run", "--state", str(tmp_path), *ports]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vedette: lake: {tmp_path / 'file' / 'lake'} cannot be used: ")
