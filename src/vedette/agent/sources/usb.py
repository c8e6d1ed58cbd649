"""USB devices as uevents and sysfs tell of them: what they say they are, never more.

A device whose class is 0 leaves it to its interfaces to say what they are (USB 2.0, 9.6.1).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from vedette.agent.sources.files import attribute, content, entries

Triple = tuple[int, int, int]
"""Class, subclass and protocol."""

MAX_INTERFACES = 32
"""Interfaces kept of one device: the kernel's USB_MAXINTERFACES."""


class UsbDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device on a bus. `number` is the kernel's, new with each connection."""

    path: str
    bus: int
    number: int
    triple: Triple
    vendor_id: str
    product_id: str
    vendor_name: str = ""
    product_name: str = ""
    interfaces: tuple[Triple, ...] = ()

    def with_interface(self, triple: Triple) -> UsbDevice:
        """The same with one interface more, unless it has as many as a device can have."""
        return msgspec.structs.replace(self, interfaces=(*self.interfaces, triple)[:MAX_INTERFACES])

    def with_names(self, root: Path) -> UsbDevice:
        """The same with the names that the device gives itself, if sysfs (still) has them."""
        place = root / "sys" / self.path.lstrip("/")
        return msgspec.structs.replace(
            self, vendor_name=attribute(place / "manufacturer"), product_name=attribute(place / "product")
        )


def device_of(path: str, keys: Mapping[str, str]) -> UsbDevice | None:
    """The device that a uevent of type `usb_device` speaks of; None if keys are missing or malformed."""
    try:
        vendor, product, _release = keys["PRODUCT"].split("/")
        return UsbDevice(
            path=path,
            bus=int(keys["BUSNUM"]),
            number=int(keys["DEVNUM"]),
            triple=_triple(keys["TYPE"]),
            vendor_id=f"{int(vendor, 16):04x}",
            product_id=f"{int(product, 16):04x}",
        )
    except (KeyError, ValueError):
        return None


def interface_of(keys: Mapping[str, str]) -> Triple | None:
    """What the interface is that a uevent of type `usb_interface` speaks of."""
    try:
        return _triple(keys["INTERFACE"])
    except (KeyError, ValueError):
        return None


def parent_of(path: str) -> str:
    """The device that an interface belongs to."""
    return path.rpartition("/")[0]


def connected(root: Path) -> dict[str, UsbDevice]:
    """All devices by their path in sysfs, with their interfaces and names."""
    devices: dict[str, UsbDevice] = {}
    functions: list[tuple[str, Triple]] = []
    for path, keys in _listed(root):
        if keys.get("DEVTYPE") == "usb_device" and (device := device_of(path, keys)):
            devices[path] = device.with_names(root)
        elif triple := interface_of(keys):
            functions.append((parent_of(path), triple))
    for path, triple in functions:
        if path in devices:
            devices[path] = devices[path].with_interface(triple)
    return devices


def _listed(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    sys = (root / "sys").resolve()
    for entry in entries(sys / "bus/usb/devices"):
        with contextlib.suppress(OSError, ValueError):
            path = f"/{entry.resolve().relative_to(sys)}"
            rows = content(entry / "uevent").decode(errors="backslashreplace").splitlines()
            yield path, dict(row.split("=", 1) for row in rows if "=" in row)


def _triple(text: str) -> Triple:
    one, two, three = (int(part) for part in text.split("/"))
    return one, two, three
