"""The container recipe, built from a bare Debian system and run, without a container engine's daemon."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from debian_roots import ROOT

from vedette import __version__

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(400)]

BASE = "docker.io/library/debian:bookworm-slim"
"""What the recipe builds on; here it is made from debootstrap's system."""


class Builder:
    """Buildah with a storage of its own."""

    def __init__(self, storage: Path) -> None:
        self._command = ["buildah", "--root", storage / "root", "--runroot", storage / "run"]
        self._command += ["--storage-driver", "vfs"]

    def __call__(self, *arguments: str | Path) -> str:
        """What it prints. The recipe's packages come from Debian: skips where they cannot be had."""
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True)
        if done.returncode and "Temporary failure resolving" in done.stdout + done.stderr:
            pytest.skip("Debian's packages cannot be had")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Builder]:
    if os.geteuid() != 0 or not shutil.which("buildah"):
        pytest.skip("needs root and buildah")
    yield Builder(tmp_path / "storage")
    shutil.rmtree(tmp_path / "storage")  # a copy of a system for every layer


def test_the_recipe_makes_an_image_that_runs_the_agent(buildah: Builder, base: Path, package: Path):
    """Its entry point is `vedette`, which collects, if need be without any capability."""
    recipe = ROOT / "packaging/container/Containerfile"
    assert f"FROM {BASE.rpartition('/')[2]}\n" in recipe.read_text()
    scratch = buildah("from", "scratch")
    buildah("copy", "--quiet", scratch, base, "/")
    buildah("commit", "--quiet", "--rm", scratch, BASE)
    buildah("bud", "--isolation", "chroot", "--pull-never", "-t", "vedette", "-f", recipe, package.parent)
    made = buildah("from", "--pull-never", "localhost/vedette")
    config = json.loads(buildah("inspect", made))["OCIv1"]["config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["/usr/bin/vedette"], ["agent", "run"])
    assert config["StopSignal"] == "SIGTERM"
    run = ["run", "--isolation", "chroot", "--cap-drop", "ALL", made, "--", *config["Entrypoint"]]
    assert buildah(*run, "--version") == f"vedette {__version__}"
    cycle = json.loads(buildah(*run, "agent", "once", "--seconds", "0", "--only", "Process"))
    assert cycle["collectors"][0]["state"] == "running"
