"""How a load balancer introduces a client: the PROXY protocol, versions 1 (text) and 2 (binary).

Stated by HAProxy's proxy-protocol.txt. HAProxy and the balancers of clouds send version 2; nginx knows only
version 1. Pure: a generator asks for exactly the bytes it needs, so that its reader takes nothing of what
follows (TLS) out of the socket. Extension fields (TLV) are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from struct import Struct

Network = IPv4Network | IPv6Network
Peer = tuple[str, int]
"""A client's address and port."""

MAX_BYTES = 2_048
"""Of what follows the fixed part of version 2. The specification keeps all below 536; clouds add fields."""

MAX_LINE_BYTES = 107
"""Longest line of version 1, its end included."""

MAX_PORT = 65_535

MISSING = "proxy: no PROXY header"
MALFORMED = "proxy: malformed PROXY header"
TOO_LONG = "proxy: PROXY header is too long"

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = Struct("!BBH")
"""Version and command, family and protocol, length of the rest."""

_LOCAL, _PROXY = 0x20, 0x21
_Address = type[IPv4Address] | type[IPv6Address]
_ADDRESSES: dict[int, tuple[_Address, Struct]] = {
    0x11: (IPv4Address, Struct("!4s4xH2x")),
    0x21: (IPv6Address, Struct("!16s16xH2x")),
}
"""By family and protocol, TCP over IPv4 or IPv6: where the source's address and port stand."""

_WITHOUT = frozenset({0x00, 0x12, 0x22, 0x31, 0x32})
"""Unspecified, UDP, UNIX sockets: valid, and without an address of use here."""

_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|TCP(?P<family>[46]) (?P<source>[\d.:a-f]+) (?P<target>[\d.:a-f]+)"
    rb" (?P<port>0|[1-9]\d{0,4}) (?P<target_port>0|[1-9]\d{0,4}))\r\n",
    re.IGNORECASE,
)


class NotIntroduced(Exception):
    """A balancer does not say, as specified, who its client is. The text is a reason from a fixed set."""


def introduction() -> Generator[int, bytes, Peer | None]:
    """Yields how many bytes it needs, and is sent them; returns the client.

    None: the balancer speaks for itself, or does not know. Raises NotIntroduced.
    """
    start = yield len(_SIGNATURE)
    if start == _SIGNATURE:
        return (yield from _binary())
    if start.startswith(b"PROXY "):
        return (yield from _text(start))
    raise NotIntroduced(MISSING)


def _binary() -> Generator[int, bytes, Peer | None]:
    command, protocol, length = _FIXED.unpack((yield _FIXED.size))
    if length > MAX_BYTES:
        raise NotIntroduced(TOO_LONG)
    rest = yield length
    if command == _LOCAL or (command == _PROXY and protocol in _WITHOUT):
        return None
    if command != _PROXY or protocol not in _ADDRESSES:
        raise NotIntroduced(MALFORMED)
    address, layout = _ADDRESSES[protocol]
    if length < layout.size:
        raise NotIntroduced(MALFORMED)
    source, port = layout.unpack_from(rest)
    return _plain(address(source)), port


def _text(line: bytes) -> Generator[int, bytes, Peer | None]:
    while not line.endswith(b"\n"):
        if len(line) == MAX_LINE_BYTES:
            raise NotIntroduced(TOO_LONG)
        line += yield 1
    found = _LINE.fullmatch(line)
    if found is None:
        raise NotIntroduced(MALFORMED)
    if found["family"] is None:
        return None
    address = IPv4Address if found["family"] == b"4" else IPv6Address
    try:
        source, _ = (address(found[name].decode()) for name in ("source", "target"))
    except ValueError:
        raise NotIntroduced(MALFORMED) from None
    port = int(found["port"])
    if max(port, int(found["target_port"])) > MAX_PORT:
        raise NotIntroduced(MALFORMED)
    return _plain(source), port


def _plain(address: IPv4Address | IPv6Address) -> str:
    """One spelling for one client: a balancer may write IPv4 addresses as IPv6."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def networks(proxies: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks of balancers. Raises ValueError, naming the first that is neither."""

    def network(text: str) -> Network:
        try:
            return ip_network(text)
        except ValueError as error:
            raise ValueError(f"proxies: {error}") from None

    return tuple(map(network, proxies))


def among(address: str, proxies: Iterable[Network]) -> bool:
    """True if an address is one of theirs."""
    found = ip_address(address)
    return any(found in network for network in proxies)
