"""The rules of the kernel's packet filter: nftables, and iptables of the older kind where it is in use.

A program is run only if the kernel has rules to tell: asking would load the filter's modules otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vedette.agent.sources import Unavailable, iptables, nftables, program
from vedette.agent.sources.files import attribute, content, opened
from vedette.agent.sources.rule import Rule

LEGACY_TABLES = {"ip": "proc/net/ip_tables_names", "ip6": "proc/net/ip6_tables_names"}
"""Tables of iptables' older kind that are in use, by family; readable by root."""

LEGACY_PROGRAMS = {
    "ip": ("iptables-legacy-save", "iptables-save"),
    "ip6": ("ip6tables-legacy-save", "ip6tables-save"),
}
NFT_FALLBACKS = {
    "ip": ("iptables-nft-save", "iptables-save"),
    "ip6": ("ip6tables-nft-save", "ip6tables-save"),
}

MAX_BUILTIN_LIST = 262_144
"""Bytes of modules.builtin; Debian's has 30 KB."""


def rules(root: Path) -> Iterator[Rule]:
    """Every chain's policy and rules, in order. Raises Unavailable if there are rules that cannot be read."""
    if _has_nftables(root):
        yield from _nftables()
    for family, path in LEGACY_TABLES.items():
        if _in_use(root / path):
            yield from iptables.rules(family, _saved(LEGACY_PROGRAMS[family]))


def _nftables() -> Iterator[Rule]:
    nft = program.find("nft")
    if nft is None:
        for family, names in NFT_FALLBACKS.items():
            yield from iptables.rules(family, _saved(names))
        return
    yield from nftables.rules(program.answer([nft, "--json", "--terse", "list", "ruleset"]))


def _saved(names: tuple[str, ...]) -> bytes:
    path = program.find(*names)
    if path is None:
        raise Unavailable(f"neither nft nor {names[-1]} is installed", remedy="install nftables or iptables")
    return program.answer([path])


def _has_nftables(root: Path) -> bool:
    """Whether the kernel has nf_tables now: loaded, or built in (where the list of what is built in is
    missing too, the kernel has no modules and nothing would be loaded)."""
    if (root / "sys/module/nf_tables").exists():
        return True
    release = attribute(root / "proc/sys/kernel/osrelease")
    built_in = content(root / "lib/modules" / release / "modules.builtin", MAX_BUILTIN_LIST)
    return not built_in or b"/nf_tables.ko" in built_in


def _in_use(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with opened(path) as file:
            return bool(file.read(1))
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}", remedy="run the agent as root") from None
