"""axe-core, the accessibility checker, in a directory of its own that git ignores."""

import fcntl
import shutil
import subprocess
from pathlib import Path

VERSION = "4.10.3"
HOME = Path(__file__).parents[3] / ".venv-axe"


class CannotInstall(Exception):
    """The text says what is missing."""


def script() -> str:
    """Its source, to be run in a page; fetched on the first call. Raises CannotInstall."""
    if shutil.which("npm") is None:
        raise CannotInstall("npm is not installed")
    HOME.mkdir(exist_ok=True)
    with (HOME / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        source = HOME / "node_modules/axe-core/axe.min.js"
        known = HOME / ".filled"
        if not known.exists() or known.read_text() != VERSION:
            _install()
            known.write_text(VERSION)
    return source.read_text()


def _install() -> None:
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(HOME)]
    done = subprocess.run([*command, f"axe-core@{VERSION}"], capture_output=True, text=True, cwd=HOME)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise CannotInstall(f"axe-core cannot be installed: {last}")
