"""Databases that a registry may be in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from postgres import USER, cluster, connect, programs


@pytest.fixture(scope="session")
def postgresql_port() -> Iterator[int]:
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL server here")
    with cluster(found) as server:
        yield server.port


@pytest.fixture(scope="session")
def new_database(postgresql_port: int) -> Callable[[], str]:
    """Makes an empty database and returns its URL."""
    numbers = itertools.count()

    def make() -> str:
        name = f"registry{next(numbers)}"
        connection = connect(postgresql_port)
        connection.run(f"CREATE DATABASE {name}")
        connection.close()
        return f"postgresql://{USER}@127.0.0.1:{postgresql_port}/{name}"

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A registry's URL, on either database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    made: str = request.getfixturevalue("new_database")()
    return made


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def keyed_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same with its key file, as a hub's parts are given it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    made: str = request.getfixturevalue("new_database")()
    return f"{made}?key_file={quote(str(tmp_path / 'registry.key'), safe='')}"
