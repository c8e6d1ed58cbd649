"""`vedette agent check`: could the agent do all its work here? Nothing is sent and nothing is changed."""

from __future__ import annotations

import asyncio

import msgspec

from vedette.agent.app import try_collectors
from vedette.agent.link import Ended, dial
from vedette.agent.settings import Local, load_cached
from vedette.agent.sources.procfs import effective_capabilities


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked; `detail` says how it is done, or what to do about it."""

    what: str
    ok: bool
    detail: str


class Need(msgspec.Struct, frozen=True):
    """What the agent uses one capability for. bit: its number (capabilities(7)).

    collectors: those that do less without it. missed: what then is missing.
    """

    bit: int
    collectors: tuple[str, ...]
    missed: str


CAPABILITIES = {
    "CAP_BPF": Need(39, ("Process", "NetworkActivity", "DNS"), "counting in the kernel"),
    "CAP_PERFMON": Need(38, ("Process", "NetworkActivity", "DNS"), "counting in the kernel"),
    "CAP_NET_ADMIN": Need(
        12,
        ("NetworkActivity", "Process", "FirewallConfiguration"),
        "counting by tcx, owners of new sockets; the netlink fallback; the packet filter's rules",
    ),
    "CAP_NET_RAW": Need(13, ("NetworkActivity", "DNS"), "packet sockets: names, and counting without tcx"),
    "CAP_DAC_READ_SEARCH": Need(
        2,
        ("Login", "Baseline", "LocalUsers", "FileSystem", "SBoM"),
        "what only root may read: failed sign-ins, shadow, sshd_config, other users' files",
    ),
    "CAP_SYS_PTRACE": Need(
        19,
        ("Process", "NetworkActivity", "ListeningPorts"),
        "executables and sockets of other users' processes",
    ),
}
"""All that the agent uses beyond an ordinary user. packaging/ grants exactly these."""


async def check(local: Local) -> list[Finding]:
    """Look at the capabilities, start every collector once, and reach for the hub."""
    return [*capabilities(), *await _collectors(local), await _hub(local)]


def capabilities() -> list[Finding]:
    """A finding for each capability of this process: who needs it, and what is missed without."""
    held = effective_capabilities()
    return [
        Finding(name, True, f"held, for {', '.join(need.collectors)}")
        if held >> need.bit & 1
        else Finding(name, False, f"missing; {', '.join(need.collectors)} go without {need.missed}")
        for name, need in CAPABILITIES.items()
    ]


async def _collectors(local: Local) -> list[Finding]:
    return [
        Finding(f"collector {status.name}", status.state in ("running", "off"), status.source or status.state)
        for status in await try_collectors(local.state, load_cached(local.state))
    ]


async def _hub(local: Local) -> Finding:
    """A TLS handshake. The credentials are not tried: a second login would end a running agent's."""
    what = f"hub {local.route}"
    try:
        transport = await dial(asyncio.Protocol, local.route)
    except Ended as end:
        hint = "; is --ca the hub's pki/ca.pem?" if end.kind == "certificate" else ""
        return Finding(what, False, f"{end}{hint}")
    version = transport.get_extra_info("ssl_object").version()
    transport.close()
    return Finding(what, True, f"{version}, certificate trusted")
