"""The packages for ARM, installed and run in Debian systems of that architecture, by QEMU.

The kernel starts foreign programs by what binfmt_misc says; here that is told to a user namespace alone, so
that this machine stays as it was. QEMU passes neither eBPF nor netlink on: how an agent goes without them.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from debian_roots import ROOT

from support import PATIENCE_S
from vedette import __version__

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(600)]

QEMU = {"arm64": "aarch64", "armhf": "arm"}
"""Debian's name of an architecture → QEMU's."""

NEEDS = ("debootstrap", "dpkg-deb", "llvm-strip", "unshare")

SLOWNESS = 4
"""Times that an emulated processor takes, at least, of what this one does."""

ENTER = """
echo ready
read _
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
cat "$1" >/proc/sys/fs/binfmt_misc/register
for tree in proc dev; do mount --rbind "/$tree" "$2/$tree"; done
exec chroot "$2" /bin/sh -euc "$3"
"""


class Foreign:
    """A system of another architecture, as far as the package needs one: nothing in it is configured."""

    def __init__(self, root: Path, arch: str) -> None:
        self.root = root
        self._arch = arch
        self._rule = Path(f"/usr/lib/binfmt.d/qemu-{QEMU[arch]}.conf")

    def bootstrap(self) -> None:
        """Unpack Debian's essential packages and Python."""
        if not self._rule.exists():
            pytest.skip("needs qemu-user-static")
        release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
        options = ["--foreign", f"--arch={self._arch}", "--variant=minbase", "--include=python3"]
        done = subprocess.run(
            ["debootstrap", *options, release["VERSION_CODENAME"], self.root], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"debootstrap: {done.stdout[-300:]}")
        unpacked = set((self.root / "debootstrap/required").read_text().split())
        for package in (self.root / "var/cache/apt/archives").glob("*.deb"):
            if package.name.partition("_")[0] not in unpacked:
                self._unpack(package)
        if (proc := self.root / "proc").is_symlink():  # debootstrap's, where it does not mount one
            proc.unlink()
            proc.mkdir()
        for name in ("passwd", "group"):
            shutil.copy(self.root / f"usr/share/base-passwd/{name}.master", self.root / f"etc/{name}")

    def _unpack(self, package: Path) -> None:
        """As dpkg would: `/lib` stays the link that it is, even where a package has such a directory."""
        content = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True)
        command = ["tar", "-x", "--keep-directory-symlink", "-C", self.root]
        subprocess.run(command, input=content.stdout, check=True)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """A shell script in it."""
        command = [
            "unshare",
            "--user",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "sh",
            "-ec",
            ENTER,
            "sh",
        ]
        with subprocess.Popen(
            [*command, self._rule, self.root, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        ) as inside:
            assert inside.stdout is not None
            if inside.stdout.readline() != "ready\n":
                pytest.skip("needs user namespaces")
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{inside.pid}/{name}").write_text("0 0 65536")
            out, err = inside.communicate("\n", timeout=SLOWNESS * PATIENCE_S)
        if "binfmt_misc: permission denied" in err:
            pytest.skip("needs a kernel that keeps binfmt_misc by user namespace (Linux 6.7)")
        return subprocess.CompletedProcess(script, inside.returncode, out, err)


@pytest.fixture(params=QEMU)
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Foreign]:
    missing = [name for name in NEEDS if not shutil.which(name)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root{''.join(f' and {name}' for name in missing)}")
    if request.param == "armhf" and not shutil.which("arm-linux-gnueabihf-gcc"):
        pytest.skip("needs gcc-arm-linux-gnueabihf")
    system = Foreign(tmp_path / "root", request.param)
    system.bootstrap()
    subprocess.run(
        [sys.executable, ROOT / "packaging/deb/build.py", "--arch", request.param, "--out", tmp_path],
        check=True,
    )
    shutil.copy(tmp_path / f"vedette_{__version__}_{request.param}.deb", system.root / "root/vedette.deb")
    yield system
    shutil.rmtree(system.root)


def test_the_package_installs_and_collects(foreign: Foreign):
    """Its scripts, its extension module, its collectors; what it lacks there is told, and it goes on."""
    installed = foreign.run("dpkg --force-depends -i /root/vedette.deb")
    assert installed.returncode == 0, installed.stderr
    assert "Process: collecting by polling of /proc" in installed.stderr
    config = foreign.root / "etc/vedette/connection_string.txt"
    config.write_text("HostName=127.0.0.1;DeviceId=d;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==")
    done = foreign.run(
        "vedette --version; vedette --help | head -1; vedette agent check --json --port 1 || true"
    )
    version, usage, *found = done.stdout.splitlines()
    assert (version, usage.split()[:2]) == (f"vedette {__version__}", ["usage:", "vedette"])
    findings = {one["what"]: one for one in json.loads("\n".join(found))}
    assert findings["collector Process"]["detail"].startswith("polling of /proc (eBPF: ")
    assert findings["collector Baseline"]["ok"]
    assert "Connection refused" in findings["hub 127.0.0.1:1"]["detail"]
