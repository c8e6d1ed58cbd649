"""RTOS messages as a device of schema 2.3 writes them, with the FlatBuffers package's own encoder."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from flatbuffers import Builder

NOON = 1_767_268_800
Write = Callable[[Builder], int]
"""Writes one payload table and returns its position."""


def table(builder: Builder, **fields: object) -> int:
    """A table whose fields are named `f0`, `f1` …: text, a position (`("at", n)`) or (kind, number)."""
    values = {
        int(name[1:]): ("at", builder.CreateString(value)) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    builder.StartObject(max(values, default=-1) + 1)
    for field, value in values.items():
        kind, content = value  # type: ignore[misc]
        if kind == "at":
            builder.PrependUOffsetTRelativeSlot(field, content, 0)
        else:
            getattr(builder, f"Prepend{kind}Slot")(field, content, 0)
    return builder.EndObject()


def vector(builder: Builder, positions: Sequence[int]) -> int:
    builder.StartVector(4, len(positions), 4)
    for position in reversed(positions):
        builder.PrependUOffsetTRelative(position)
    return builder.EndVector()


def raw(builder: Builder, data: bytes) -> None:
    """Bytes as they stand, in front of what has been written."""
    for byte in reversed(data):
        builder.PrependByte(byte)


def with_struct(builder: Builder, data: bytes, align: int, finish: Callable[[], None], fields: int) -> int:
    """A table whose field 0 is a structure."""
    builder.StartObject(fields)
    finish()
    builder.Prep(align, len(data))
    raw(builder, data)
    builder.PrependStructSlot(0, builder.Offset(), 0)
    return builder.EndObject()


def event(builder: Builder, kind: int, payload: int, time: int = NOON, interval: int = 60) -> int:
    def rest() -> None:
        builder.PrependUOffsetTRelativeSlot(4, payload, 0)
        builder.PrependUint32Slot(2, interval, 0)
        builder.PrependUint32Slot(1, time, 0)
        builder.PrependUint8Slot(3, kind, 0)

    return with_struct(builder, bytes(range(16)), 8, rest, 5)


def message(
    *payloads: tuple[int, Write], time: int = NOON, module: str = "defender-iot-micro-agent"
) -> bytes:
    """A whole message, one event a (payload type, payload)."""
    builder = Builder(0)
    events = vector(builder, [event(builder, kind, write(builder), time) for kind, write in payloads])
    version = 4 << 24 | 1 << 16 | 3
    root = table(builder, f0=module, f1=("Uint32", version), f3=("at", events)) if module else None
    builder.Finish(root or table(builder, f3=("at", events)))
    return bytes(builder.Output())


def process(command: str = "telnetd -l", hits: int = 3) -> Write:
    return lambda builder: table(
        builder,
        f0="/bin/telnetd",
        f1=("Uint32", 70),
        f2=("Uint32", 1),
        f3=("Uint32", 1000),
        f4="operator",
        f5=command,
        f6=("Int8", 1),
        f7=("Uint32", hits),
    )


def flow(builder: Builder, local: str, remote: str) -> int:
    common = table(
        builder,
        f0=("Uint16", 49152),
        f1=("Uint16", 443),
        f2=("Uint32", 1000),
        f3=("Uint32", 2000),
        f4=("Int8", 1),
        f5=("Uint16", 70),
        f8="mqtt_client",
    )
    addresses = ipaddress.ip_address(local).packed + ipaddress.ip_address(remote).packed
    return with_struct(builder, addresses, 1, lambda: builder.PrependUOffsetTRelativeSlot(1, common, 0), 2)


def network(v4: Sequence[tuple[str, str]], v6: Sequence[tuple[str, str]] = ()) -> Write:
    def write(builder: Builder) -> int:
        four = vector(builder, [flow(builder, *pair) for pair in v4])
        six = vector(builder, [flow(builder, *pair) for pair in v6])
        return table(builder, f0=("at", four), f1=("at", six))

    return write


def ports(*open_ports: tuple[str, int, int]) -> Write:
    """(address, port, protocol), IPv4 or IPv6."""

    def write(builder: Builder) -> int:
        fields: dict[str, object] = {}
        for field, size in (("f0", 4), ("f1", 16)):
            entries = [
                (ipaddress.ip_address(address).packed, port, protocol)
                for address, port, protocol in open_ports
                if len(ipaddress.ip_address(address).packed) == size
            ]
            builder.StartVector(size + 4, len(entries), 2)
            for packed, port, protocol in reversed(entries):
                raw(builder, packed + port.to_bytes(2, "little") + bytes([protocol, 0]))
            fields[field] = ("at", builder.EndVector())
        return table(builder, **fields)

    return write


def baseline(*checks: tuple[str, int, int]) -> Write:
    """(id, result, severity)."""
    return lambda builder: table(
        builder,
        f0=(
            "at",
            vector(
                builder,
                [
                    table(builder, f0=name, f1=("Int8", result), f3="what", f4=("Int8", severity), f5="how")
                    for name, result, severity in checks
                ],
            ),
        ),
    )


def system() -> Write:
    return lambda builder: table(builder, f0="Azure RTOS 6.1", f1="ThreadX 6.1", f2="STM32F746")


def log(text: str) -> Write:
    return lambda builder: table(
        builder,
        f0=("at", vector(builder, [table(builder, f0=text, f1=("Int8", 2), f3=("Uint32", 42), f4="core.c")])),
    )


def heartbeat() -> Write:
    return lambda builder: table(builder)
