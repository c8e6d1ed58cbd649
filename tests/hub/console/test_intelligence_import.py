"""A file from a browser becomes a list."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vedette.hub.console.intelligence_import import DAY_S, Wanted, import_file
from vedette.hub.detect.schema import Database
from vedette.hub.intel.formats import FormatError
from vedette.hub.intel.store import Intel


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    yield made
    made.close()


def quiet(taken: int) -> None:
    """Nobody watches."""


def test_what_is_said_of_the_list_holds_for_its_indicators(database: Database, tmp_path: Path):
    """The column of a CSV file, the confidence, and until when they count."""
    file = tmp_path / "feed.csv"
    file.write_text("id,url\n1,http://bad.example/x\n2,\n")
    wanted = Wanted("feed", column="url", confidence=70, days=7)
    made = import_file(database, wanted, file, "feed.csv", quiet)
    assert (made.entries, sum(made.refused.values())) == (1, 1)
    [(_, known)] = Intel(database).indicators("feed")
    assert known.confidence == 70
    assert known.expires is not None
    assert 6 * DAY_S < known.expires - time.time() <= 7 * DAY_S


def test_advisories_and_lifecycles_become_lists_of_their_kind(database: Database, tmp_path: Path):
    """Each by what the form says that the file holds."""
    advisory = tmp_path / "one.json"
    package = {"ecosystem": "Debian:12", "name": "bash"}
    events = [{"introduced": "0"}, {"fixed": "9"}]
    affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
    advisory.write_text(json.dumps({"id": "EX-1", "affected": affected}))
    made = import_file(database, Wanted("debian", "advisories"), advisory, "one.json", quiet)
    assert (made.kind, made.entries) == ("advisories", 1)
    with pytest.raises(FormatError):
        import_file(database, Wanted("ends", "lifecycles"), advisory, "one.json", quiet)
    assert [one.name for one in Intel(database).lists()] == ["debian"]
