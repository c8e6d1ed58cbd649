"""Devices on the PCI and USB buses, as sysfs shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from vedette.agent.sources.files import attribute, entries
from vedette.agent.sources.hwdata import Ids, id_names


class BusDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device. Ids have four hexadecimal digits, device_class (class, subclass, protocol) six; the
    other texts are empty where neither the device nor the system's id lists tell them."""

    bus: Literal["PCI", "USB"]
    address: str
    vendor_id: str
    product_id: str
    device_class: str
    vendor: str = ""
    product: str = ""
    serial_number: str = ""
    driver: str = ""

    @property
    def ids(self) -> Ids:
        """What the id lists know it by."""
        return self.vendor_id, self.product_id


def devices(root: Path) -> Iterator[BusDevice]:
    """All devices, PCI first, by address."""
    yield from _named(root, "pci", list(_pci(root)))
    yield from _named(root, "usb", list(_usb(root)))


def _pci(root: Path) -> Iterator[BusDevice]:
    for path in entries(root / "sys/bus/pci/devices"):
        yield BusDevice(
            bus="PCI",
            address=path.name,
            vendor_id=attribute(path / "vendor").removeprefix("0x"),
            product_id=attribute(path / "device").removeprefix("0x"),
            device_class=attribute(path / "class").removeprefix("0x"),
            driver=_driver(path),
        )


def _usb(root: Path) -> Iterator[BusDevice]:
    """Devices, without their functions (which have a colon in their address)."""
    for path in entries(root / "sys/bus/usb/devices"):
        if vendor := attribute(path / "idVendor"):
            yield BusDevice(
                bus="USB",
                address=path.name,
                vendor_id=vendor,
                product_id=attribute(path / "idProduct"),
                device_class="".join(
                    attribute(path / f"bDevice{part}") for part in ("Class", "SubClass", "Protocol")
                ),
                vendor=attribute(path / "manufacturer"),
                product=attribute(path / "product"),
                serial_number=attribute(path / "serial"),
                driver=_driver(path),
            )


def _driver(path: Path) -> str:
    rows = attribute(path / "uevent").splitlines()
    return next((row.removeprefix("DRIVER=") for row in rows if row.startswith("DRIVER=")), "")


def _named(root: Path, bus: str, found: list[BusDevice]) -> Iterator[BusDevice]:
    """The devices with the names that they do not bring themselves."""
    wanted = {ids for device in found for ids in (device.ids, (device.vendor_id, ""))}
    names = id_names(root, bus, wanted)
    for device in found:
        yield msgspec.structs.replace(
            device,
            vendor=device.vendor or names.get((device.vendor_id, ""), ""),
            product=device.product or names.get(device.ids, ""),
        )
