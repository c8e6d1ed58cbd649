"""The Debian package in bare systems: installed, upgraded, rolled back, purged; the unit under systemd."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from debian_roots import System

from support import PATIENCE_S, VEDETTE, free_port
from vedette import __version__

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(600)]

NEXT = "99.0"

SOON = """
import os
import threading
death = threading.Timer(4.0, os._exit, (3,))
death.daemon = True
death.start()
"""
"""Ends the service a moment after it said that it is ready."""


BROKEN = {"at once": 'raise RuntimeError("broken")\n', "soon": SOON}
"""How a version may be unhealthy → what stands in its agent."""


def as_next(package: Path, tmp_path: Path, *, broken: str = "") -> Path:
    """The same package as a later version, whose agent may be broken."""
    tree = tmp_path / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    (tree / f"usr/lib/vedette/{__version__}").rename(tree / f"usr/lib/vedette/{NEXT}")
    for name in ("control", "postinst", "prerm"):
        path = tree / "DEBIAN" / name
        path.write_text(path.read_text().replace(__version__, NEXT))
    (tree / "DEBIAN/md5sums").unlink()
    site = tree / f"usr/lib/vedette/{NEXT}/vedette"
    for compiled in [*site.glob("__pycache__/__init__*"), *site.glob("agent/__pycache__/app.*")]:
        compiled.unlink()
    (site / "__init__.py").write_text(f'__version__ = "{NEXT}"\n')
    if broken:
        with (site / "agent/app.py").open("a") as module:
            module.write(BROKEN[broken])
    target = tmp_path / f"vedette_{NEXT}_{broken.replace(' ', '-') or 'good'}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, target], check=True)
    shutil.rmtree(tree)
    return target


def version_in_force(system: System) -> str:
    return system.run("vedette", "--version").stdout.split()[1]


def test_lintian_finds_no_error(package: Path):
    """Debian's own checker, its errors being failures."""
    if not shutil.which("lintian"):
        pytest.skip("needs lintian")
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error", package], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_a_device_gets_the_agent_and_nothing_of_the_hub(package: Path, system: System):
    """It runs with Debian's Python alone, from bytecode that came with it, and brings a user of its own."""
    system.install(package)
    assert version_in_force(system) == __version__
    cycle = json.loads(system.run("vedette", "agent", "once", "--seconds", "0", "--only", "Process").stdout)
    assert cycle["collectors"][0]["state"] == "running"
    site = system.root / f"usr/lib/vedette/{__version__}/vedette"
    assert not (site / "hub").exists()
    sources, compiled = set(site.rglob("*.py")), set(site.rglob("*.pyc"))
    assert len(sources) == len(compiled) > 50
    assert system.run("id", "-gn", "vedette").stdout == "vedette\n"
    assert (system.root / "var/lib/vedette").stat().st_mode & 0o777 == 0o700


def test_an_upgrade_keeps_what_the_device_is_and_knows(package: Path, system: System, tmp_path: Path):
    """Local files and state stay; of the old version only what a rollback needs."""
    system.install(package)
    (system.root / "etc/vedette/sysinfo.json").write_text("{}")
    (system.root / "var/lib/vedette/outbox.db").write_text("unsent")
    system.install(as_next(package, tmp_path))
    assert version_in_force(system) == NEXT
    assert (system.root / "etc/vedette/sysinfo.json").exists()
    assert (system.root / "var/lib/vedette/outbox.db").read_text() == "unsent"
    versions = sorted(path.name for path in (system.root / "usr/lib/vedette").iterdir())
    assert versions == [NEXT, "current", "previous"]


def test_an_unhealthy_version_gives_way_to_the_previous_one(package: Path, system: System, tmp_path: Path):
    """The package system shows that the upgrade failed, the agent works on; the next version heals it."""
    system.install(package)
    done = system.install(as_next(package, tmp_path, broken="at once"), check=False)
    assert done.returncode != 0
    assert "the previous version is in force again" in done.stderr
    assert version_in_force(system) == __version__
    assert "half-configured" in system.run("dpkg", "-s", "vedette").stdout
    system.install(as_next(package, tmp_path))
    assert version_in_force(system) == NEXT
    assert "install ok installed" in system.run("dpkg", "-s", "vedette").stdout


