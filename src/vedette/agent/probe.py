"""What this machine's kernel offers, found by trying; which source will be used, and what would help."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence

import msgspec

from vedette.agent.collectors import network
from vedette.agent.collectors.process import EBPF, LADDER, NETLINK, POLLING
from vedette.agent.sources import Unavailable, bpf
from vedette.agent.sources.flow import Told
from vedette.agent.sources.flow_bpf import TAP, TCX, FlowCounter
from vedette.agent.sources.net_devices import chosen
from vedette.agent.sources.packet import PacketCapture
from vedette.agent.sources.proc_connector import ProcConnector
from vedette.agent.sources.proc_poll import ProcPoll
from vedette.agent.sources.process import Seen
from vedette.agent.sources.process_bpf import ProcessCounter
from vedette.agent.sources.rtnetlink import Link, links
from vedette.agent.sources.tcp_diag import TcpDiag
from vedette.wire.network import watched_devices
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
    """Try every source that a collector chooses from, best first. Counts nothing, leaves nothing behind."""
    settings = settings or Settings()
    ladder = [rung.label for rung in LADDER[settings.process_mode]]
    why_not = f"Process_Mode {settings.process_mode.value} leaves it out"
    return [
        *_climbed("Process", _ATTEMPTS, ladder, why_not),
        *_climbed(network.NetworkCollector.name, _network_attempts(settings), _NETWORK_LADDER, ""),
    ]


def _climbed(
    collector: str, attempts: Mapping[str, Callable[[], str]], ladder: Sequence[str], why_not: str
) -> list[Finding]:
    """Try the sources of a collector; the first of its ladder that works is the one it would use."""
    found = [_tried(collector, label, attempt) for label, attempt in attempts.items()]
    serving = {finding.source for finding in found if finding.available}
    used = next((label for label in ladder if label in serving), None)
    return [_judged(finding, used, ladder, why_not) for finding in found]


def _judged(finding: Finding, used: str | None, ladder: Sequence[str], why_not: str) -> Finding:
    """Add whether a source is used, and if not although it could be, why."""
    why = ""
    if finding.source not in ladder:
        why = f"; {why_not}"
    elif finding.available and finding.source != used:
        why = f"; {used} is better"
    chosen = finding.source == used
    return msgspec.structs.replace(finding, used=chosen, detail=finding.detail + why)


def _tried(collector: str, source: str, attempt: Callable[[], str]) -> Finding:
    try:
        detail = attempt()
    except Unavailable as why:
        return Finding(collector, source, False, False, why.reason, why.remedy)
    return Finding(collector, source, True, False, detail)


def _all_obstacles() -> None:
    """Raises Unavailable with everything that keeps eBPF from working here."""
    if obstacles := list(bpf.obstacles()):
        raise Unavailable(
            "; ".join(obstacle.reason for obstacle in obstacles),
            remedy="; ".join(obstacle.remedy for obstacle in obstacles),
        )


def _ebpf() -> str:
    _all_obstacles()
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

_TCX, _TAP = (f"{network.EBPF} by {way}" for way in (TCX, TAP))
_NETWORK_LADDER = (_TCX, _TAP, network.CAPTURE, network.SOCK_DIAG)


def _network_attempts(settings: Settings) -> dict[str, Callable[[], str]]:
    """Each source watches the first device for a moment; without one, that it can be made must do."""
    found, _ = chosen(links(), watched_devices(settings.network_devices))
    device = next(iter(found.values()), None)
    return {
        _TCX: lambda: _in_loop(lambda: _flow_counter(device, tcx=True)),
        _TAP: lambda: _in_loop(lambda: _flow_counter(device, tcx=False)),
        network.CAPTURE: lambda: _in_loop(lambda: _capture(device, settings.network_buffer)),
        network.SOCK_DIAG: _sock_diag,
    }


def _in_loop(attempt: Callable[[], str]) -> str:
    """Sources of packets belong to an event loop."""

    async def attempted() -> str:
        return attempt()

    return asyncio.run(attempted())


def _flow_counter(device: Link | None, *, tcx: bool) -> str:
    _all_obstacles()
    counter = FlowCounter(_ignore_told, tcx=tcx)
    try:
        if device is None:
            return "programs accepted; there is no device to watch"
        if counter.watch(device) != (TCX if tcx else TAP):
            raise Unavailable("no tcx links", remedy="run kernel 6.6 or later; grant CAP_NET_ADMIN")
        owners = counter.note or ("processes of flows are seen" if tcx else "open sockets tell processes")
        return f"programs accepted and attached to {device.name}; {owners}"
    except OSError as error:
        raise Unavailable(str(error), remedy="grant CAP_NET_RAW and CAP_NET_ADMIN") from None
    finally:
        counter.close()


def _capture(device: Link | None, buffer: int) -> str:
    capture = PacketCapture(_ignore_told, buffer)
    try:
        if device is None:
            return "there is no device to watch"
        capture.watch(device)
        return f"packets of {device.name} can be captured"
    except OSError as error:
        raise Unavailable(str(error), remedy="grant CAP_NET_RAW") from None
    finally:
        capture.close()


def _sock_diag() -> str:
    TcpDiag()
    return "the kernel tells TCP connections"


def _ignore_told(_told: Told) -> None:
    """Probing learns no names."""
