"""Without root: what the agent can do with the capabilities that packaging/ grants, and with fewer."""

import configparser
import json
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from support import VEDETTE
from vedette.agent.check import CAPABILITIES
from vedette.agent.settings import write_private

PACKAGING = Path(__file__).parents[2] / "packaging"
NOBODY = 65_534

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv, to become nobody"
)


def as_nobody(capabilities: list[str], *arguments: object) -> list[str]:
    """The command line of `vedette` as an ordinary user with these capabilities and no way to others."""
    granted = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)
    listed = f"-all,{granted}"
    return [
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"),
        *(f"--bounding-set={listed}", f"--inh-caps={listed}", f"--ambient-caps={listed}"),
        *VEDETTE,
        *map(str, arguments),
    ]


@needs_root
@pytest.mark.bpf
@pytest.mark.root
def test_an_ordinary_user_with_six_capabilities_counts_in_the_kernel():
    """Processes of others, every execution of them, by eBPF."""
    marker = f"0.000{uuid.uuid4().int % 10**9:09}"
    cycle = counted_by_nobody(marker)
    while cycle["losses"]:  # more command lines ran on this machine meanwhile than the cache holds: it tells
        cycle = counted_by_nobody(marker)
    assert [
        event["hit_count"]
        for event in cycle["events"]
        if event["payload"].get("commandline") == f"sleep {marker}"
        and event["payload"]["event_type"] == "EXEC"
    ] == [5]


def counted_by_nobody(marker: str) -> dict[str, Any]:
    """A cycle in which `sleep MARKER` is executed five times."""
    command = as_nobody(list(CAPABILITIES), "agent", "once", "--seconds", "3", "--only", "Process")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as agent:
        assert agent.stderr is not None
        started = next((line for line in agent.stderr if "collecting by" in line), "")
        assert "eBPF" in started
        for _ in range(5):
            subprocess.run(["sleep", marker], check=True)
        cycle: dict[str, Any] = json.loads(agent.communicate()[0])
        return cycle


def checked(capabilities: list[str], config: Path) -> tuple[int, dict[str, Any]]:
    command = as_nobody(
        capabilities, "agent", "check", "--json", "--config", config, "--state", config / "state"
    )
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.returncode, {finding["what"]: finding for finding in json.loads(done.stdout)}


@pytest.fixture
def config() -> Any:
    """Local files that nobody owns, where nobody can reach them."""
    directory = Path(f"/var/tmp/vedette-{uuid.uuid4()}")
    (directory / "state").mkdir(parents=True)
    write_private(
        directory / "connection_string.txt", b"HostName=127.0.0.1;DeviceId=d;SharedAccessKey=c2VjcmV0"
    )
    for path in (directory, directory / "state", directory / "connection_string.txt"):
        os.chown(path, NOBODY, NOBODY)
    yield directory
    shutil.rmtree(directory)


@needs_root
@pytest.mark.root
def test_check_tells_what_is_missing_for_which_collector(config: Path):
    """With one capability of six: the other five are named, each with who goes without what."""
    status, findings = checked(["CAP_DAC_READ_SEARCH"], config)
    assert status == 1
    missing = {name for name in CAPABILITIES if not findings[name]["ok"]}
    assert missing == set(CAPABILITIES) - {"CAP_DAC_READ_SEARCH"}
    assert "Process" in findings["CAP_BPF"]["detail"]
    assert "CAP_BPF" in findings["collector Process"]["detail"]


@needs_root
@pytest.mark.root
def test_check_finds_no_capability_missing_where_all_are_granted(config: Path):
    """What packaging grants is what is asked for."""
    _, findings = checked(list(CAPABILITIES), config)
    assert all(findings[name]["ok"] for name in CAPABILITIES)


# Every way of installation grants the same


def test_the_systemd_unit_grants_exactly_these():
    """As ambient capabilities, and as the bound; each has its reason in a comment."""
    text = (PACKAGING / "systemd/vedette.service").read_text()
    unit = configparser.ConfigParser(strict=False, delimiters="=", interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    for key in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert set(unit["Service"][key].split()) == set(CAPABILITIES)
    reasons = "".join(line for line in text.splitlines() if line.startswith("#   CAP_"))
    assert set(re.findall(r"CAP_\w+", reasons)) == set(CAPABILITIES)


def test_the_other_init_systems_grant_exactly_these():
    """OpenRC, procd and the container."""
    openrc = re.search(r'granted="-all,(.*)"', (PACKAGING / "openrc/vedette").read_text())
    assert openrc
    assert {f"CAP_{name.upper()}" for name in re.findall(r"\+(\w+)", openrc[1])} == set(CAPABILITIES)
    procd = json.loads((PACKAGING / "procd/capabilities.json").read_text())
    assert all(set(names) == set(CAPABILITIES) for names in procd.values())
    container = (PACKAGING / "container/Containerfile").read_text()
    assert {f"CAP_{name}" for name in re.findall(r"--cap-add (\w+)", container)} == set(CAPABILITIES)


def test_systemd_understands_the_unit():
    """Its own checker finds nothing to say, but for the program that is not installed here."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    unit = PACKAGING / "systemd/vedette.service"
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    ours = [
        line for line in done.stderr.splitlines() if "vedette" in line and "is not executable" not in line
    ]
    assert ours == []
