"""The virtual environment of the official SDKs, apart from ours: they pin an older paho-mqtt.

Run as a program it prepares the environment and prints its interpreter.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = ("azure-iot-device==2.14.0", "azure-iot-hub==2.7.0", "six==1.17.0")
"""The service SDK imports six without asking for it."""

HOME = Path(__file__).parents[2] / ".venv-sdk"


class CannotInstall(Exception):
    """The SDKs are not to be had here; the text says why."""


def interpreter(home: Path = HOME, requirements: tuple[str, ...] = REQUIREMENTS) -> Path:
    """The Python of an environment that has these packages; made on the first call. Raises CannotInstall."""
    home.mkdir(exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python = home / "bin" / "python"
        if not _has(python, requirements):
            _run([sys.executable, "-m", "venv", "--clear", str(home)], requirements)
            _run([str(python), "-m", "pip", "install", "--quiet", *requirements], requirements)
        return python


def _has(python: Path, requirements: tuple[str, ...]) -> bool:
    wanted = dict(requirement.split("==") for requirement in requirements)
    code = f"import sys, importlib.metadata as m; w={wanted}; sys.exit({{n: m.version(n) for n in w}} != w)"
    return python.exists() and subprocess.run([str(python), "-c", code], capture_output=True).returncode == 0


def _run(command: list[str], requirements: tuple[str, ...]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise CannotInstall(f"{', '.join(requirements)} cannot be installed: {last}")


if __name__ == "__main__":
    print(interpreter())
