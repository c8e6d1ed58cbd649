"""The first message of a TLS connection: which server is asked for, and for which protocol.

Facts: RFC 8446 (ClientHello), RFC 6066 (server name), RFC 7301 (ALPN). A ClientHello that was cut is read as
far as it goes; with an encrypted one (ECH) the outer name is all that anybody sees.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

NAME_MAX = 255
"""Characters of a host name."""

HANDSHAKE, CLIENT_HELLO = 22, 1
SERVER_NAME, ALPN = 0, 16

_RECORD_HEADER = 5
_HELLO_HEADER = 4 + 2 + 32  # type and length, version, random


class Hello(msgspec.Struct, frozen=True):
    """server_name: as the client sent it, in lower case, empty if it did not. protocols: ALPN names."""

    server_name: str = ""
    protocols: tuple[str, ...] = ()


class _Bytes:
    """Reads vectors, each behind its length. Beyond the end there is nothing."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bool__(self) -> bool:
        return bool(self._data)

    def number(self, size: int) -> int:
        taken, self._data = self._data[:size], self._data[size:]
        return int.from_bytes(taken, "big")

    def vector(self, size_of_length: int, *, whole: bool = False) -> bytes:
        """The next vector, or what there is of it; with `whole` nothing unless all of it is there."""
        length = self.number(size_of_length)
        taken, self._data = self._data[:length], self._data[length:]
        return b"" if whole and len(taken) < length else taken


def is_client_hello(data: bytes) -> bool:
    """Whether a payload begins as a ClientHello does."""
    return len(data) > _RECORD_HEADER and (data[0], data[1], data[5]) == (HANDSHAKE, 3, CLIENT_HELLO)


def parse(data: bytes) -> Hello | None:
    """Read a ClientHello; None if it is none."""
    if not is_client_hello(data):
        return None
    body = _Bytes(data[_RECORD_HEADER + _HELLO_HEADER :])
    body.vector(1)  # session
    body.vector(2)  # cipher suites
    body.vector(1)  # compressions
    name: str = ""
    protocols: tuple[str, ...] = ()
    for kind, value in _extensions(body.vector(2)):
        if kind == SERVER_NAME and not name:
            name = _server_name(value)
        elif kind == ALPN and not protocols:
            protocols = _protocols(value)
    return Hello(name, protocols)


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    rest = _Bytes(data)
    while rest:
        yield rest.number(2), rest.vector(2)


def _server_name(value: bytes) -> str:
    """The host name of the list; empty if it was cut or is no name of a host."""
    names = _Bytes(_Bytes(value).vector(2))
    if names.number(1) != 0:
        return ""
    text = names.vector(2, whole=True).decode("ascii", "replace").lower()
    return text if len(text) <= NAME_MAX and all("!" <= char <= "~" for char in text) else ""


def _protocols(value: bytes) -> tuple[str, ...]:
    listed = _Bytes(_Bytes(value).vector(2))
    found = []
    while listed:
        found.append(listed.vector(1).decode("ascii", "backslashreplace"))
    return tuple(found[:8])
