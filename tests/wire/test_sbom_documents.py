"""Package lists become documents that the standards' own tools accept."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.json.json_parser import parse_from_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from vedette.agent.collectors.sbom import inventory
from vedette.agent.losses import Losses
from vedette.wire.events import Package
from vedette.wire.sbom import FORMATS, Subject, cyclonedx, spdx

ROOTFS = Path(__file__).parent.parent / "fixtures" / "rootfs"
SUBJECT = Subject(
    "gateway-7", datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), UUID("6f8c1e7a-4f0b-4a55-9f2f-1c9d2f6f0a01")
)
LISTS = {device: ROOTFS / device for device in ("pc", "raspberrypi", "imx", "openwrt", "container")}
LISTS |= {"this machine": Path("/"), "nothing": ROOTFS / "no such directory"}


def packages(root: Path) -> list[Package]:
    return list(inventory(root, [], Losses()))


@pytest.mark.parametrize("name", LISTS)
def test_cyclonedx_documents_are_valid(name: str):
    """Strictly, against the 1.6 schema; every package is a component with its package URL."""
    listed = packages(LISTS[name])
    document = cyclonedx(listed, SUBJECT)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None
    purls = [component["purl"] for component in json.loads(document).get("components", [])]
    assert sorted(purls) == sorted(package.purl for package in listed)


@pytest.mark.parametrize("name", LISTS)
def test_spdx_documents_are_valid(name: str, tmp_path: Path):
    """By the rules of SPDX 2.3, read back from the file; every package refers to its package URL."""
    listed = packages(LISTS[name])
    (tmp_path / "sbom.spdx.json").write_text(spdx(listed, SUBJECT))
    document = parse_from_file(str(tmp_path / "sbom.spdx.json"))
    if listed:
        assert validate_full_spdx_document(document) == []
    locators = [
        reference.locator for package in document.packages for reference in package.external_references
    ]
    assert locators == [package.purl for package in listed]


@pytest.mark.parametrize("form", FORMATS)
def test_a_document_says_of_what_when_and_by_what(form: str):
    """Device, time and tool are in it."""
    document = FORMATS[form]([Package(name="a", version="1", purl="pkg:deb/debian/a@1")], SUBJECT)
    assert "gateway-7" in document
    assert "2026-01-02T03:04:05" in document
    assert "vedette" in document


@pytest.mark.parametrize(
    "vendor", ["<>", "<x@example.org>", "A (b) <c@example.org>", "Jo <a> <b@c>", " ", "é\n"]
)
def test_any_vendor_makes_valid_documents(vendor: str):
    """Maintainer fields are written by people."""
    listed = [Package(name="a", version="1", vendor=vendor, purl="pkg:deb/debian/a@1")]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(cyclonedx(listed, SUBJECT)) is None
    assert json.loads(spdx(listed, SUBJECT))["packages"]
