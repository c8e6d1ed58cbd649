"""DNS answers as bytes of a packet: what was asked, and what the server said (RFC 1035, 3596, 2782).

Pure and defensive: whoever answers may send anything. An answer that was cut is read as far as it goes.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from struct import Struct

import msgspec

ANSWERS_MAX = 16
"""Records of an answer that are kept: more addresses than a resolver hands out for one name."""

TEXT_MAX = 255
"""Characters of a record's text that are kept: the length of a name."""

RECORDS_MAX = 64
"""Records that are looked at: the smallest takes 11 bytes, so a common answer holds fewer than that."""

JUMPS_MAX = 16
"""Compression pointers followed within one name; a loop has no end."""

NAME_MAX = 255
"""Bytes of a name on the wire."""

ADDRESS_TYPES = {1: socket.AF_INET, 28: socket.AF_INET6}
TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    13: "HINFO",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    35: "NAPTR",
    39: "DNAME",
    43: "DS",
    46: "RRSIG",
    47: "NSEC",
    48: "DNSKEY",
    50: "NSEC3",
    52: "TLSA",
    64: "SVCB",
    65: "HTTPS",
    255: "ANY",
    257: "CAA",
}
CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}

_HEADER = Struct(">6H")
_QUESTION = Struct(">HH")
_RECORD = Struct(">HHIH")
_IS_ANSWER, _CODE = 0x8000, 0x000F
_POINTER = 0xC0
_CNAME_LIKE = frozenset({2, 5, 12, 39})


class Address(msgspec.Struct, frozen=True):
    """An address that a name has, for so many seconds."""

    text: str
    ttl: int


class Answer(msgspec.Struct, frozen=True):
    """What a server answered to one question.

    name: in lower case without the final dot (the root is `.`); bytes that are not printable as \\DDD.
    kind: `A`, `AAAA` …, `TYPE1234` where it has no name. code: `NOERROR`, `NXDOMAIN` …
    answers: the answer section as text. addresses: the addresses in it.
    """

    name: str
    kind: str
    code: str
    answers: tuple[str, ...]
    addresses: tuple[Address, ...]


def parse(data: bytes) -> Answer:
    """Read a message. Raises ValueError if it is no answer to one question."""
    try:
        _, flags, questions, records, _, _ = _HEADER.unpack_from(data)
        if not flags & _IS_ANSWER:
            raise ValueError("a question")
        if questions != 1:
            raise ValueError(f"{questions} questions")
        name, position = _name(data, _HEADER.size)
        kind, _ = _QUESTION.unpack_from(data, position)
    except (struct.error, IndexError):
        raise ValueError("shorter than a question") from None
    answers: list[str] = []
    addresses: list[Address] = []
    for record, ttl, start, length in _records(data, position + _QUESTION.size, min(records, RECORDS_MAX)):
        shown = _shown(data, record, start, length)
        if record in ADDRESS_TYPES and shown:
            addresses.append(Address(shown, ttl))
        if shown and len(answers) < ANSWERS_MAX:
            answers.append(shown[:TEXT_MAX])
    code = flags & _CODE
    return Answer(
        name,
        TYPES.get(kind, f"TYPE{kind}"),
        CODES.get(code, f"RCODE{code}"),
        tuple(answers),
        tuple(addresses[:ANSWERS_MAX]),
    )


def _records(data: bytes, position: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    """(type, time to live, start and length of its data) of each record that is whole."""
    for _ in range(count):
        try:
            _, position = _name(data, position)
            kind, _, ttl, length = _RECORD.unpack_from(data, position)
        except (struct.error, IndexError, ValueError):
            return
        position += _RECORD.size
        if position + length > len(data):
            return
        yield kind, ttl, position, length
        position += length


def _shown(data: bytes, kind: int, start: int, length: int) -> str:
    """A record's data as text; empty if it is not what its type promises."""
    raw = data[start : start + length]
    try:
        if kind in ADDRESS_TYPES:
            return socket.inet_ntop(ADDRESS_TYPES[kind], raw)
        if kind in _CNAME_LIKE:
            return _name(data, start)[0]
        if kind == 15:
            return f"{int.from_bytes(raw[:2], 'big')} {_name(data, start + 2)[0]}"
        if kind == 33:
            priority, weight, port = Struct(">3H").unpack_from(raw)
            return f"{priority} {weight} {port} {_name(data, start + 6)[0]}"
    except (ValueError, IndexError, struct.error):
        return ""
    if kind == 16:
        return _escaped(b"".join(_strings(raw)))
    return f"{TYPES.get(kind, f'TYPE{kind}')} of {length} bytes"


def _strings(raw: bytes) -> Iterator[bytes]:
    """The strings of a TXT record."""
    position = 0
    while position < len(raw):
        length = raw[position]
        yield raw[position + 1 : position + 1 + length]
        position += 1 + length


def _name(data: bytes, position: int) -> tuple[str, int]:
    """A name, and where it ends. Raises ValueError or IndexError."""
    labels: list[str] = []
    end, taken, jumps = 0, 0, 0
    while length := data[position]:
        if length & _POINTER == _POINTER:
            jumps += 1
            if jumps > JUMPS_MAX:
                raise ValueError("compression pointers go in a circle")
            end = end or position + 2
            position = (length & ~_POINTER) << 8 | data[position + 1]
            continue
        label = data[position + 1 : position + 1 + length]
        taken += 1 + length
        if length & _POINTER or len(label) < length or taken >= NAME_MAX:
            raise ValueError("a label is too long")
        labels.append(_escaped(label.lower()).replace(".", "\\."))
        position += 1 + length
    return ".".join(labels) or ".", end or position + 1


def _escaped(raw: bytes) -> str:
    """Bytes as RFC 4343 shows them: what is not printable ASCII as \\DDD."""
    return "".join(chr(byte) if 0x20 < byte < 0x7F else f"\\{byte:03d}" for byte in raw)
