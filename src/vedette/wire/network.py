"""What the network settings may say, and the names of IP protocols.

Pure: nothing here looks at a network device.
"""

from __future__ import annotations

AUTO = "auto"
"""Value of `NetworkActivity_Devices` for every device that is up, loopback left out."""

MAX_DEVICES = 64
"""Devices a twin may name. Each is watched by a program of its own."""

MAX_NAME = 15
"""Characters of a device's name: the kernel's IFNAMSIZ less its NUL."""

_PROTOCOLS = {
    1: "ICMP",
    2: "IGMP",
    4: "IPIP",
    6: "TCP",
    17: "UDP",
    33: "DCCP",
    41: "IPv6",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMPv6",
    89: "OSPF",
    103: "PIM",
    112: "VRRP",
    115: "L2TP",
    132: "SCTP",
    136: "UDPLite",
}


def watched_devices(text: str) -> tuple[str, ...] | None:
    """`NetworkActivity_Devices` as names; None for all. Raises ValueError if one cannot be a device."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if names == (AUTO,):
        return None
    if not names:
        raise ValueError(f"`{AUTO}` or the name of a device is needed")
    if len(names) > MAX_DEVICES:
        raise ValueError(f"{len(names)} devices are more than {MAX_DEVICES}")
    for name in names:
        if len(name) > MAX_NAME or "/" in name or ":" in name or not name.isprintable() or " " in name:
            raise ValueError(f"{name[:32]!r} cannot be the name of a device")
    return names


def protocol_name(number: int) -> str:
    """An IP protocol by its usual name, `IP-99` if it has none here."""
    return _PROTOCOLS.get(number, f"IP-{number}")
