"""What sysfs knows of an Ethernet interface: the bus that its device is on, and whether it is a radio."""

from __future__ import annotations

import re
from pathlib import Path

from vedette.agent.sources.files import attribute

_PCI_ADDRESS = re.compile("[0-9a-f]{4,8}:([0-9a-f]{2}):[0-9a-f]{2}[.][0-7]")


def bus_number(root: Path, interface: str) -> int | None:
    """Number of the USB bus, or else of the PCI bus, that the interface's device is on."""
    sys = (root / "sys").resolve()
    try:
        device = (sys / "class/net" / interface / "device").resolve(strict=True)
    except OSError:
        return None
    for place in (device, *device.parents):
        if place == sys:
            break
        if (number := attribute(place / "busnum")).isdecimal():
            return int(number)
        if address := _PCI_ADDRESS.fullmatch(place.name):
            return int(address[1], 16)
    return None


def is_radio(root: Path, interface: str) -> bool:
    """True for Wi-Fi, which looks like Ethernet everywhere else."""
    place = root / "sys/class/net" / interface
    return (place / "phy80211").exists() or (place / "wireless").exists()
