"""The catalogue of baseline checks: which numbers there are, in which group, and how a check is called.

Numbers are those of the CIS Distribution Independent Linux Benchmark v2.0.0. What a check looks at, and
its words, are the device's business (`vedette.agent.baseline`); the hub knows the catalogue to group
results and to judge settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

_TABLE = {
    "Filesystem": "1.1.1.1-8 1.1.2-23",
    "Software Updates": "1.2.1-2 1.8",
    "Filesystem Integrity": "1.3.1-2",
    "Secure Boot": "1.4.1-4",
    "Process Hardening": "1.5.1-4",
    "Mandatory Access Control": "1.6.1.1 1.6.2.1-6 1.6.3.1-2",
    "Warning Banners": "1.7.1.1-6 1.7.2",
    "Inetd Services": "2.1.1-10",
    "Time Synchronization": "2.2.1.1-4",
    "Special Purpose Services": "2.2.2-17",
    "Service Clients": "2.3.1-5",
    "Network Parameters Host": "3.1.1-2",
    "Network Parameters Host and Router": "3.2.1-9",
    "TCP Wrappers": "3.3.1-5",
    "Uncommon Network Protocols": "3.4.1-4",
    "Firewall": "3.5.1.1-4 3.5.2.1-4 3.5.3",
    "Wireless": "3.6",
    "IPv6": "3.7",
    "Auditing": "4.1.1.1-3 4.1.2-19",
    "Logging": "4.2.1.1-6 4.2.2.1-3 4.2.3 4.3",
    "Cron": "5.1.1-8",
    "SSH Server": "5.2.1-23",
    "PAM": "5.3.1-4",
    "User Accounts": "5.4.1.1-5 5.4.2-5 5.5 5.6",
    "System File Permissions": "6.1.1-14",
    "User and Group Settings": "6.2.1-20",
}
"""Group → its numbers; `5.4.2-5` stands for 5.4.2, 5.4.3, 5.4.4 and 5.4.5."""


def _expand(ranges: str) -> Iterator[str]:
    for part in ranges.split():
        stem, _, last = part.partition("-")
        prefix, _, first = stem.rpartition(".")
        for number in range(int(first), int(last or first) + 1):
            yield f"{prefix}.{number}"


GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {group: tuple(_expand(ranges)) for group, ranges in _TABLE.items()}
)
"""Group name → its check numbers."""

GROUP_OF: Mapping[str, str] = MappingProxyType(
    {number: group for group, numbers in GROUPS.items() for number in numbers}
)
"""Check number → the group it belongs to."""


def sort_key(number: str) -> tuple[int, ...]:
    """Order of check numbers as a reader expects it: 1.1.2 before 1.1.10."""
    return tuple(int(part) for part in number.split("."))


def check_id(distribution: str, version: str, group: str, number: str) -> str:
    """`CIS-debian-12-Filesystem-1.1.2`; words of a group are joined by `_`, so that no id has a space."""
    return f"CIS-{_plain(distribution)}-{_plain(version)}-{group.replace(' ', '_')}-{number}"


def _plain(word: str) -> str:
    """A word without what would split the id."""
    return re.sub(r"[^A-Za-z0-9._]", "_", word)[:32]


def disabled_groups(text: str) -> frozenset[str]:
    """The groups named in a comma list, case and `_` for space ignored. Raises ValueError for others."""
    known = {_folded(group): group for group in GROUPS}
    named = _parts(text)
    if wrong := [name for name in named if _folded(name) not in known]:
        raise ValueError(f"no such group: {', '.join(wrong)}; there are {', '.join(GROUPS)}")
    return frozenset(known[_folded(name)] for name in named)


def disabled_checks(text: str) -> frozenset[str]:
    """The check numbers in a comma list. Raises ValueError for one that does not exist."""
    named = _parts(text)
    if wrong := [name for name in named if name not in GROUP_OF]:
        raise ValueError(f"no such check: {', '.join(wrong)}")
    return frozenset(named)


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
