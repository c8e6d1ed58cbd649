"""The classic BPF program that cuts captured packets: headers, and of payload only what names something.

For kernels that cannot run ours (`bpf/flow.bpf.c`); it cuts where that copies. Instruction set:
<linux/filter.h>. A packet too short for what is asked of it is not captured.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ctypes import addressof, create_string_buffer
from struct import Struct
from typing import NamedTuple

from vedette.agent.sources.flow import COPY_MAX, FIRST_BYTES, TCP, UDP
from vedette.agent.sources.packet_headers import DNS, P_IP, P_IP6, P_QINQ, P_VLAN, VLAN_TAG

_TCP_MAX = 60
"""Bytes of the largest TCP header."""

_EXTENDED = 68
"""Bytes after an IPv6 header that are kept where extension headers follow: three of them and TCP's."""

_SO_ATTACH_FILTER = 26
_INSTRUCTION = Struct("=HBBI")
_PROGRAM = Struct("@HP")
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_OUTGOING = 4

# Opcodes: class | size | mode, or class | operation | source.
_LD_BYTE, _LD_HALF, _LD_WORD, _LD_LENGTH = 0x30, 0x28, 0x20, 0x80
_LD_BYTE_X, _LD_HALF_X = 0x50, 0x48
_LDX, _LDX_IP_LENGTH = 0x01, 0xB1  # a number; 4 times the low half of a byte
_ADD, _ADD_X, _SUB_X, _AND, _SHIFT = 0x04, 0x0C, 0x1C, 0x54, 0x74
_IF_EQUAL, _IF_GREATER, _IF_BITS = 0x15, 0x25, 0x45
_TAKE, _TAKE_A, _TO_X, _FROM_X = 0x06, 0x16, 0x07, 0x87


class _Op(NamedTuple):
    """An instruction. yes, no: labels to go to; the next instruction where they are empty."""

    code: int
    value: int = 0
    yes: str = ""
    no: str = ""


def _transport(link: int, name: str) -> Iterator[_Op | str]:
    """What is kept of TCP and UDP behind an IP header whose length is in X; the protocol is in A."""
    yield _Op(_IF_EQUAL, TCP, f"{name}tcp")
    yield _Op(_IF_EQUAL, UDP, f"{name}udp")
    yield from _keep(link + 8)
    yield f"{name}tcp"
    yield _Op(_LD_HALF_X, link)
    yield _Op(_IF_EQUAL, DNS, f"{name}all")
    yield _Op(_LD_BYTE_X, link + 12)
    yield _Op(_SHIFT, 2)
    yield _Op(_AND, 0x3C)
    yield _Op(_ADD_X)
    yield _Op(_TO_X)  # X: where the payload begins
    yield _Op(_LD_LENGTH)
    yield _Op(_SUB_X)
    yield _Op(_IF_GREATER, link + 5, "", f"{name}bytes")
    for at, byte in ((0, 22), (1, 3), (5, 1)):  # a ClientHello
        yield _Op(_LD_BYTE_X, link + at)
        yield _Op(_IF_EQUAL, byte, "", f"{name}bytes")
    yield from _keep(link + COPY_MAX)
    yield f"{name}bytes"
    yield from _keep(link + FIRST_BYTES)
    yield f"{name}udp"
    yield _Op(_LD_HALF_X, link)
    yield _Op(_IF_EQUAL, DNS, "", f"{name}first")
    yield _Op(_LD_WORD, _PACKET_TYPE)
    yield _Op(_IF_EQUAL, _OUTGOING, f"{name}first")
    yield f"{name}all"
    yield from _keep(link + _TCP_MAX + COPY_MAX)
    yield f"{name}first"
    yield from _keep(link + 8 + FIRST_BYTES)


def _keep(more: int) -> Iterator[_Op]:
    """Take X bytes and so many more."""
    yield _Op(_FROM_X)
    yield _Op(_ADD, more)
    yield _Op(_TAKE_A)


def _ip4(link: int, name: str) -> Iterator[_Op | str]:
    yield _Op(_LDX_IP_LENGTH, link)
    yield _Op(_LD_HALF, link + 6)
    yield _Op(_IF_BITS, 0x1FFF, f"{name}later")
    yield _Op(_LD_BYTE, link + 9)
    yield from _transport(link, name)
    yield f"{name}later"
    yield from _keep(link)


def _ip6(link: int, name: str) -> Iterator[_Op | str]:
    yield _Op(_LDX, 40)
    yield _Op(_LD_BYTE, link + 6)
    for extension in (0, 43, 44, 51, 60):
        yield _Op(_IF_EQUAL, extension, f"{name}extended")
    yield from _transport(link, name)
    yield f"{name}extended"
    yield from _keep(link + _EXTENDED)


def _program(link: int) -> Iterator[_Op | str]:
    if not link:  # begins with the IP header
        yield _Op(_LD_BYTE, 0)
        yield _Op(_AND, 0xF0)
        yield _Op(_IF_EQUAL, 0x40, "4in0")
        yield _Op(_IF_EQUAL, 0x60, "6in0")
        yield _Op(_TAKE, 0)
        yield from _network(0)
        return
    for length in (link, link + VLAN_TAG):
        yield f"link{length}"
        yield _Op(_LD_HALF, length - 2)
        yield _Op(_IF_EQUAL, P_IP, f"4in{length}")
        yield _Op(_IF_EQUAL, P_IP6, f"6in{length}")
        yield _Op(_IF_EQUAL, P_VLAN, f"link{length + VLAN_TAG}")
        yield _Op(_IF_EQUAL, P_QINQ, f"link{length + VLAN_TAG}")
        yield _Op(_TAKE, 0)
        yield from _network(length)
    last = link + 2 * VLAN_TAG
    yield f"link{last}"
    yield _Op(_LD_HALF, last - 2)
    yield _Op(_IF_EQUAL, P_IP, f"4in{last}")
    yield _Op(_IF_EQUAL, P_IP6, f"6in{last}")
    yield _Op(_TAKE, 0)
    yield from _network(last)


def _network(link: int) -> Iterator[_Op | str]:
    yield f"4in{link}"
    yield from _ip4(link, f"4in{link}")
    yield f"6in{link}"
    yield from _ip6(link, f"6in{link}")


def assemble(link: int) -> bytes:
    """The program for packets behind a link header of `link` bytes: 14 or 0. Jumps go forwards only."""
    starts: dict[str, int] = {}
    ops: list[_Op] = []
    for line in _program(link):
        if isinstance(line, str):
            starts[line] = len(ops)
        else:
            ops.append(line)
    encoded = []
    for at, op in enumerate(ops):
        yes, no = (starts[label] - at - 1 if label else 0 for label in (op.yes, op.no))
        encoded.append(_INSTRUCTION.pack(op.code, yes, no, op.value))
    return b"".join(encoded)


def attach(capture: socket.socket, link: int) -> None:
    """Let a socket take what the program keeps, and nothing else. Raises OSError."""
    instructions = assemble(link)
    held = create_string_buffer(instructions, len(instructions))
    program = _PROGRAM.pack(len(instructions) // _INSTRUCTION.size, addressof(held))
    capture.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
