"""The virtual environment of the engines that run on several machines, apart from ours: 800 MB.

Run as a program it prepares the environment and prints its interpreter.
"""

from pathlib import Path

import sdk_venv
from sdk_venv import CannotInstall

REQUIREMENTS = ("pysail==0.7.2", "pyspark==4.1.1")

HOME = Path(__file__).parents[2] / ".venv-spark"

__all__ = ["HOME", "CannotInstall", "interpreter"]


def interpreter() -> Path:
    """The environment's Python; made on the first call. Raises CannotInstall."""
    return sdk_venv.interpreter(HOME, REQUIREMENTS)


if __name__ == "__main__":
    print(interpreter())
