"""Network interfaces: what each is, who made it, and its addresses.

Names, MAC and IP addresses come from rtnetlink; what kind of device stands behind a name is told by
sysfs, VLANs by /proc/net/vlan/config (which root alone may read).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from vedette.agent.sources.files import attribute, content, text
from vedette.agent.sources.hwdata import id_names, mac_vendors

NicType = Literal["UNKNOWN", "ETH", "WIFI", "MOBILE", "SATELLITE"]

ARPHRD_ETHER = "1"
"""<linux/if_arp.h>: frames as Ethernet has them."""

BY_DEVTYPE: dict[str, NicType] = {"wlan": "WIFI", "wwan": "MOBILE"}
"""DEVTYPE in an interface's uevent; other words (bridge, bond, vxlan …) name what is no hardware."""

BY_NAME: tuple[tuple[str, NicType], ...] = (("wwan", "MOBILE"), ("rmnet", "MOBILE"), ("dvb", "SATELLITE"))
"""Prefixes that drivers give without a DEVTYPE. `dvb` is IP over DVB, as satellite receivers offer it;
another satellite modem is not told apart from what it pretends to be (a serial line, an Ethernet card)."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """An interface as the kernel's link and address lists tell it."""

    name: str
    mac: str = ""
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """An interface with what sysfs adds; vendor is empty where nothing tells it."""

    link: Link
    type: NicType
    vendor: str
    vlans: tuple[int, ...]
    vlan_links: tuple[Link, ...]


def nics(root: Path, links: Iterable[Link]) -> list[Nic]:
    """The interfaces that are hardware or hold an address. VLANs stand with the interface they use."""
    by_name = {link.name: link for link in links if link.name != "lo"}
    vlans = [(parent, vid, by_name.pop(name)) for name, vid, parent in _vlans(root) if name in by_name]
    used = {parent for parent, _, _ in vlans}
    shown = [link for link in by_name.values() if link.name in used or _matters(root, link)]
    vendors = _vendors(root, shown)
    return [
        Nic(
            link=link,
            type=_type(root, link.name),
            vendor=vendors.get(link.name, ""),
            vlans=tuple(sorted(vid for parent, vid, _ in vlans if parent == link.name)),
            vlan_links=tuple(vlan for parent, _, vlan in vlans if parent == link.name),
        )
        for link in shown
    ]


def _sysfs(root: Path, name: str) -> Path:
    return root / "sys/class/net" / name


def _matters(root: Path, link: Link) -> bool:
    """Hosts of containers have hundreds of virtual interfaces; without an address they are plumbing."""
    routable = [address for address in link.ipv6 if not address.startswith("fe80:")]
    return bool(link.ipv4 or routable or (_sysfs(root, link.name) / "device").exists())


def _type(root: Path, name: str) -> NicType:
    directory = _sysfs(root, name)
    devtype = _uevent(directory).get("DEVTYPE", "")
    if devtype in BY_DEVTYPE:
        return BY_DEVTYPE[devtype]
    if (directory / "phy80211").exists() or (directory / "wireless").exists():
        return "WIFI"
    for prefix, kind in BY_NAME:
        if name.startswith(prefix):
            return kind
    return "ETH" if not devtype and attribute(directory / "type") == ARPHRD_ETHER else "UNKNOWN"


def _vlans(root: Path) -> list[tuple[str, int, str]]:
    """(interface, VLAN id, interface it uses), from lines of `eth0.42 | 42 | eth0`."""
    rows = [text(line).split("|") for line in content(root / "proc/net/vlan/config").splitlines()]
    return [
        (row[0].strip(), int(row[1]), row[2].strip())
        for row in rows
        if len(row) == 3 and row[1].strip().isdecimal()
    ]


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
