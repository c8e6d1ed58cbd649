"""The official Node SDKs, in a directory of their own that git ignores.

Run as a program it prepares the directory and prints it.
"""

import fcntl
import shutil
import subprocess
from pathlib import Path

from sdk_venv import CannotInstall

REQUIREMENTS = (
    *("azure-iothub@1.16.6", "azure-iot-device@1.18.4", "azure-iot-device-mqtt@1.16.4"),
    *("azure-iot-provisioning-device@1.9.1", "azure-iot-provisioning-device-http@1.9.1"),
    "azure-iot-security-symmetric-key@1.8.2",
)
HOME = Path(__file__).parents[2] / ".venv-sdk-node"


def modules() -> Path:
    """The directory of the modules; filled on the first call. Raises CannotInstall."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise CannotInstall(f"{program} is not installed")
    HOME.mkdir(exist_ok=True)
    with (HOME / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        filled = HOME / ".filled"
        if not filled.exists() or filled.read_text() != str(REQUIREMENTS):
            _install()
            filled.write_text(str(REQUIREMENTS))
    return HOME / "node_modules"


def _install() -> None:
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(HOME)]
    done = subprocess.run([*command, *REQUIREMENTS], capture_output=True, text=True, cwd=HOME)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise CannotInstall(f"the Node SDKs cannot be installed: {last}")


if __name__ == "__main__":
    print(modules())
