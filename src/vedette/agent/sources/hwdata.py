"""Names behind the ids of PCI and USB devices and of MAC addresses, from the lists that the system has.

The lists (`pci.ids`, `usb.ids`, IEEE's `oui.txt`) have one to six megabytes: they are streamed, once for
all ids that are asked for, and nothing of them is kept. A system without them knows no names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from vedette.agent.sources.files import lines, text

ID_LISTS = ("usr/share/hwdata/{}.ids", "usr/share/misc/{}.ids", "var/lib/{0}utils/{0}.ids")
OUI_LISTS = (
    "usr/share/ieee-data/oui.txt",
    "var/lib/ieee-data/oui.txt",
    "usr/share/hwdata/oui.txt",
    "usr/share/misc/oui.txt",
)

LOCALLY_ADMINISTERED = 0x02
"""Bit of a MAC address's first byte: somebody made it up, no vendor stands behind it."""

Ids = tuple[str, str]


def id_names(root: Path, bus: str, wanted: Collection[Ids]) -> dict[Ids, str]:
    """Names by (vendor id, product id), four lower-case hexadecimal digits each; those of vendors by
    (vendor id, ""). `bus` is `pci` or `usb`."""
    if not wanted:
        return {}
    vendors = {vendor for vendor, _ in wanted}
    names: dict[Ids, str] = {}
    vendor = ""
    for line in _first(root, [path.format(bus) for path in ID_LISTS]):
        if line.startswith(b"C "):
            break  # device classes follow
        if line[:1] not in b"#\t":
            vendor = line[:4].decode("ascii", "replace").lower()
            if vendor in vendors:
                names[vendor, ""] = text(line[4:])
        elif vendor in vendors and line[:1] == b"\t" and line[1:2] != b"\t":
            ids = vendor, line[1:5].decode("ascii", "replace").lower()
            if ids in wanted:
                names[ids] = text(line[5:])
    return names


def mac_vendors(root: Path, macs: Collection[str]) -> dict[str, str]:
    """Vendors by MAC address (`b8:27:eb:…`), of those that a vendor assigned."""
    wanted = {mac: mac[:8].replace(":", "-").upper().encode() for mac in macs if _assigned(mac)}
    if not wanted:
        return {}
    prefixes = set(wanted.values())
    names = {
        line[:8]: text(line.partition(b"(hex)")[2])
        for line in _first(root, OUI_LISTS)
        if line[:8] in prefixes and b"(hex)" in line
    }
    return {mac: names[prefix] for mac, prefix in wanted.items() if prefix in names}


def _assigned(mac: str) -> bool:
    try:
        first = int(mac[:2], 16)
    except ValueError:
        return False
    return not first & LOCALLY_ADMINISTERED and mac.strip("0:") != ""


def _first(root: Path, paths: Collection[str]) -> Iterator[bytes]:
    """Lines of the first list that can be read."""
    for path in paths:
        try:
            yield from lines(root / path)
        except OSError:
            continue
        return
