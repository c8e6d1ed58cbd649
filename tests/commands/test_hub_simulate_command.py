"""`vedette hub simulate` at a hub that runs."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from fleet_rig import Hub
from support import VEDETTE
from vedette.cli import main
from vedette.hub.lake import Lake
from vedette.hub.settings import HubState


@pytest.mark.slow
def test_devices_send_until_they_are_interrupted(tmp_path: Path):
    """Ctrl-C ends it with its figures, and all that was sent is in the lake."""
    assert main(["hub", "init", "--state", str(tmp_path), "--bind", "127.0.0.1"]) == 0
    state = HubState(tmp_path)
    hub = Hub("gateway", state)
    hub.again()
    try:
        address = f"127.0.0.1:{hub.mqtt}"
        command = [*VEDETTE, "hub", "simulate", "--state", str(tmp_path), "--connect", address]
        options = ["--devices", "5", "--rate", "50", "--attacks", "20", "--json"]
        pipe = subprocess.PIPE
        with subprocess.Popen([*command, *options], stdout=pipe, stderr=pipe, text=True) as process:
            assert process.stderr is not None
            while "5 connected; 0 " in (line := process.stderr.readline()) or "5 connected" not in line:
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate()
            assert process.returncode == 0
    finally:
        hub.end()
    summary = json.loads(out)
    assert summary["connected"] == 5
    assert summary["messages"] == summary["acknowledged"] > 0
    [[stored]] = (
        Lake(state.lake)
        .query(
            "raw_events | where DeviceId startswith 'simulated-' and RawEventName != 'HubOperation' | count"
        )
        .rows
    )
    assert stored == summary["events"]


@pytest.mark.parametrize(
    "wrong", ["--devices=0", "--rate=fast", "--attacks=101", "--seconds=-1", "--connect=hub"]
)
def test_wrong_numbers_are_named(wrong: str, capsys: pytest.CaptureFixture[str]):
    """With the option that has them."""
    with pytest.raises(SystemExit):
        main(["hub", "simulate", wrong])
    assert f"argument {wrong.partition('=')[0]}" in capsys.readouterr().err
