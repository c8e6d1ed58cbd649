"""The software inventory of a device."""

from pathlib import Path

import pytest
from packageurl import PackageURL

from vedette.agent.collectors.sbom import SBoMCollector, inventory, package_url
from vedette.agent.losses import Losses
from vedette.agent.sources.osrelease import operating_system
from vedette.agent.sources.package import Installed
from vedette.wire.events import SBoM
from vedette.wire.twin import Settings

ROOTFS = Path(__file__).parent.parent / "fixtures" / "rootfs"
DEVICES = ("pc", "raspberrypi", "imx", "openwrt", "container")

EXPECTED = {
    "pkg:deb/debian/libssl3@3.0.13-1?arch=amd64&distro=debian-12": ("deb", "libssl3", "3.0.13-1", "amd64"),
    "pkg:deb/debian/g%2B%2B@4:12.2.0-3%2Bb1?arch=amd64&distro=debian-12": (
        "deb",
        "g++",
        "4:12.2.0-3+b1",
        "amd64",
    ),
    "pkg:rpm/debian/bash@5.2-3?arch=x86_64&distro=debian-12&epoch=1": ("rpm", "bash", "1:5.2-3", "x86_64"),
    "pkg:pypi/flask-login@0.6.3": ("pypi", "Flask_Login", "0.6.3", ""),
    "pkg:npm/%40angular/cli@18.0.3": ("npm", "@angular/cli", "18.0.3", ""),
    "pkg:generic/snap/core22@20240408": ("snap", "core22", "20240408", ""),
    "pkg:deb/debian/unversioned?distro=debian-12": ("deb", "unversioned", "", ""),
}


@pytest.mark.parametrize("purl", EXPECTED)
def test_package_urls_are_those_of_the_specification(purl: str):
    """Each kind's own rules, in the canonical form that the reference implementation gives."""
    kind, name, version, architecture = EXPECTED[purl]
    found = Installed(kind=kind, name=name, version=version, architecture=architecture)
    assert package_url(found, operating_system(ROOTFS / "pc")) == purl
    assert PackageURL.from_string(purl).to_string() == purl


@pytest.mark.parametrize("device", DEVICES)
def test_every_package_of_a_device_has_its_own_canonical_package_url(device: str):
    """What the fixture trees hold makes valid, distinct package URLs."""
    purls = [package.purl for package in inventory(ROOTFS / device, [], Losses())]
    assert purls
    assert len(set(purls)) == len(purls)
    assert [PackageURL.from_string(purl).to_string() for purl in purls] == purls


def test_this_machine_has_canonical_package_urls():
    """So do the packages of a real system."""
    for package in inventory(Path("/"), [], Losses()):
        assert PackageURL.from_string(package.purl).to_string() == package.purl


async def test_an_upgrade_is_told_as_one_package_gone_and_one_new(tmp_path: Path):
    """Between whole inventories only the difference travels."""
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    kept = "Package: kept\nVersion: 1\nArchitecture: all\n\n"
    status.write_text(kept + "Package: openssl\nVersion: 3.0.13\nArchitecture: all\n")
    collector = SBoMCollector(tmp_path, root=tmp_path)
    await collector.start(Settings())
    (whole,) = (await collector.collect()).events
    assert isinstance(whole.payload, SBoM)
    assert whole.payload.total == 2
    status.write_text(kept + "Package: openssl\nVersion: 3.0.14\nArchitecture: all\n")
    (change,) = (await collector.collect()).events
    assert isinstance(change.payload, SBoM)
    assert change.payload.previous_id == whole.payload.snapshot_id
    assert [package.version for package in change.payload.packages] == ["3.0.14"]
    assert [PackageURL.from_string(purl).version for purl in change.payload.removed] == ["3.0.13"]


async def test_an_unreadable_database_is_told_in_the_first_part(tmp_path: Path):
    """The reader learns that the inventory is not all there is."""
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    (tmp_path / "var/lib/rpm/Packages").write_bytes(b"\0" * 64)
    collector = SBoMCollector(tmp_path, root=tmp_path)
    await collector.start(Settings())
    (event,) = (await collector.collect()).events
    assert isinstance(event.payload, SBoM)
    assert ["Berkeley DB" in note for note in event.payload.notes] == [True]
    assert (await collector.collect()).events == []


def test_the_twin_switches_it_and_sets_its_pace(tmp_path: Path):
    """Its settings are those of the documented names."""
    collector = SBoMCollector(tmp_path)
    assert collector.enabled(Settings())
    assert not collector.enabled(Settings(sbom_disabled=True))
    assert collector.priority(Settings()) == "Low"
    assert collector.full_every(Settings(sbom_full_every=3)) == 3
