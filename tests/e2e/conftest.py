"""What tests with official SDKs share."""

from pathlib import Path

import pytest
from sdk_venv import CannotInstall, interpreter


@pytest.fixture(scope="session")
def sdk_python() -> Path:
    """The Python of the SDKs' own environment."""
    try:
        return interpreter()
    except CannotInstall as reason:
        pytest.skip(str(reason))
