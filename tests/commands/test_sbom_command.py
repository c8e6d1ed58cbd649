"""`vedette sbom` lists packages, writes documents, and says what is missing."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vedette.cli import main
from vedette.commands import UsageError, sbom

ROOTFS = Path(__file__).parent.parent / "fixtures" / "rootfs"


def run(*arguments: str) -> int:
    """The command with these arguments."""
    parser = argparse.ArgumentParser()
    sbom.add(parser.add_subparsers())
    options = parser.parse_args(["sbom", *arguments])
    status: int = options.run(options)
    return status


def test_a_table_of_packages(capsys: pytest.CaptureFixture[str]):
    """Without options people get a table; a complete list exits with 0."""
    assert run("--root", str(ROOTFS / "openwrt")) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:]] == [
        ["dropbear", "2022.82-2"],
        ["libopenssl1.1", "1.1.1t-2"],
    ]


def test_json(capsys: pytest.CaptureFixture[str]):
    """Programs get the packages with all fields."""
    run("--root", str(ROOTFS / "openwrt"), "--json")
    assert json.loads(capsys.readouterr().out)[0]["purl"].startswith("pkg:opkg/openwrt/dropbear@2022.82-2")


@pytest.mark.parametrize(("form", "sign"), [("cyclonedx", "bomFormat"), ("spdx", "spdxVersion")])
def test_documents_go_to_a_file(tmp_path: Path, form: str, sign: str):
    """--output receives the document."""
    target = tmp_path / "sbom.json"
    assert run("--root", str(ROOTFS / "openwrt"), "--format", form, "--output", str(target)) == 0
    assert sign in json.loads(target.read_text())


def test_what_could_not_be_read_is_said(capsys: pytest.CaptureFixture[str]):
    """A list with gaps is printed, the gaps are named, and the status is 1."""
    assert run("--root", str(ROOTFS / "container")) == 1
    assert "1 records left out: malformed record" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path):
    """Not a traceback."""
    with pytest.raises(UsageError, match="no/such"):
        run("--root", str(ROOTFS / "openwrt"), "--format", "spdx", "--output", str(tmp_path / "no/such"))


@pytest.mark.parametrize(("form", "library"), [("cyclonedx", "cyclonedx"), ("spdx", "spdx_tools")])
def test_a_missing_library_is_named_with_the_remedy(form: str, library: str):
    """Where the extra is not installed, the table still works and a document says what it needs."""
    code = f"""
import argparse, sys
for name in ("cyclonedx", "spdx_tools", "packageurl"): sys.modules[name] = None
from vedette.commands import UsageError, sbom
parser = argparse.ArgumentParser(); sbom.add(parser.add_subparsers())
options = parser.parse_args(["sbom", "--root", {str(ROOTFS / "openwrt")!r}])
assert options.run(options) == 0
options.format = {form!r}
try: options.run(options)
except UsageError as error: print(error, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert library in done.stderr
    assert "pip install 'vedette[sbom]'" in done.stderr


def test_vulnerabilities_are_those_that_a_hubs_advisories_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Of another root's packages, too; and whoever has imported nothing is told so."""
    state = ["--state", str(tmp_path / "state")]
    root = ["--vulnerabilities", "--root", str(ROOTFS / "pc")]
    main(["hub", "init", *state])
    with pytest.raises(UsageError, match="no advisories"):
        run(*root, *state)
    package = {"ecosystem": "Debian:12", "name": "openssl"}
    fix = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}]
    record = {"id": "DSA-1", "affected": [{"package": package, "ranges": fix}], "summary": "A flaw."}
    (tmp_path / "dsa.json").write_text(json.dumps(record))
    main(["intel", "import", "--osv", str(tmp_path / "dsa.json"), *state])
    capsys.readouterr()
    run(*root, *state, "--json")
    [found] = json.loads(capsys.readouterr().out)
    assert (found["advisory"], found["package"], found["fixed"]) == ("DSA-1", "openssl", "99")
