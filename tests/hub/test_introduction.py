"""The PROXY protocol, byte by byte: what balancers say, and what they must not."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.hub.introduction import (
    MALFORMED,
    MAX_BYTES,
    MISSING,
    TOO_LONG,
    NotIntroduced,
    Peer,
    among,
    introduction,
    networks,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TLS = b"\x16\x03\x01 what follows"
ADDRESSES = st.ip_addresses()
PORTS = st.integers(0, 65_535)


class Unfinished(Exception):
    """The header wants more bytes than there are."""


def hear(said: bytes) -> tuple[Peer | None, bytes]:
    """Whom a balancer introduces, and what was not taken of what it sent. Raises Unfinished."""
    steps = introduction()
    wanted, at = next(steps), 0
    try:
        while at + wanted <= len(said):
            at, part = at + wanted, said[at : at + wanted]
            wanted = steps.send(part)
    except StopIteration as end:
        return end.value, said[at:]
    raise Unfinished


def binary(address: str, port: int, *, command: int = 0x21, protocol: int = 0, more: bytes = b"") -> bytes:
    source = ip_address(address).packed
    rest = source + bytes(len(source)) + pack("!HH", port, 8883) + more
    return (
        SIGNATURE + pack("!BBH", command, protocol or (0x11 if len(source) == 4 else 0x21), len(rest)) + rest
    )


def text(address: str, port: int) -> bytes:
    family, target = ("TCP4", "192.0.2.1") if ":" not in address else ("TCP6", "2001:db8::1")
    return f"PROXY {family} {address} {target} {port} 8883\r\n".encode()


@given(ADDRESSES, PORTS, st.binary(max_size=64))
def test_version_2_tells_the_client_and_takes_no_byte_more(address: object, port: int, fields: bytes):
    """Whatever extension fields stand behind the addresses."""
    peer, rest = hear(binary(str(address), port, more=fields) + TLS)
    assert peer is not None
    assert rest == TLS
    assert (ip_address(peer[0]), peer[1]) == (plain(address), port)


@given(ADDRESSES, PORTS)
def test_version_1_tells_the_client_and_takes_no_byte_more(address: object, port: int):
    """As nginx sends it."""
    peer, rest = hear(text(str(address), port) + TLS)
    assert peer is not None
    assert rest == TLS
    assert (ip_address(peer[0]), peer[1]) == (plain(address), port)


def plain(address: object) -> object:
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def test_a_client_has_one_spelling():
    """A balancer that listens on IPv6 writes IPv4 addresses as such."""
    for header in (binary("::ffff:192.0.2.7", 5), text("::ffff:192.0.2.7", 5), text("::FFFF:c000:207", 5)):
        assert hear(header) == (("192.0.2.7", 5), b"")


@pytest.mark.parametrize(
    "said",
    [
        binary("192.0.2.7", 1, command=0x20),
        binary("192.0.2.7", 1, command=0x20, protocol=0xFF),
        SIGNATURE + b"\x20\0\0\0",
        SIGNATURE + b"\x21\0\0\0",
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
        binary("192.0.2.7", 1, protocol=0x12),
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f ? 65535\r\n",
    ],
    ids=["local", "local, odd", "local, short", "unspecified", "unix", "udp", "unknown", "unknown, long"],
)
def test_a_balancer_may_speak_for_itself(said: bytes):
    """Its checks, and clients whose address is no address; the rest of the header is skipped."""
    assert hear(said + TLS) == (None, TLS)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (TLS, MISSING),
        (b"proxy TCP4 192.0.2.7 192.0.2.1 1 1\r\n", MISSING),
        (binary("192.0.2.7", 1, command=0x22), MALFORMED),
        (binary("192.0.2.7", 1, command=0x11), MALFORMED),
        (binary("192.0.2.7", 1, protocol=0x41), MALFORMED),
        (binary("192.0.2.7", 1, protocol=0x21), MALFORMED),
        (SIGNATURE + pack("!BBH", 0x21, 0x11, MAX_BYTES + 1), TOO_LONG),
        (b"PROXY UNKNOWN " + b"x" * 200, TOO_LONG),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 1\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.07 192.0.2.1 1 1\r\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 01 1\r\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 1\r\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.7  192.0.2.1 1 1\r\n", MALFORMED),
        (b"PROXY TCP4 192.0.2.7 elsewhere 1 1\r\n", MALFORMED),
        (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 1\r\n", MALFORMED),
        (b"PROXY TCP6 192.0.2.7 192.0.2.1 1 1\r\n", MALFORMED),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", MALFORMED),
        (b"PROXY UDP4 192.0.2.7 192.0.2.1 1 1\r\n", MALFORMED),
    ],
    ids=str,
)
def test_what_is_not_as_specified_is_refused(said: bytes, reason: str):
    """Nothing is guessed."""
    with pytest.raises(NotIntroduced, match=f"^{reason}$"):
        hear(said)


@given(st.sampled_from([b"", SIGNATURE, b"PROXY ", b"PROXY TCP4 ", SIGNATURE + b"\x21\x11"]), st.binary())
def test_any_bytes_end_in_a_client_or_a_refusal(start: bytes, more: bytes):
    """And a header that is not finished wants a bounded number of bytes."""
    steps = introduction()
    wanted, taken = next(steps), 0
    said = start + more
    try:
        while taken < len(said):
            part = said[taken : taken + wanted].ljust(wanted, b"\0")
            taken += wanted
            wanted = steps.send(part)
    except (StopIteration, NotIntroduced):
        wanted = 0
    assert taken + wanted <= len(SIGNATURE) + 4 + MAX_BYTES


@given(ADDRESSES, PORTS, st.data())
def test_a_damaged_header_takes_no_more_than_it_says(address: object, port: int, data: st.DataObject):
    """One byte changed: another client, a refusal, or a header that waits for its end."""
    header = bytearray(data.draw(st.sampled_from([binary, text]))(str(address), port))
    at = data.draw(st.integers(0, len(header) - 1))
    header[at] = data.draw(st.integers(0, 255))
    try:
        peer, _ = hear(bytes(header) + TLS)
    except (NotIntroduced, Unfinished):
        return
    if peer is not None:
        ip_address(peer[0])


def test_balancers_are_told_by_address_or_network():
    """Of both families; and whatever is neither is named."""
    known = networks(["10.0.0.5", "10.1.0.0/16", "2001:db8::/32"])
    assert [among(address, known) for address in ("10.0.0.5", "10.1.2.3", "2001:db8::9")] == [True] * 3
    assert not any(among(address, known) for address in ("10.0.0.6", "::1", "fe80::1%eth0"))
    assert not among(str(IPv4Address(1)), networks([]))
    for wrong in ("10.0.0.5/24", "balancer.example.org", ""):
        with pytest.raises(ValueError, match=r"^proxies: "):
            networks(["10.0.0.5", wrong])
