"""A bare Debian system to copy, and the package to install in it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from debian_roots import ROOT, System, bootstrap, layered, require

PREPARED = "VEDETTE_DEBIAN_ROOT"
"""Names a directory that debootstrap has filled already: a minute less while one works on the package."""


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What systems are copied from."""
    require()
    if PREPARED in os.environ:
        return Path(os.environ[PREPARED])
    directory = tmp_path_factory.mktemp("base") / "root"
    bootstrap(directory)
    return directory


@pytest.fixture
def system(base: Path, tmp_path: Path) -> Iterator[System]:
    with layered(base, tmp_path) as root:
        yield System(root)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make deb` builds."""
    require()
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, ROOT / "packaging/deb/build.py", "--out", out], check=True)
    (built,) = out.glob("*.deb")
    return built
