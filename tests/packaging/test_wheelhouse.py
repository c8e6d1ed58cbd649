"""What a device without network gets: one archive, installed and run where nothing can be reached."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from debian_roots import ROOT

from vedette import __version__

pytestmark = [pytest.mark.slow, pytest.mark.root]


def test_the_agent_installs_and_collects_without_network(tmp_path: Path):
    """As the script's own instructions tell, in a network namespace that has not even a loopback."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare")
    made = subprocess.run(
        [ROOT / "packaging/airgap/wheelhouse"],
        env=os.environ | {"OUT": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"the wheels cannot be had: {made.stderr.strip()[-300:]}")
    device = tmp_path / "device"
    device.mkdir()
    shutil.move(tmp_path / "vedette-wheelhouse.tar", device)
    shutil.rmtree(tmp_path / "vedette-wheelhouse")
    script = f"""
        tar xf vedette-wheelhouse.tar
        {sys.executable} -m venv vedette
        vedette/bin/pip install -q --no-index --find-links vedette-wheelhouse vedette >&2
        cd /
        {device}/vedette/bin/vedette --version
        {device}/vedette/bin/vedette agent once --seconds 0 --only Process
    """
    command = ["unshare", "--net", "env", "-i", f"PATH={os.environ['PATH']}", "sh", "-euc", script]
    done = subprocess.run(command, cwd=device, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    version, _, cycle = done.stdout.partition("\n")
    assert version == f"vedette {__version__}"
    assert json.loads(cycle)["collectors"][0]["state"] == "running"
