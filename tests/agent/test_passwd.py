"""Names of users: from the file, read again when it changes, bounded."""

from pathlib import Path

import pytest

from vedette.agent.sources import passwd
from vedette.agent.sources.passwd import UserNames


def test_the_first_name_of_an_id_is_its_name(tmp_path: Path):
    """Two accounts may share an id; lines that are not accounts are passed over."""
    file = tmp_path / "passwd"
    file.write_text("root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n# note\nbad:x:no:0::/:\n+::::::\n")
    names = UserNames(file)
    assert (names.name(0), names.name(1)) == ("root", "")


def test_a_changed_file_is_read_again(tmp_path: Path):
    """A new account has a name as soon as it is there."""
    file = tmp_path / "passwd"
    names = UserNames(file)
    assert names.name(7) == ""
    file.write_text("ada:x:7:7::/:/bin/sh\n")
    assert names.name(7) == "ada"
    file.unlink()
    assert names.name(7) == ""


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What stands beyond the bound has no name."""
    monkeypatch.setattr(passwd, "PASSWD_MAX", 25)
    file = tmp_path / "passwd"
    file.write_text("ada:x:7:7::/:/bin/sh\nbob:x:8:8::/:/bin/sh\n")
    names = UserNames(file)
    assert (names.name(7), names.name(8)) == ("ada", "")
