"""What this machine's kernel offers, found by trying; which source will be used, and what would help."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from vedette.agent.collectors.process import EBPF, LADDER, NETLINK, POLLING
from vedette.agent.sources import Unavailable, bpf
from vedette.agent.sources.proc_connector import ProcConnector
from vedette.agent.sources.proc_poll import ProcPoll
from vedette.agent.sources.process import Seen
from vedette.agent.sources.process_bpf import ProcessCounter
from vedette.wire.twin import Settings


class Finding(msgspec.Struct, frozen=True):
    """One source of a collector on this machine.

    used: the collector would take it under the settings asked for. detail: what was found, and why it is
    not used if it is not. remedy: what would make it work; empty if it works.
    """

    collector: str
    source: str
    available: bool
    used: bool
    detail: str
    remedy: str = ""


def probe(settings: Settings | None = None) -> list[Finding]:
    """Try every source of processes, best first. Counts nothing and leaves nothing behind."""
    settings = settings or Settings()
    ladder = [rung.label for rung in LADDER[settings.process_mode]]
    found = [_tried(label, attempt) for label, attempt in _ATTEMPTS.items()]
    serving = {finding.source for finding in found if finding.available}
    used = next((label for label in ladder if label in serving), None)
    return [_judged(finding, used, ladder, settings) for finding in found]


def _judged(finding: Finding, used: str | None, ladder: list[str], settings: Settings) -> Finding:
    """Add whether a source is used, and if not although it could be, why."""
    why = ""
    if finding.source not in ladder:
        why = f"; Process_Mode {settings.process_mode.value} leaves it out"
    elif finding.available and finding.source != used:
        why = f"; {used} is better"
    chosen = finding.source == used
    return msgspec.structs.replace(finding, used=chosen, detail=finding.detail + why)


def _tried(source: str, attempt: Callable[[], str]) -> Finding:
    try:
        detail = attempt()
    except Unavailable as why:
        return Finding("Process", source, False, False, why.reason, why.remedy)
    return Finding("Process", source, True, False, detail)


def _ebpf() -> str:
    if obstacles := list(bpf.obstacles()):
        raise Unavailable(
            "; ".join(obstacle.reason for obstacle in obstacles),
            remedy="; ".join(obstacle.remedy for obstacle in obstacles),
        )
    ProcessCounter(1, lambda _generation, _key, _seen: None).close()
    return f"kernel {os.uname().release}, BTF and {bpf.LIBRARY} present, programs accepted"


def _netlink() -> str:
    ProcConnector(_ignore, _lose_nothing).close()
    return "the kernel answers"


def _polling() -> str:
    ProcPoll(_ignore, _lose_nothing)
    return "processes are visible"


def _ignore(_seen: Seen) -> None:
    """Probing counts nothing."""


def _lose_nothing(_reason: str, _count: int) -> None:
    """Nor does it lose anything."""


_ATTEMPTS = {EBPF: _ebpf, NETLINK: _netlink, POLLING: _polling}
