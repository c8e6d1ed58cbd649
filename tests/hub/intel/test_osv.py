"""OSV records against installed packages, by the version rules of each ecosystem."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from vedette.hub.intel.ecosystems import advisory_key, package_keys
from vedette.hub.intel.formats import FormatError
from vedette.hub.intel.matching import fixed_in
from vedette.hub.intel.osv import Advisory, by_package, records
from vedette.hub.intel.severity import base_score, of_score
from vedette.hub.intel.store import Tally, unpacked
from vedette.wire.events import Package


def package(purl: str, version: str = "1", source: str = "") -> Package:
    return Package(name="x", version=version, source=source, purl=purl)


@pytest.mark.parametrize(
    ("ecosystem", "name", "purl", "source"),
    [
        ("Debian:12", "openssl", "pkg:deb/debian/libssl3@3.0.9-1?arch=amd64&distro=debian-12", "openssl"),
        ("Debian:11", "bash", "pkg:deb/raspbian/bash@5.1?arch=armhf&distro=raspbian-11", ""),
        ("Ubuntu:22.04:LTS", "curl", "pkg:deb/ubuntu/curl@7.81?distro=ubuntu-22.04", ""),
        ("Alpine:v3.18", "openssl", "pkg:apk/alpine/libcrypto3@3.1?distro=alpine-3.18.4", "openssl"),
        ("AlmaLinux:9", "openssl-libs", "pkg:rpm/almalinux/openssl-libs@3.0?distro=almalinux-9.3", "openssl"),
        ("Rocky Linux:8", "bash", "pkg:rpm/rocky/bash@4.4?distro=rocky-8.9", ""),
        ("Red Hat:enterprise_linux:9::baseos", "bash", "pkg:rpm/rhel/bash@5?distro=rhel-9.2", ""),
        ("openSUSE:Leap 15.5", "bash", "pkg:rpm/opensuse-leap/bash-sh@4?distro=opensuse-leap-15.5", "bash"),
        ("SUSE:Linux Enterprise Server 15 SP5", "bash", "pkg:rpm/sles/bash@4?distro=sles-15.5", ""),
        ("PyPI", "Ruamel.Yaml", "pkg:pypi/ruamel-yaml@0.17", ""),
        ("npm", "@babel/core", "pkg:npm/%40babel/core@7.0.0", ""),
    ],
)
def test_an_advisory_and_a_package_url_name_the_same_package(
    ecosystem: str, name: str, purl: str, source: str
):
    """Releases, source packages and spellings come together in one key."""
    assert list(package_keys(package(purl, source=source))) == [advisory_key(ecosystem, name)]


@pytest.mark.parametrize("ecosystem", ["crates.io", "Debian", "Ubuntu:Pro:18.04:LTS", "Android", ""])
def test_ecosystems_that_no_inventory_holds_have_no_key(ecosystem: str):
    """They are counted, not stored."""
    assert advisory_key(ecosystem, "x") is None


def advisory(*events: tuple[str, str], fits: tuple[str, ...] = ()) -> Advisory:
    return Advisory("A", (), "", None, "Unknown", (events,) if events else (), fits)


@pytest.mark.parametrize(
    ("key", "fixed", "older", "newer"),
    [
        (
            "deb/debian/12/x",
            "1.1.1n-0+deb11u5",
            ("1.1.1n-0+deb11u3", "1.1.1~rc1-1"),
            ("1:0.1-1", "1.1.1n-0+deb11u5"),
        ),
        ("apk/alpine/3.18/x", "1.2.3-r10", ("1.2.3-r9", "1.2.3_rc1-r11"), ("1.2.3-r10", "1.2.4-r0")),
        ("apk/alpine/3.19/x", "1.2.4_git20230717-r5", ("1.2.4_git20230717-r4", "1.2.4-r9"), ("1.2.5-r0",)),
        ("rpm/rocky/9/x", "0:1.2-4.el9", ("1.2-3.el9", "1.2-4.el8"), ("1.2-10.el9", "1:1.0-1")),
        ("pypi/x", "2.0", ("1.10", "2.0rc1"), ("2.0.0", "2.0.post1", "10.0")),
        ("npm/x", "2.0.0", ("1.10.0", "2.0.0-rc.1"), ("2.0.0", "10.0.0")),
    ],
)
def test_versions_are_compared_by_the_rules_of_their_ecosystem(
    key: str, fixed: str, older: tuple[str, ...], newer: tuple[str, ...]
):
    """What is older than the fix is affected and told the fix; the fix itself and later ones are not."""
    found = advisory(("introduced", "0"), ("fixed", fixed))
    assert {version: fixed_in(found, key, version) for version in older} == dict.fromkeys(older, fixed)
    assert {version: fixed_in(found, key, version) for version in newer} == dict.fromkeys(newer)


def test_ranges_begin_end_and_begin_again():
    """The last event that a version has reached decides, in whatever order the events stand."""
    found = advisory(("fixed", "2.5"), ("introduced", "2.0"), ("introduced", "1.0"), ("last_affected", "1.4"))
    affected = {v: fixed_in(found, "pypi/x", v) for v in ("0.9", "1.0", "1.4", "1.4.1", "2.0", "2.5")}
    assert affected == {"0.9": None, "1.0": "2.5", "1.4": "2.5", "1.4.1": None, "2.0": "2.5", "2.5": None}


def test_without_a_range_the_listed_versions_count():
    """As for packages that were malicious from the start."""
    found = advisory(fits=("1.0.0",))
    assert fixed_in(found, "npm/x", "1.0.0") == ""
    assert fixed_in(found, "npm/x", "1.0.1") is None


def test_a_version_that_cannot_be_read_matches_nothing():
    """It is neither older nor newer than anything."""
    assert fixed_in(advisory(("introduced", "0"), ("fixed", "2.0")), "pypi/x", "local build") is None
    assert fixed_in(advisory(("introduced", "0")), "pypi/x", "1") == ""


@pytest.mark.parametrize(
    ("vector", "score", "word"),
    [  # the first four as published for CVE-2021-44228, CVE-2014-0160, CVE-2013-1937 and CVE-2016-1645
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0, "Critical"),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5, "High"),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1, "Medium"),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:U/C:H/I:H/A:H", 8.8, "High"),
        ("CVSS:3.0/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 3.1, "Low"),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:N", 0.0, "Low"),
        ("AV:N/AC:L/Au:N/C:P/I:N/A:N", 5.0, "Medium"),
        ("(AV:N/AC:M/Au:N/C:N/I:P/A:N)", 4.3, "Medium"),
    ],
)
def test_base_scores_are_those_of_the_specification(vector: str, score: float, word: str):
    """Version 3, with and without a change of scope, and version 2."""
    assert base_score(vector) == score
    assert of_score(score) == word


@pytest.mark.parametrize("vector", ["CVSS:4.0/AV:N/AC:L", "CVSS:3.1/AV:N", "high", ""])
def test_other_texts_have_no_base_score(vector: str):
    """A vector of a version without an equation, half a vector, a word."""
    assert base_score(vector) is None


def record(**fields: Any) -> dict[str, Any]:
    return {
        "id": "DEBIAN-CVE-2024-1",
        "upstream": ["CVE-2024-1"],
        "details": "A flaw.\nMore of it.",
        "affected": [
            {
                "package": {"ecosystem": "Debian:12", "name": "openssl"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0.10-1"}]}],
                "versions": ["3.0.9-1"],
                "ecosystem_specific": {"urgency": "unimportant"},
            }
        ],
        **fields,
    }


def imported(tmp_path: Path, *documents: object) -> tuple[dict[str, tuple[Advisory, ...]], dict[str, int]]:
    file = tmp_path / "osv.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for number, document in enumerate(documents):
            archive.writestr(f"{number}.json", json.dumps(document))
        archive.writestr("README.txt", "no record")
    tally = Tally(100)
    found = by_package(records(file), tally)
    return {key: unpacked(data, tuple[Advisory, ...]) for key, data in found.items()}, tally.refused


def test_records_become_statements_about_packages(tmp_path: Path):
    """With names, summary, rating and ranges; the list of versions that repeats a range is left out."""
    rated = record(
        id="GHSA-1", severity=[{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}]
    )
    found, refused = imported(tmp_path, record(), rated)
    first, second = found["deb/debian/12/openssl"]
    assert first == Advisory(
        "DEBIAN-CVE-2024-1",
        ("CVE-2024-1",),
        "A flaw.",
        None,
        "Low",
        ((("introduced", "0"), ("fixed", "3.0.10-1")),),
        (),
    )
    assert (second.score, second.severity) == (7.5, "High")
    assert refused == {}


def test_records_that_say_nothing_of_a_device_are_counted(tmp_path: Path):
    """By reason."""
    git = [{"package": {"ecosystem": "PyPI", "name": "x"}, "ranges": [{"type": "GIT", "events": []}]}]
    crate = [{"package": {"ecosystem": "crates.io", "name": "x"}, "versions": ["1"]}]
    found, refused = imported(
        tmp_path,
        record(withdrawn="2025-01-01T00:00:00Z"),
        record(affected=git),
        record(affected=crate),
        {"a": 1},
    )
    assert found == {}
    assert refused == {"withdrawn": 1, "tells no versions": 1, "ecosystem crates.io": 1, "no OSV record": 1}


def test_records_come_from_files_and_directories_too(tmp_path: Path):
    """A single one, or a tree of them; a file that is not there is named."""
    (tmp_path / "2024").mkdir()
    file = tmp_path / "2024" / "a.json"
    file.write_text(json.dumps(record()))
    assert list(records(file)) == list(records(tmp_path)) == [file.read_bytes()]
    with pytest.raises(FormatError, match=r"none\.json"):
        list(records(tmp_path / "none.json"))
