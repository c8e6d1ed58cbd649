"""`vedette agent once | probe | check`, as people and scripts call them."""

import json
import os
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest

from support import PATIENCE_S, VEDETTE, free_port

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: counts in the kernel")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VEDETTE, "agent", *arguments], text=True, capture_output=True)


@pytest.mark.root
@needs_root
def test_once_prints_a_cycle_that_a_script_can_read():
    """Executions made meanwhile stand in it with their hit count; losses and sources, too."""
    marker = uuid.uuid4().hex
    stop = threading.Event()

    def execute() -> None:
        while not stop.is_set():
            subprocess.run(["true", marker], check=True)
            time.sleep(0.05)

    executing = threading.Thread(target=execute)
    executing.start()
    try:
        done = run("once", "--seconds", "2", "--only", "Process")
    finally:
        stop.set()
        executing.join()
    assert done.returncode == 0, done.stderr
    cycle = json.loads(done.stdout)
    assert [(entry["name"], entry["state"], entry["source"]) for entry in cycle["collectors"]] == [
        ("Process", "running", "eBPF")
    ]
    hits = [
        event["hit_count"]
        for event in cycle["events"]
        if event["payload"].get("commandline") == f"true {marker}"
        and event["payload"]["event_type"] == "EXEC"
    ]
    assert sum(hits) > 1
    assert cycle["losses"] == []


def test_probe_tells_every_source_and_collector():
    """Whoever asks: what works and what does not is named, with the remedy for what is missing."""
    told = json.loads(run("probe", "--json").stdout)
    sources = {entry["source"]: entry for entry in told["sources"] if entry["collector"] == "Process"}
    assert list(sources) == ["eBPF", "netlink process connector", "polling of /proc"]
    assert sum(entry["used"] for entry in sources.values()) == 1
    assert all(entry["available"] or entry["remedy"] for entry in sources.values())
    assert {entry["name"] for entry in told["collectors"]} >= {"Process", "Login", "Baseline", "SBoM"}
    assert "Process" in run("probe").stdout


def test_check_finds_the_hub_and_says_what_is_wrong(tmp_path: Path):
    """With a hub that runs it is reachable and trusted; without one, or with a foreign CA, it says so."""
    port, root = free_port(), tmp_path / "hub"
    ports = ["--mqtt-port", str(port), "--https-port", str(free_port())]
    subprocess.run(
        [*VEDETTE, "hub", "init", "--state", str(root), "--bind", "127.0.0.1", *ports],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    added = subprocess.run(
        [*VEDETTE, "device", "add", "pump", "--state", str(root)], capture_output=True, check=True
    )
    config = tmp_path / "config"
    config.mkdir()
    (config / "connection_string.txt").write_bytes(added.stdout)
    (config / "connection_string.txt").chmod(0o600)
    (config / "ca.pem").write_bytes((root / "pki" / "ca.pem").read_bytes())
    options = ["--config", str(config), "--state", str(tmp_path / "state"), "--port", str(port), "--json"]

    def hub_finding() -> dict[str, object]:
        (found,) = [entry for entry in json.loads(run("check", *options).stdout) if "hub" in entry["what"]]
        return found

    assert "refused" in str(hub_finding()["detail"]).lower()
    hub = subprocess.Popen([*VEDETTE, "hub", "run", "--state", str(root)], stderr=subprocess.DEVNULL)
    try:
        while "refused" in str(hub_finding()["detail"]).lower():
            assert hub.poll() is None
        found = hub_finding()
        assert found["ok"], found
        other = tmp_path / "other"
        subprocess.run(
            [*VEDETTE, "hub", "init", "--state", str(other)], check=True, stdout=subprocess.DEVNULL
        )
        (config / "ca.pem").write_bytes((other / "pki" / "ca.pem").read_bytes())
        found = hub_finding()
        assert (found["ok"], "ca.pem" in str(found["detail"])) == (False, True)
    finally:
        hub.send_signal(signal.SIGTERM)
        hub.wait(PATIENCE_S)


def test_a_missing_configuration_is_explained(tmp_path: Path):
    """The first thing that a newcomer meets says what to do."""
    done = run("run", "--config", str(tmp_path), "--state", str(tmp_path / "state"))
    assert done.returncode == 1
    assert "connection_string.txt" in done.stderr
    assert "vedette device show" in done.stderr
    assert "Traceback" not in done.stderr