def test_purge_leaves_nothing(package: Path, system: System, tmp_path: Path):
    """Not a file, not a user, after an upgrade, a rollback and use."""
    before = system.traces("vedette")
    system.install(package)
    system.install(as_next(package, tmp_path, broken="at once"), check=False)
    (system.root / "etc/vedette/connection_string.txt").write_text("secret")
    system.run("dpkg", "--purge", "vedette")
    assert system.traces("vedette") == before == []
    assert system.run("getent", "passwd", "vedette", check=False).returncode != 0
    assert system.run("getent", "group", "vedette", check=False).returncode != 0


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A hub on loopback: its state and port."""
    state, port = tmp_path / "hub", free_port()
    ports = ["--mqtt-port", str(port), "--https-port", str(free_port())]
    init = [*VEDETTE, "hub", "init", "--host", "localhost", "--bind", "127.0.0.1", *ports, "--state", state]
    subprocess.run(init, check=True, capture_output=True)
    running = subprocess.Popen([*VEDETTE, "hub", "run", "--state", state], stderr=subprocess.DEVNULL)
    yield state, port
    running.terminate()
    running.wait(PATIENCE_S)


def enrol(system: System, state: Path, port: int) -> None:
    """Register a device and lay its local files, as the README tells; the port is not the standard one."""
    added = subprocess.run(
        [*VEDETTE, "device", "add", "pump", "--state", state], check=True, capture_output=True, text=True
    )
    room = [*VEDETTE, "twin", "set", "pump", "Process_CacheSize=10000", "--state", state]
    subprocess.run(room, check=True, capture_output=True)  # other people's processes run here, too
    config = system.root / "etc/vedette"
    (config / "connection_string.txt").write_text(added.stdout)
    (config / "connection_string.txt").chmod(0o600)
    shutil.copy(state / "pki/ca.pem", config)
    extra = system.root / "etc/systemd/system/vedette.service.d/port.conf"
    extra.parent.mkdir(parents=True)
    extra.write_text(f"[Service]\nExecStart=\nExecStart=/usr/bin/vedette agent run --port {port}\n")


def test_the_unit_runs_confined_and_counts_in_the_kernel(
    package: Path, system: System, tmp_path: Path, hub: tuple[Path, int]
):
    """Under systemd: ready when it collects, without root, with six capabilities and a system call filter.

    What runs on the machine reaches the hub; an upgrade that is broken, or dies soon,
    leaves the service running as it was.
    """
    state, port = hub
    system.install(package)
    enrol(system, state, port)
    with system.booted() as device:
        device.until("systemctl is-active vedette", "active")
        journal = device.until("journalctl -u vedette --no-pager", "twin version 2 applied")
        assert "connected to localhost" in journal
        assert "Process: collecting by eBPF" in journal
        assert "Traceback" not in journal
        status = device.run("sh", "-c", "cat /proc/$(systemctl show -P MainPID vedette)/status").stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert "0" not in fields["Uid"].split()
        assert fields["CapEff"] == fields["CapBnd"] == "000000c000083004"
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")

        device.run("sleep", "0.0001727")
        device.run("systemctl", "stop", "vedette")
        question = "Process | where Commandline == 'sleep 0.0001727' | summarize Hits=sum(HitCount)"
        asked = [*VEDETTE, "query", question, "--json", "--state", state]
        answered = subprocess.run(asked, check=True, capture_output=True, text=True)
        assert json.loads(answered.stdout) == [{"Hits": 1}]

        device.run("systemctl", "start", "vedette")
        for how in BROKEN:
            broken = as_next(package, tmp_path, broken=how)
            shutil.copy(broken, system.root / "root")
            assert device.run("dpkg", "-i", f"/root/{broken.name}").returncode != 0
            device.until("systemctl is-active vedette", "active")
            assert version_in_force(system) == __version__
