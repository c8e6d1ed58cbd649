"""ClientHellos: those of a real client, cut ones, and hostile ones."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.sources.tlshello import NAME_MAX, Hello, is_client_hello, parse


def client_hello(name: str | None, *protocols: str) -> bytes:
    """The first flight of OpenSSL's client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


REAL = client_hello("device.example.com", "h2", "http/1.1")


def test_the_server_name_and_the_protocols_are_read():
    """Of a real client."""
    assert parse(REAL) == Hello("device.example.com", ("h2", "http/1.1"))
    assert parse(client_hello("MiXed.Example.COM")) == Hello("mixed.example.com", ())


def test_a_client_that_names_nobody():
    """No name is an empty one."""
    assert parse(client_hello(None)) == Hello("", ())


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1", b"\x16\x03\x01\x00\x05\x02", b"\x17" + REAL[1:]])
def test_what_is_no_client_hello(data: bytes):
    """Is none."""
    assert not is_client_hello(data)
    assert parse(data) is None


def test_a_cut_one_never_gives_a_part_of_a_name():
    """At whatever byte it is cut, the name is whole or not there."""
    for length in range(len(REAL)):
        hello = parse(REAL[:length])
        assert hello is None or hello.server_name in ("", "device.example.com")


def test_a_name_with_odd_bytes_is_none():
    """What is no host name is not put into events."""
    assert parse(REAL.replace(b"device.example.com", b"device\x00example\xffcom")) == Hello(
        "", ("h2", "http/1.1")
    )


@given(st.binary(max_size=300))
def test_hostile_bytes(data: bytes):
    """After a beginning that promises a ClientHello, anything may come."""
    hello = parse(b"\x16\x03\x01\x01\x00\x01" + data)
    assert hello is not None
    assert len(hello.server_name) <= NAME_MAX
    assert len(hello.protocols) <= 8


@given(st.data())
def test_hostile_changes_of_a_real_one(data: st.DataObject):
    """Some bytes changed: still a hello or none, and printable."""
    raw = bytearray(REAL)
    for at in data.draw(st.lists(st.integers(6, len(raw) - 1), max_size=8)):
        raw[at] = data.draw(st.integers(0, 255))
    hello = parse(bytes(raw))
    assert hello is not None
    assert hello.server_name.isascii()
    assert not any(char.isspace() for char in hello.server_name)
