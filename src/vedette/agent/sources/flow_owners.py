"""Whose a flow is, where the kernel did not say: by sock_diag and /proc, while its socket is open.

Unknown stays unknown: two sockets that both could be meant are none.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from vedette.agent.sources import procfs, sock_diag, tcp_diag
from vedette.agent.sources.flow import TCP, UDP, Identity, Owner
from vedette.agent.sources.sock_diag import Listener
from vedette.agent.sources.socket_owners import owners

_NUMBERS = {"TCP": TCP, "UDP": UDP}
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound to
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Socket(NamedTuple):
    """What is known of a socket that a flow belongs to."""

    inode: int
    uid: int


class Arguments(NamedTuple):
    """The arguments of a process, as far as they are kept, and their whole length in bytes."""

    kept: bytes
    length: int


def find(root: Path, flows: Mapping[Identity, bool | None]) -> dict[Identity, Owner]:
    """Owners of flows that have an open socket now. flows: whether each was accepted, as `Flow` says.

    Raises Unavailable where the kernel lacks sock_diag.
    """
    wanted = {identity: accepted for identity, accepted in flows.items() if identity.protocol in (TCP, UDP)}
    if not wanted:
        return {}
    connected = {c.identity: Socket(c.inode, c.uid) for c in tcp_diag.connections() if c.identity in wanted}
    sockets = matched(wanted, connected, list(sock_diag.listeners()))
    holders = owners(root, {socket.inode for socket in sockets.values() if socket.inode})
    return {
        identity: Owner(holders.get(socket.inode, (None, ""))[0], socket.uid)
        for identity, socket in sockets.items()
        if socket.inode
    }


def matched(
    flows: Mapping[Identity, bool | None],
    connected: Mapping[Identity, Socket],
    listeners: Collection[Listener],
) -> dict[Identity, Socket]:
    """The socket of each flow: its listener if it was accepted, its own else. Pure."""
    found = {}
    for identity, accepted in flows.items():
        own = connected.get(identity)
        listening = None if accepted is False else _listener(identity, listeners)
        socket = (listening or own) if accepted else (own or listening)
        if socket:
            found[identity] = socket
    return found


def _listener(identity: Identity, listeners: Iterable[Listener]) -> Socket | None:
    """The one socket that waits where this flow arrived; the more precise address wins."""
    candidates: dict[int, set[Socket]] = {}
    for listener in listeners:
        if _NUMBERS[listener.protocol] != identity.protocol or listener.port != identity.local_port:
            continue
        if listener.address == identity.local_address:
            rank = 0
        elif listener.address == _ANY[":" in identity.local_address]:
            rank = 1
        elif listener.address == _ANY[1]:
            rank = 2
        else:
            continue
        candidates.setdefault(rank, set()).add(Socket(listener.inode, listener.user_id))
    best = candidates[min(candidates)] if candidates else set()
    return best.pop() if len(best) == 1 else None


def read_arguments(owner: Owner, proc: str = procfs.PROC) -> Arguments | None:
    """The command line of the very process that owns a flow; None if that has ended."""
    if owner.pid is None:
        return None
    if owner.started:
        stat = procfs.read_stat(owner.pid, proc)
        if stat is None or stat.started != owner.started // _TICK:
            return None
    found = procfs.read_arguments(owner.pid, proc)
    return Arguments(*found) if found else None
