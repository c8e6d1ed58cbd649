"""Accounts: from the file, read again when it changes, bounded."""

from pathlib import Path

import pytest

from vedette.agent.sources import passwd
from vedette.agent.sources.passwd import Accounts


def test_the_first_name_of_an_id_is_its_name(tmp_path: Path):
    """Two accounts may share an id; lines that are not accounts are passed over."""
    file = tmp_path / "passwd"
    file.write_text("root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n# note\nbad:x:no:0::/:\n+::::::\n")
    accounts = Accounts(file)
    assert (accounts.name(0), accounts.name(1)) == ("root", "")


def test_an_account_is_known_by_its_name(tmp_path: Path):
    """Whatever its id; where there is no such file nobody is."""
    file = tmp_path / "passwd"
    accounts = Accounts(file)
    assert "ada" not in accounts
    file.write_text("ada:x:7:7::/:/bin/sh\nada2:x:7:7::/:/bin/sh\n")
    assert [name in accounts for name in ("ada", "ada2", "x")] == [True, True, False]


def test_a_changed_file_is_read_again(tmp_path: Path):
    """A new account has a name as soon as it is there."""
    file = tmp_path / "passwd"
    accounts = Accounts(file)
    assert accounts.name(7) == ""
    file.write_text("ada:x:7:7::/:/bin/sh\n")
    assert accounts.name(7) == "ada"
    file.unlink()
    assert accounts.name(7) == ""


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What stands beyond the bound has no name."""
    monkeypatch.setattr(passwd, "PASSWD_MAX", 25)
    file = tmp_path / "passwd"
    file.write_text("ada:x:7:7::/:/bin/sh\nbob:x:8:8::/:/bin/sh\n")
    accounts = Accounts(file)
    assert (accounts.name(7), accounts.name(8)) == ("ada", "")
