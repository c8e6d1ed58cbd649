"""Sockets that wait for peers, from /proc/net: for kernels built without sock_diag, as many routers have.

Format: proc_pid_net(5). Addresses are 32-bit words in the host's byte order, ports are plain hexadecimal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from vedette.agent.sources.files import lines
from vedette.agent.sources.sock_diag import TCP_CLOSE, TCP_LISTEN, Listener, Protocol

TABLES: tuple[tuple[str, Protocol, int], ...] = (
    ("tcp", "TCP", TCP_LISTEN),
    ("tcp6", "TCP", TCP_LISTEN),
    ("udp", "UDP", TCP_CLOSE),
    ("udp6", "UDP", TCP_CLOSE),
)


def listeners(root: Path) -> Iterator[Listener]:
    """Every listening TCP and unconnected, bound UDP socket; of IPv6 none where the kernel lacks it."""
    for name, protocol, state in TABLES:
        path = root / "proc/net" / name
        if path.exists():
            for line in lines(path):
                if found := _listener(protocol, state, line.split()):
                    yield found


def _listener(protocol: Protocol, state: int, fields: list[bytes]) -> Listener | None:
    try:
        address, _, port = fields[1].partition(b":")
        if int(fields[3], 16) != state or int(port, 16) == 0:
            return None
        return Listener(protocol, _address(address), int(port, 16), int(fields[7]), int(fields[9]))
    except (IndexError, ValueError):  # the heading, and nothing else
        return None


def _address(text: bytes) -> str:
    words = bytes.fromhex(text.decode("ascii"))
    if sys.byteorder == "little":
        words = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    return str(ip_address(words))
