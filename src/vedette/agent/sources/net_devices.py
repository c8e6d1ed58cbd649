"""Which network devices to watch so that every packet of this machine is seen once. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vedette.agent.sources import Unavailable
from vedette.agent.sources.packet_headers import ETHERNET
from vedette.agent.sources.rtnetlink import ARPHRD_ETHER, ARPHRD_LOOPBACK, Link

BARE = frozenset({512, 519, 768, 769, 776, 65534})
"""ARPHRD_ PPP, RAWIP, TUNNEL, TUNNEL6, SIT and NONE: devices whose packets begin with the IP header."""

ON_TOP = frozenset({"vlan", "macvlan", "ipvlan", "macvtap", "ipvtap"})
"""Kinds of device whose packets all pass through the device that they are made on, too."""

DEVICES_MAX = 64
"""Devices watched at once: each costs two file descriptors, of which a process has 1,024."""

VRF = "vrf"
"""A kind of device that groups others, and through which packets pass on paper only."""


def chosen(links: Mapping[int, Link], names: Collection[str] | None) -> tuple[dict[int, Link], list[str]]:
    """The devices to watch by index, and what is to be said about the names. names: None for all.

    Of devices that show the same packets one is watched: not the ports of a bridge or bond but the bridge
    or bond, not a VLAN device but the one that carries it. Loopback never is: its packets go nowhere.
    """
    if names is None:
        candidates = {index: link for index, link in links.items() if link.up}
        notes = []
    else:
        candidates = {index: link for index, link in links.items() if link.name in names}
        known = {link.name for link in candidates.values()}
        notes = [f"{name} does not exist" for name in names if name not in known]
    candidates = {
        index: link
        for index, link in candidates.items()
        if link.device_type != ARPHRD_LOOPBACK and link.kind != VRF
    }
    watched = {index: link for index, link in candidates.items() if not _shown(link, candidates)}
    if len(watched) > DEVICES_MAX:
        notes.append(f"{len(watched) - DEVICES_MAX} of {len(watched)} devices: only {DEVICES_MAX} can be")
        watched = dict(sorted(watched.items())[:DEVICES_MAX])
    return watched, notes


def _shown(link: Link, candidates: Mapping[int, Link]) -> bool:
    """True if another candidate shows this device's packets."""
    return link.master in candidates or (link.kind in ON_TOP and link.parent in candidates)


def link_header(link: Link) -> int:
    """Bytes before the IP header in a device's packets. Raises Unavailable for a kind that is not known."""
    if link.device_type == ARPHRD_ETHER:
        return ETHERNET
    if link.device_type in BARE:
        return 0
    raise Unavailable(f"packets of link type {link.device_type} are not understood")
