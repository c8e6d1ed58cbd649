"""`vedette intel` as its user sees it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vedette.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    state = str(tmp_path / "state")
    assert main(["hub", "init", "--state", state]) == 0
    capsys.readouterr()

    def intel(*arguments: str | Path) -> tuple[int, str, str]:
        status = main(["intel", *map(str, arguments), "--state", state])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return intel


def test_a_list_is_imported_shown_asked_and_removed(run: Run, tmp_path: Path):
    """The whole life of a list; what could not be used is told."""
    file = tmp_path / "feed.txt"
    file.write_text("203.0.113.0/24\nbad.example\n10.0.0.0/7\n")
    assert run("import", file, "--confidence", "80") == (
        0,
        "feed: 2 indicators\n  1 left out: range wider than /8\n",
        "",
    )
    assert "feed  indicators  2" in run("list")[1]
    assert "name     bad.example" in run("show", "feed")[1]
    status, out, _ = run("check", "203.0.113.9", "--json")
    assert status == 0
    [hit] = json.loads(out)
    assert (hit["list"], hit["value"], hit["confidence"]) == ("feed", "203.0.113.0/24", 80)
    assert run("check", "good.example") == (1, "good.example: no list knows it\n", "")
    assert run("remove", "feed")[0] == 0
    assert run("show", "feed") == (1, "", "vedette: feed: no such list\n")


def test_an_import_may_look_back(run: Run, tmp_path: Path):
    """At a lake that holds nothing yet, too; a wrong span is told before anything is imported."""
    file = tmp_path / "feed.txt"
    file.write_text("bad.example\n")
    status, _, err = run("import", file, "--since", "7x")
    assert (status, "7x" in err, json.loads(run("list", "--json")[1])) == (1, True, [])
    assert run("import", file, "--since", "7d")[1] == "feed: 1 indicators\n  0 new alerts of 0 events\n"


def test_advisories_and_lifecycles_are_lists_too(run: Run, tmp_path: Path):
    """They are listed with how much they hold."""
    affected = [{"package": {"ecosystem": "npm", "name": "x"}, "versions": ["1.0.0"]}]
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv" / "a.json").write_text(json.dumps({"id": "MAL-1", "affected": affected}))
    assert run("import", "--osv", tmp_path / "osv")[1] == "osv: 1 advisories\n"
    ends = tmp_path / "ends.json"
    ends.write_text('{"lifecycles": [{"distribution": "Ours", "version": "1", "ends": "2030-01-01"}]}')
    assert run("import", "--lifecycles", ends)[1] == "ends: 1 lifecycles\n"
    listed = json.loads(run("list", "--json")[1])
    assert [(one["name"], one["kind"], one["entries"]) for one in listed] == [
        ("ends", "lifecycles", 1),
        ("osv", "advisories", 1),
    ]
    ends.write_text('{"lifecycles": [{"distribution": "Ours", "version": 1, "ends": "2030-01-01"}]}')
    status, _, err = run("import", "--lifecycles", ends)
    assert status == 1
    assert "version" in err


def test_what_cannot_be_imported_is_told(run: Run, tmp_path: Path):
    """Which file, and why; nothing is imported by half."""
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert run("import", empty) == (1, "", "vedette: empty.txt: nothing to import\n")
    status, _, err = run("import", tmp_path / "none.txt")
    assert (status, err) == (1, f"vedette: {tmp_path / 'none.txt'}: no such file or directory\n")
    assert run("import", empty, "--confidence", "101")[2] == "vedette: --confidence: a number from 0 to 100\n"
    assert json.loads(run("list", "--json")[1]) == []
