"""Packages are listed from every database that a device has."""

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.losses import MALFORMED, Loss, Losses
from vedette.agent.sources import packages_control
from vedette.agent.sources.package import Installed
from vedette.agent.sources.packages import installed

ROOTFS = Path(__file__).parent.parent / "fixtures" / "rootfs"


def packages(root: Path) -> dict[str, Installed]:
    """Packages under a root by name; nothing may be lost or noted."""
    notes: list[str] = []
    losses = Losses()
    found = {package.name: package for package in installed(root, notes, losses)}
    assert notes == []
    assert losses.take() == []
    return found


def test_dpkg_lists_what_is_on_the_disk():
    """Removed packages that left their configuration behind are not installed; half-configured ones are."""
    found = packages_control.dpkg(ROOTFS / "pc", Losses())
    assert [package.name for package in found] == ["openssl", "libssl3", "linux-image-6.1.0-22-amd64"]


def test_a_dpkg_package_is_told_with_its_maintainer_and_source():
    """Vendor is the Maintainer field; the source package loses its version."""
    (libssl,) = [p for p in packages_control.dpkg(ROOTFS / "pc", Losses()) if p.name == "libssl3"]
    assert libssl == Installed(
        kind="deb",
        name="libssl3",
        version="3.0.13-1~deb12u1",
        vendor="Debian OpenSSL Team <pkg-openssl-devel@alioth-lists.debian.net>",
        architecture="amd64",
        source="openssl",
    )


def test_distroless_images_keep_a_file_for_each_package(tmp_path: Path):
    """status.d is read, the checksum lists beside the packages are not."""
    directory = tmp_path / "var/lib/dpkg/status.d"
    directory.mkdir(parents=True)
    (directory / "base").write_text("Package: base-files\nVersion: 12.4\nArchitecture: amd64\n")
    (directory / "base.md5sums").write_text("d41d8cd98f00b204e9800998ecf8427e  etc/debian_version\n")
    assert list(packages(tmp_path)) == ["base-files"]


def test_opkg_takes_maintainer_and_source_from_the_control_file():
    """The status file of OpenWrt has neither; a package without a control file is listed all the same."""
    found = packages(ROOTFS / "openwrt")
    assert found["libopenssl1.1"] == Installed(
        kind="opkg",
        name="libopenssl1.1",
        version="1.1.1t-2",
        vendor="Eneas U de Queiroz <cotequeiroz@gmail.com>",
        architecture="mipsel_24kc",
        source="openssl",
    )
    assert found["dropbear"].version == "2022.82-2"
    assert list(packages(ROOTFS / "imx")) == ["busybox"]


def test_apk_lists_packages_and_counts_a_record_without_a_name():
    """One-letter fields; the file lists between them are passed over."""
    losses = Losses()
    found = list(installed(ROOTFS / "container", [], losses))
    assert found == [
        Installed(
            kind="apk",
            name="musl",
            version="1.2.4_git20230717-r4",
            vendor="Timo Teräs <timo.teras@iki.fi>",
            architecture="x86_64",
        ),
        Installed(
            kind="apk",
            name="busybox-binsh",
            version="1.36.1-r15",
            vendor="Sören Tempel <soeren+alpine@soeren-tempel.net>",
            architecture="x86_64",
            source="busybox",
        ),
    ]
    assert losses.take() == [Loss(MALFORMED, 0, 1)]


def test_python_node_snap_and_flatpak_are_listed_beside_the_distribution():
    """What pip and npm installed is told; what the distribution packaged is told by its database only."""
    losses = Losses()
    found = {p.name: p for p in installed(ROOTFS / "pc", [], losses) if p.kind != "deb"}
    assert {name: (p.kind, p.version, p.vendor) for name, p in found.items()} == {
        "Flask_Login": ("pypi", "0.6.3", "Matthew Frazier"),
        "npm": ("npm", "10.8.1", "GitHub Inc."),
        "@angular/cli": ("npm", "18.0.3", "Angular Authors"),
        "core22": ("snap", "20240408", ""),
        "org.gnome.Calculator": ("flatpak", "46.1", ""),
    }
    assert losses.take() == [Loss(MALFORMED, 0, 1)], "the package.json that ends early"


def test_a_device_without_a_package_manager_has_no_packages(tmp_path: Path):
    """Nothing to read is nothing to tell, not an error."""
    assert packages(tmp_path) == {}


def test_an_unreadable_database_is_noted_and_the_others_are_read(tmp_path: Path):
    """A FIFO in the place of the status file neither blocks nor hides what apk installed."""
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    os.mkfifo(tmp_path / "var/lib/dpkg/status")
    (tmp_path / "lib/apk/db").mkdir(parents=True)
    (tmp_path / "lib/apk/db/installed").write_text("P:musl\nV:1\n")
    notes: list[str] = []
    assert [package.name for package in installed(tmp_path, notes, Losses())] == ["musl"]
    assert len(notes) == 1
    assert "var/lib/dpkg/status: not a regular file" in notes[0]


def test_a_long_line_is_cut_and_the_next_paragraph_is_read(tmp_path: Path):
    """A value of a megabyte costs a bounded part of it."""
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_text(f"Package: a\nMaintainer: {'x' * 1_000_000}\nVersion: 1\n\nPackage: b\nVersion: 2\n")
    found = packages(tmp_path)
    assert found["a"].version == "1"
    assert len(found["a"].vendor) == 256
    assert found["b"].version == "2"


@given(st.binary(max_size=400))
def test_any_bytes_in_a_status_file_are_survived(tmp_path_factory: pytest.TempPathFactory, raw: bytes):
    """Hostile content yields packages or counted losses, never an exception."""
    root = tmp_path_factory.mktemp("root")
    for path in ("var/lib/dpkg/status", "lib/apk/db/installed", "usr/lib/node_modules/x/package.json"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(raw)
    for package in installed(root, [], Losses()):
        assert package.name


def test_five_thousand_packages_are_streamed(tmp_path: Path):
    """Reading a status file of 7 MB holds a small part of it at a time."""
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    with status.open("w") as file:
        for number in range(5000):
            file.write(f"Package: package-{number}\nStatus: install ok installed\nVersion: 1.{number}\n")
            file.write("Description: a text\n" + " and its continuation line\n" * 50 + "\n")
    tracemalloc.start()
    count = sum(1 for _ in packages_control.dpkg(tmp_path, Losses()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 5000
    assert peak < 262_144
