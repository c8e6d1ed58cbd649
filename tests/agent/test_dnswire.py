"""DNS answers: what is read of well-formed ones, and that hostile ones end the reading and nothing else."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.agent.sources import dnswire
from vedette.agent.sources.dnswire import ANSWERS_MAX, TEXT_MAX, Address, parse

POINTER = b"\xc0\x0c"
"""To the name of the question."""


def name(text: str) -> bytes:
    """A name on the wire."""
    return b"".join(bytes([len(part)]) + part.encode() for part in text.split(".") if part) + b"\0"


def record(kind: int, data: bytes, ttl: int = 300, owner: bytes = POINTER) -> bytes:
    """One resource record."""
    return owner + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def message(question: bytes, kind: int, *records: bytes, flags: int = 0x8180, questions: int = 1) -> bytes:
    """One answer."""
    header = struct.pack(">6H", 0x1234, flags, questions, len(records), 0, 0)
    return header + question + struct.pack(">HH", kind, 1) + b"".join(records)


V4, V6 = bytes([192, 0, 2, 1]), bytes.fromhex("20010db8000000000000000000000001")


def test_addresses_are_read_with_their_time_to_live():
    """A and AAAA records, behind a CNAME."""
    alias = record(5, name("edge.example.net"))
    answer = parse(message(name("www.example.com"), 1, alias, record(1, V4, 60), record(28, V6, 90)))
    assert (answer.name, answer.kind, answer.code) == ("www.example.com", "A", "NOERROR")
    assert answer.answers == ("edge.example.net", "192.0.2.1", "2001:db8::1")
    assert answer.addresses == (Address("192.0.2.1", 60), Address("2001:db8::1", 90))


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        (15, b"\0\x0a" + name("mx.example.com"), "10 mx.example.com"),
        (33, struct.pack(">HHH", 1, 2, 8883) + name("mqtt.example.com"), "1 2 8883 mqtt.example.com"),
        (16, b"\x05hello\x06 world", "hello\\032world"),
        (12, name("host.example.com"), "host.example.com"),
        (65, b"\0\1\0", "HTTPS of 3 bytes"),
        (9999, b"xy", "TYPE9999 of 2 bytes"),
    ],
    ids=["MX", "SRV", "TXT", "PTR", "HTTPS", "unknown"],
)
def test_other_records_are_shown_as_text(kind: int, data: bytes, shown: str):
    """Each as people write it."""
    assert parse(message(name("example.com"), kind, record(kind, data))).answers == (shown,)


@pytest.mark.parametrize(
    ("code", "text"), [(0, "NOERROR"), (2, "SERVFAIL"), (3, "NXDOMAIN"), (5, "REFUSED"), (11, "RCODE11")]
)
def test_refusals_are_answers_too(code: int, text: str):
    """What is asked for is known, even if there is no record."""
    answer = parse(message(name("no.example.com"), 28, flags=0x8180 | code))
    assert (answer.kind, answer.code, answer.answers) == ("AAAA", text, ())


def test_names_are_lower_case_and_printable():
    """Resolvers play with the case; names may hold any byte."""
    odd = b"\x03wWw\x05a.b\xff \x04TeSt\0"
    assert parse(message(odd, 1)).name == "www.a\\.b\\255\\032.test"
    assert parse(message(b"\0", 2)).name == "."


def test_many_and_long_records_are_bounded():
    """Of a large answer the first records are kept, of a long text its beginning."""
    records = [record(1, bytes([10, 0, 0, number]), owner=POINTER) for number in range(40)]
    answer = parse(message(name("big.example.com"), 1, *records))
    assert len(answer.answers) == len(answer.addresses) == ANSWERS_MAX
    text = record(16, b"".join(b"\xff" + b"x" * 255 for _ in range(4)))
    assert parse(message(name("long.example.com"), 16, text)).answers == ("x" * TEXT_MAX,)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter"),
        (message(name("a"), 1, flags=0x0100), "a question"),
        (message(name("a"), 1, questions=2), "2 questions"),
        (message(name("a"), 1)[:-3], "shorter"),
        (message(b"\xc0\x0c", 1), "circle"),
        (message(b"\x3fabc", 1), "too long"),
        (message(b"".join(b"\x3f" + b"x" * 63 for _ in range(5)) + b"\0", 1), "too long"),
        (message(b"\x80abc\0", 1), "too long"),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes, why: str):
    """With the reason."""
    with pytest.raises(ValueError, match=why):
        parse(data)


def test_a_cut_answer_is_read_as_far_as_it_goes():
    """The question and the records before the cut."""
    whole = message(name("www.example.com"), 1, record(1, V4), record(1, V4))
    assert parse(whole[:-5]).answers == ("192.0.2.1",)


def test_a_record_that_is_not_what_it_says_is_left_out():
    """Three bytes are no address; a name that points into nothing is none."""
    answer = parse(message(name("x.test"), 1, record(1, b"abc"), record(5, b"\xc0\xff"), record(1, V4)))
    assert answer.answers == ("192.0.2.1",)


@given(st.binary(max_size=600))
@example(message(b"\xc0\x0c", 1))
@example(message(name("a.b"), 1, record(5, b"\xc0\x1a")))
def test_hostile_bytes_are_answered_or_refused(data: bytes):
    """Whatever the bytes: a bounded answer, or ValueError."""
    _bounded(data)


@given(st.data())
def test_hostile_changes_of_an_answer(data: st.DataObject):
    """A real answer with some bytes changed is no worse."""
    records = [record(1, V4), record(5, name("e.example.net")), record(16, b"\x03abc"), record(28, V6)]
    raw = bytearray(message(name("www.example.com"), 1, *records))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=8)):
        raw[at] = data.draw(st.integers(0, 255))
    _bounded(bytes(raw))


def _bounded(data: bytes) -> None:
    try:
        answer = parse(data)
    except ValueError:
        return
    assert len(answer.name) <= 4 * dnswire.NAME_MAX
    assert answer.name.isascii()
    assert answer.name.isprintable()
    assert len(answer.answers) <= ANSWERS_MAX
    assert all(text.isascii() and len(text) <= TEXT_MAX for text in answer.answers)
