from collections.abc import Iterator
from pathlib import Path

import pytest
from detect_support import Rig


@pytest.fixture
def rig(tmp_path: Path, keyed_url: str) -> Iterator[Rig]:
    made = Rig(tmp_path, url=keyed_url)
    yield made
    made.database.close()
