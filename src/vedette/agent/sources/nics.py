"""Network interfaces: what each is, who made it, and its addresses.

Names, addresses and VLANs come from rtnetlink; what kind of device stands behind a name is told by sysfs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from vedette.agent.sources.files import attribute, content, text
from vedette.agent.sources.hwdata import id_names, mac_vendors
from vedette.agent.sources.rtnetlink import ARPHRD_ETHER, ARPHRD_LOOPBACK, Address, Link

NicType = Literal["UNKNOWN", "ETH", "WIFI", "MOBILE", "SATELLITE"]

BY_DEVTYPE: dict[str, NicType] = {"wlan": "WIFI", "wwan": "MOBILE"}
"""DEVTYPE in an interface's uevent; other words (bridge, bond, vxlan …) name what is no hardware."""

BY_NAME: tuple[tuple[str, NicType], ...] = (("wwan", "MOBILE"), ("rmnet", "MOBILE"), ("dvb", "SATELLITE"))
"""Prefixes that drivers give without a DEVTYPE. `dvb` is IP over DVB, as satellite receivers offer it;
another satellite modem is not told apart from what it pretends to be (a serial line, an Ethernet card)."""


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """An interface. vendor is empty where nothing tells it; addresses include those of its VLANs."""

    name: str
    type: NicType
    mac: str
    vendor: str
    vlans: tuple[int, ...]
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]


def nics(root: Path, links: Mapping[int, Link], addresses: Iterable[Address]) -> list[Nic]:
    """The interfaces that are hardware, carry VLANs or hold an address, in the kernel's order."""
    held: dict[int, list[Address]] = {index: [] for index in links}
    for address in addresses:
        held.setdefault(address.index, []).append(address)
    vlans: dict[int, list[Link]] = {index: [] for index in links}
    for link in links.values():
        if link.vlan is not None and link.parent in links:
            vlans[link.parent].append(link)
    shown = [
        link
        for link in links.values()
        if link.device_type != ARPHRD_LOOPBACK
        and not (link.vlan is not None and link.parent in links)
        and (vlans[link.index] or _matters(root, link, held[link.index]))
    ]
    vendors = _vendors(root, shown)
    return [_nic(root, link, vendors.get(link.name, ""), vlans[link.index], held) for link in shown]


def _nic(
    root: Path, link: Link, vendor: str, vlans: Sequence[Link], held: Mapping[int, Sequence[Address]]
) -> Nic:
    found = [address.address for each in (link, *vlans) for address in held[each.index]]
    return Nic(
        name=link.name,
        type=_type(root, link),
        mac=link.mac,
        vendor=vendor,
        vlans=tuple(sorted(vlan.vlan for vlan in vlans if vlan.vlan is not None)),
        ipv4=tuple(str(address) for address in found if address.version == 4),
        ipv6=tuple(str(address) for address in found if address.version == 6),
    )


def _sysfs(root: Path, name: str) -> Path:
    return root / "sys/class/net" / name


def _matters(root: Path, link: Link, held: Sequence[Address]) -> bool:
    """Hosts of containers have hundreds of virtual interfaces; without an address they are plumbing."""
    return (_sysfs(root, link.name) / "device").exists() or any(not a.address.is_link_local for a in held)


def _type(root: Path, link: Link) -> NicType:
    directory = _sysfs(root, link.name)
    devtype = _uevent(directory).get("DEVTYPE", "")
    if devtype in BY_DEVTYPE:
        return BY_DEVTYPE[devtype]
    if (directory / "phy80211").exists() or (directory / "wireless").exists():
        return "WIFI"
    for prefix, kind in BY_NAME:
        if link.name.startswith(prefix):
            return kind
    return "ETH" if not devtype and link.device_type == ARPHRD_ETHER else "UNKNOWN"


def _vendors(root: Path, links: Sequence[Link]) -> dict[str, str]:
    """Vendor by interface: from the controller's PCI or USB id, else from its MAC address."""
    ids = {link.name: _bus_id(_sysfs(root, link.name)) for link in links}
    names = {
        bus: id_names(root, bus, {(vendor, "") for kind, vendor in ids.values() if kind == bus})
        for bus in ("pci", "usb")
    }
    found = {name: names[bus].get((vendor, ""), "") for name, (bus, vendor) in ids.items() if bus}
    unknown = {link.name: link.mac for link in links if not found.get(link.name)}
    by_mac = mac_vendors(root, set(unknown.values()))
    return found | {name: by_mac[mac] for name, mac in unknown.items() if mac in by_mac}


def _bus_id(directory: Path) -> tuple[str, str]:
    """(bus, vendor id) of the controller; two empty texts if it is on neither bus.

    A network interface on USB belongs to a function of the device, whose directory is one up.
    """
    device = directory / "device"
    if vendor := _uevent(device).get("PCI_ID", "").partition(":")[0]:
        return "pci", vendor.lower()
    if vendor := attribute(device.resolve().parent / "idVendor"):
        return "usb", vendor
    return "", ""


def _uevent(directory: Path) -> dict[str, str]:
    pairs = (text(line).partition("=") for line in content(directory / "uevent").splitlines())
    return {key: value for key, _, value in pairs}
