"""`vedette up`, as a user runs it: this machine's own processes can be read in the hub."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import PATIENCE_S, VEDETTE, free_port


def until(condition: Callable[[], object], what: str) -> object:
    """Poll another process's visible state; fails with what was awaited."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"gave up waiting for {what}"
        time.sleep(0.2)
    return value


class Up:
    """A running `vedette up` with a state directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = ["--mqtt-port", str(free_port()), "--https-port", str(free_port())]
        self.process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> None:
        command = [*VEDETTE, "up", "--state", str(self.root), "--bind", "127.0.0.1", *self.ports, *arguments]
        self.process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def stop(self, number: int = signal.SIGINT) -> str:
        assert self.process is not None
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        status, self.process = self.process.returncode, None
        assert status == 0, output + self.logs()
        return output

    def logs(self) -> str:
        return "".join(f"--- {path.name}\n{path.read_text()}" for path in self.root.glob("*.log"))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another `vedette` command against this hub's state."""
        return subprocess.run(
            [*VEDETTE, *arguments, "--state", str(self.root / "hub")], text=True, capture_output=True
        )

    def query(self, text: str, *options: str) -> list[dict[str, object]]:
        done = self.run("query", text, "--json", *options)
        return json.loads(done.stdout) if done.returncode == 0 else []

    def hits(self, marker: str) -> int:
        # Not `has`: the query's own command line holds the marker, too.
        start = f"Process | where Commandline startswith 'sleep 0 0 {marker}'"
        rows = self.query(f"{start} | summarize Hits=sum(HitCount)")
        return int(rows[0]["Hits"] or 0) if rows else 0

    def device(self) -> str:
        return json.loads(self.run("device", "list", "--json").stdout)[0]["device"]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path / "state")
    yield running
    if running.process is not None:
        running.stop(signal.SIGTERM)


def execute(marker: str, times: int) -> None:
    for _ in range(times):
        subprocess.run(["sleep", "0", "0", marker], check=False, stderr=subprocess.DEVNULL)


def marker() -> str:
    return f"vedette{uuid.uuid4().hex}"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: without it short processes are not seen")
def test_executions_reach_the_hub_once_each_with_their_hit_count(up: Up):
    """Counted in the kernel, read by query; state and keys are private; a second start goes on."""
    up.start()
    until(lambda: up.query("Process | take 1"), "the first events")
    device = up.device()
    first = marker()
    execute(first, 37)
    until(lambda: up.hits(first) >= 37, "37 executions")
    rows = up.query(
        f"SecurityIoTRawEvent | where RawEventName == 'Process' "
        f" and tostring(parse_json(EventDetails).Commandline) startswith 'sleep 0 0 {first}'"
        " | project DeviceId, Details=EventDetails"
    )
    assert {row["DeviceId"] for row in rows} == {device}
    details = [json.loads(str(row["Details"])) for row in rows]
    assert sum(entry["HitCount"] for entry in details if entry["EventType"] == "EXEC") == 37
    assert {entry["Executable"].rpartition("/")[2] for entry in details} == {"sleep"}

    assert up.root.joinpath("hub").stat().st_mode & 0o777 == 0o700
    for secret in (up.root / "agent/connection_string.txt", up.root / "hub/registry.db"):
        assert secret.stat().st_mode & 0o777 == 0o600, secret
    assert "stopping" in up.stop()

    assert up.hits(first) == 37, "readable while the hub is down"
    up.start()
    second = marker()
    until(lambda: up.query("Process | summarize Last=max(TimeGenerated)"), "the hub")
    until(lambda: (execute(second, 1), up.hits(second))[1], "executions after the second start")
    assert up.hits(first) == 37
    output = up.stop()
    assert device in output


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: without it short processes are not seen")
def test_the_twin_steers_the_agent(up: Up):
    """A valid change is applied and reported; an invalid one is refused whole, with the fields named."""
    up.start()
    until(lambda: up.query("Process | take 1"), "the first events")
    device = up.device()

    def reported() -> dict[str, object]:
        return json.loads(up.run("twin", "get", device, "--json").stdout)["reported"]

    changed = up.run("twin", "set", device, "Process_CacheSize=77", "Statistics_Disabled=true")
    assert changed.returncode == 0, changed.stderr
    until(lambda: reported().get("Process_CacheSize") == 77, "the report")
    assert reported()["latest_state"] == "success"

    refused = up.run("twin", "set", device, "Process_CacheSize=0")
    assert refused.returncode == 1
    assert "Process_CacheSize" in refused.stderr
    up.run("twin", "set", device, "Process_CacheSize=0", "NoSuchSetting=1", "--force")
    until(lambda: reported()["latest_state"] == "failed", "the verdict")
    assert [str(entry).partition(":")[0] for entry in reported()["latest_invalid_fields"]] == [
        "NoSuchSetting",
        "Process_CacheSize",
    ]
    assert reported()["Process_CacheSize"] == 77

    up.run("twin", "set", device, "Process_CacheSize=null", "NoSuchSetting=null")
    until(lambda: reported()["latest_state"] == "success", "the repaired twin")
    assert reported()["Process_CacheSize"] == 256


def test_a_taken_port_is_named(up: Up):
    """The error says which port, and which option chooses another."""
    port = int(up.ports[1])
    with socket.create_server(("127.0.0.1", port)):
        up.start("--no-agent")
        output, _ = up.process.communicate(timeout=PATIENCE_S)
    assert up.process.returncode == 1
    assert f"127.0.0.1:{port}" in output
    assert "--mqtt-port" in output
    up.process = None


def test_the_command_line_serves_people_and_scripts(up: Up):
    """Without a hub each command says what to do; with one it registers, lists, shows and removes."""
    missing = up.run("device", "list")
    assert missing.returncode == 1
    assert "vedette hub init" in missing.stderr
    assert up.run("hub", "init", "--json").returncode == 0
    added = up.run("device", "add", "pump-17")
    assert added.stdout.startswith("HostName=localhost;DeviceId=pump-17;ModuleId=DefenderIotMicroAgent;")
    again = up.run("device", "add", "pump-17")
    assert (again.returncode, "registered already" in again.stderr) == (1, True)
    listed = json.loads(up.run("device", "list", "--json").stdout)
    assert [(entry["device"], entry["module"]) for entry in listed] == [
        ("pump-17", ""),
        ("pump-17", "DefenderIotMicroAgent"),
    ]
    shown = up.run("device", "show", "pump-17")
    assert "SharedAccessKey" not in shown.stdout
    assert up.run("device", "show", "pump-17", "--connection-string").stdout == added.stdout
    table = up.run("query", "SecurityIoTRawEvent | count", "--csv")
    assert list(csv.reader(io.StringIO(table.stdout)))[1:] == [["0"]]
    wrong = up.run("query", "SecurityIoTRawEvent | frobnicate")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "line 1, column 23" in wrong.stderr
    assert up.run("device", "remove", "pump-17").returncode == 0
    assert json.loads(up.run("device", "list", "--json").stdout) == []
