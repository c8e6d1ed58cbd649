"""`vedette baseline` in a terminal and in a script."""

import argparse
import json
from pathlib import Path

import pytest

from vedette.commands import UsageError, baseline
from vedette.wire.baseline import GROUPS

ALL_GROUPS = ",".join(GROUPS)


def invoke(*arguments: str) -> int:
    """The command's exit status."""
    parser = argparse.ArgumentParser()
    baseline.add(parser.add_subparsers())
    options = parser.parse_args(["baseline", *arguments])
    status: int = options.run(options)
    return status


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A system that fails some checks."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("ID=demo\nVERSION_ID=1\n")
    (tmp_path / "etc/inittab").write_text("::respawn:-/bin/sh\n")
    (tmp_path / "etc/shadow").write_text("root:*:1::::::\n")
    return tmp_path


def test_json_holds_every_result(image: Path, capsys: pytest.CaptureFixture[str]):
    """A script reads what a person sees, and more; the status says that checks failed."""
    assert invoke("--root", str(image), "--json") == 1
    found = {entry["number"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert len(found) == 237
    assert found["1.4.3"]["result"] == "FAIL"
    assert found["1.4.3"]["evidence"] == ["/etc/inittab: ::respawn:-/bin/sh"]


def test_the_terminal_shows_failures_with_evidence_and_a_summary_by_group(image, capsys):
    """What is wrong, where it stands, what to do; and how much of each group."""
    assert invoke("--root", str(image)) == 1
    out = capsys.readouterr().out
    assert "FAIL CIS-demo-1-Secure_Boot-1.4.3  (Important)" in out
    assert "> /etc/inittab: ::respawn:-/bin/sh" in out
    assert "Set a password for root" in out
    assert "\x1b[" not in out
    rows = {line.rsplit(None, 4)[0]: line.split()[-4:] for line in out.splitlines()[-27:]}
    assert sum(map(int, rows["all"])) == 237
    assert rows["Secure Boot"] == ["0", "1", "3", "0"]


def test_the_status_is_0_if_nothing_failed(image: Path):
    """A script goes by the status."""
    others = ",".join(group for group in GROUPS if group != "Inetd Services")
    assert invoke("--root", str(image), "--groups-disabled", others) == 0


def test_passed_and_skipped_checks_are_shown_on_demand(image: Path, capsys):
    """With the reason for each skip."""
    invoke("--root", str(image), "--all", "--groups-disabled", "Firewall")
    out = capsys.readouterr().out
    assert "SKIP CIS-demo-1-Filesystem_Integrity-1.3.1" in out
    assert "> off in profile device: the integrity of a device" in out


def test_checks_of_ones_own_are_added(image: Path, capsys):
    """Who starts the command vouches for the file: it is pinned as it is."""
    own = image / "own.yaml"
    own.write_text("checks: [{id: mine, description: A file is there., file: /etc/inittab}]")
    invoke("--root", str(image), "--custom", str(own), "--json", "--groups-disabled", ALL_GROUPS)
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["check_id"], entry["result"]) == ("Custom-mine", "PASS")


def test_a_wrong_name_is_explained(image: Path):
    """As the twin would."""
    with pytest.raises(UsageError, match="no such group: Crom"):
        invoke("--root", str(image), "--groups-disabled", "Crom")
    with pytest.raises(UsageError, match="no such directory"):
        invoke("--root", str(image / "absent"))
    with pytest.raises(UsageError, match="No such file"):
        invoke("--custom", str(image / "absent.yaml"))


def test_a_terminal_gets_colours_and_a_bar(image, capsys, monkeypatch):
    """Red for failures, unless NO_COLOR is set."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    invoke("--root", str(image))
    shown = capsys.readouterr()
    assert "\x1b[31mFAIL\x1b[0m CIS-demo-1-Secure_Boot-1.4.3" in shown.out
    assert "237/237" in shown.err
    monkeypatch.setenv("NO_COLOR", "1")
    invoke("--root", str(image))
    assert "\x1b[31m" not in capsys.readouterr().out
