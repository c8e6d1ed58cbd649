from collections.abc import Iterator
from pathlib import Path

import pytest
from notify_support import Rig

from vedette.hub.tls import Pki, ensure_pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A server certificate for loopback, and the authority that vouches for it."""
    return ensure_pki(tmp_path_factory.mktemp("pki"), ["localhost", "127.0.0.1"])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(f"sqlite:///{tmp_path / 'registry.db'}")
    yield made
    made.close()


@pytest.fixture
def either_rig(url: str, tmp_path: Path) -> Iterator[Rig]:
    """On SQLite, then on PostgreSQL."""
    made = Rig(url if url.startswith("sqlite") else f"{url}?key_file={tmp_path / 'registry.key'}")
    yield made
    made.close()
