"""Bare Debian systems in directories, in which packages are installed and systemd is booted for real."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import PATIENCE_S

ROOT = Path(__file__).parents[2]
NEEDS = ("debootstrap", "dpkg-deb", "llvm-strip", "systemd-nspawn")
NSPAWN = [
    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe"),
    *("--capability=all", "--system-call-filter=bpf perf_event_open"),
]
INCLUDE = "python3,libbpf1,systemd,dbus,nftables"


def require() -> None:
    """Skip where such systems cannot be made."""
    missing = [name for name in NEEDS if not shutil.which(name)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root{''.join(f' and {name}' for name in missing)}")


def bootstrap(directory: Path) -> None:
    """A minimal system of this machine's own release, from debootstrap's own mirror."""
    release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    command = [
        "debootstrap",
        "--variant=minbase",
        f"--include={INCLUDE}",
        release["VERSION_CODENAME"],
        directory,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"debootstrap: {done.stdout[-300:]}")


@contextmanager
def layered(base: Path, directory: Path) -> Iterator[Path]:
    """A system that begins as `base`, which stays as it is: a layer above it or, failing that, a copy."""
    root, changes, work = (directory / name for name in ("root", "changes", "work"))
    for path in (root, changes, work):
        path.mkdir()
    options = f"lowerdir={base},upperdir={changes},workdir={work}"
    mount = ["mount", "-t", "overlay", "-o", options, "overlay", root]
    overlaid = subprocess.run(mount, capture_output=True).returncode == 0
    if not overlaid:
        subprocess.run(["cp", "-a", f"{base}/.", root], check=True)
    try:
        yield root
    finally:
        if overlaid:
            subprocess.run(["umount", root], check=True)
        for path in (root, changes, work):
            shutil.rmtree(path)


class System:
    """One such system, not running."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in it."""
        return subprocess.run(
            ["chroot", self.root, *command],
            capture_output=True,
            text=True,
            check=check,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C.UTF-8",
                "DEBIAN_FRONTEND": "noninteractive",
            },
        )

    def install(self, package: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`dpkg -i` in it."""
        shutil.copy(package, self.root / "root")
        return self.run("dpkg", "-i", f"/root/{package.name}", check=check)

    def add(self, *packages: str) -> None:
        """Install Debian packages in it; skip where they cannot be had."""
        shutil.copy("/etc/resolv.conf", self.root / "etc")
        for command in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", *packages]):
            done = self.run("apt-get", "--yes", *command, check=False)
            if done.returncode:
                pytest.skip(f"{', '.join(packages)}: {done.stderr.strip()[-300:]}")

    def contain(self, script: str) -> str:
        """Run a shell script in namespaces of its own, on this machine's network and kernel; its output."""
        command = [*NSPAWN, "--as-pid2", f"--directory={self.root}", "/bin/sh", "-euc", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def traces(self, word: str) -> list[str]:
        """Paths in it whose name holds the word, apart from where packages were laid ready."""
        found = subprocess.run(
            [
                "find",
                self.root,
                "-xdev",
                "-path",
                self.root / "root",
                "-prune",
                "-o",
                "-name",
                f"*{word}*",
                "-print",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        return sorted(found.stdout.split())

    @contextmanager
    def booted(self) -> Iterator["Booted"]:
        """The system with its own systemd as process 1, on this machine's network and kernel."""
        log = self.root.parent / f"{self.root.name}.boot.log"
        with log.open("w") as output:
            machine = subprocess.Popen(
                [*NSPAWN, "--boot", f"--machine=vedette-{os.getpid()}", f"--directory={self.root}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            running = Booted(self, first_process(machine))
            running.until("systemctl is-system-running --wait; true", "")
            yield running
        finally:
            machine.terminate()  # nspawn asks its systemd to shut down
            machine.wait(PATIENCE_S)


def first_process(machine: subprocess.Popen[bytes]) -> int:
    """The process that is number 1 inside, once it is systemd; its number here."""
    children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children")
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and machine.poll() is None:
        for pid in children.read_text().split():
            status = Path(f"/proc/{pid}/status").read_text()
            if status.startswith("Name:\tsystemd\n") and "\t1\n" in status.split("NSpid:")[1]:
                return int(pid)
        time.sleep(0.05)
    raise AssertionError("systemd did not start")


class Booted:
    """A running system."""

    def __init__(self, system: System, pid: int) -> None:
        self.system = system
        self.pid = pid

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in its namespaces."""
        return subprocess.run(
            ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--cgroup", *command],
            capture_output=True,
            text=True,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C.UTF-8",
                "DEBIAN_FRONTEND": "noninteractive",
            },
        )

    def until(self, script: str, expected: str) -> str:
        """Repeat a shell script until its output holds the text; returns the output."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = self.run("sh", "-c", script)
            if done.returncode == 0 and expected in done.stdout:
                return done.stdout
            if time.monotonic() > deadline:
                journal = self.run("journalctl", "--no-pager", "-b", "-n", "40", "-u", "vedette").stdout
                raise AssertionError(f"{script!r}: no {expected!r} in {done.stdout}{done.stderr}\n{journal}")
            time.sleep(0.2)
