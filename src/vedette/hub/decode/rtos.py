"""Messages of the RTOS (ThreadX/NetX Duo) agent: FlatBuffers, schema 2.3, read into our event types.

Such a device keeps time in seconds, sends no ids that are unique, and knows less of each event than a Linux
one: what it cannot know is null. Facts: the public schema of that agent; field ids stand in the code.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from flatbuffers import packer

from vedette.hub.decode.flat import Buffer, Table
from vedette.hub.decode.reading import Decoded, Reading, Unreadable, instant
from vedette.wire.events import EVENT_TYPES
from vedette.wire.message import MessageError

ID_BYTES = 16
_PROTOCOLS = ("TCP", "UDP", "ICMP")
_PROCESS_EVENTS = ("FORK", "EXEC", "EXIT")
_RESULTS = ("PASS", "FAIL", "ERROR")
_SEVERITIES = ("Critical", "Important", "Warning", "Informational")
_V4, _V6 = 4, 16
"""Bytes of an address."""

Facts = dict[str, Any]


class Told(msgspec.Struct, frozen=True):
    """One event of ours that a payload tells of."""

    facts: Facts
    hits: int = 1


class Frame(msgspec.Struct, frozen=True):
    """What an RTOS event says of all that its payload tells. time: end of its window, Unix seconds."""

    id: str
    time: int
    interval: int


def decode(body: bytes) -> Decoded:
    """Read a body. Raises MessageError if nothing of it can be understood."""
    message = Buffer(body).root("Message")
    if not message.text(0, "security_module_id"):
        raise MessageError("Message.security_module_id: missing")
    decoded = Decoded(_version(message.number(1, "security_module_version", packer.uint32)), "RTOS", [], [])
    index = 0
    for event in message.tables(3, "events", required=True):
        try:
            readings = list(_readings(index, event))
        except MessageError as error:
            decoded.unreadable.append(Unreadable(index, str(error), body))
            index += 1
            continue
        decoded.readings.extend(readings)
        index += len(readings)
    return decoded


def _version(packed: int) -> str:
    return f"{packed >> 24}.{packed >> 16 & 0xFF}.{packed & 0xFFFF}"


def _readings(index: int, event: Table) -> Iterator[Reading]:
    """The rows of one event: its payload may list several. Raises MessageError."""
    frame = Frame(
        event.struct(0, "id", ID_BYTES).hex(),
        event.number(1, "time", packer.uint32),
        event.number(2, "collection_interval", packer.uint32),
    )
    number = event.number(3, "payload_type", packer.uint8)
    if number not in _PAYLOADS:
        raise MessageError(f"{event.name}.payload_type: {number} is not known")
    name, read = _PAYLOADS[number]
    payload = event.table(4, f"payload({name})")
    for place, told in enumerate(read(payload, frame)):
        yield _reading(index + place, name, frame, told)


def _reading(index: int, name: str, frame: Frame, told: Told) -> Reading:
    declared = EVENT_TYPES[name]
    end = instant("time", frame.time)
    return Reading(
        index=index,
        id=frame.id,
        name=name,
        category=declared.category,
        kind=declared.kind,
        facts=told.facts,
        keys=declared.details,
        first_seen=end,
        window_end=end,
        window_start=instant("collection_interval", frame.time - frame.interval),
        hits=told.hits,
    )


def _network_activity(payload: Table, frame: Frame) -> Iterator[Told]:
    for field, name, size in ((0, "ipv4_activity", _V4), (1, "ipv6_activity", _V6)):
        for activity in payload.tables(field, name):
            addresses = activity.struct(0, "addresses", 2 * size)
            common = activity.table(1, "common")
            yield Told(
                {
                    "LocalAddress": _address(addresses[:size]),
                    "RemoteAddress": _address(addresses[size:]),
                    "LocalPort": common.number(0, "local_port", packer.uint16),
                    "RemotePort": common.number(1, "remote_port", packer.uint16),
                    "BytesIn": common.number(2, "bytes_in", packer.uint32),
                    "BytesOut": common.number(3, "bytes_out", packer.uint32),
                    "Protocol": _word(common, 4, "protocol", _PROTOCOLS),
                    "ProcessId": common.number(5, "process_id", packer.uint16),
                    "UserId": common.number(6, "user_id", packer.uint16),
                    "Commandline": common.text(8, "commandline"),
                    "ExtendedProperties": {"Executable": common.text(7, "executable")},
                }
            )


def _system_information(payload: Table, frame: Frame) -> Iterator[Told]:
    yield Told(
        {
            "OsVersion": payload.text(0, "os_info"),
            "OsPlatform": "RTOS",
            "Kernel": payload.text(1, "kernel_info"),
            "HardwareModel": payload.text(2, "hw_info"),
        }
    )


def _listening_ports(payload: Table, frame: Frame) -> Iterator[Told]:
    """One snapshot. Equal states have equal ids, as in our own."""
    ports = [
        {
            "Protocol": _name(_PROTOCOLS, packer.int8.unpack_from(entry, size + 2)[0], "protocol"),
            "LocalAddress": _address(entry[:size]),
            "LocalPort": packer.uint16.unpack_from(entry, size)[0],
        }
        for field, name, size in ((0, "ipv4_ports", _V4), (1, "ipv6_ports", _V6))
        for entry in payload.structs(field, name, size + 4)
    ]
    state = hashlib.sha256(
        msgspec.json.encode(sorted(ports, key=lambda port: tuple(map(str, port.values()))))
    )
    yield Told({"SnapshotId": state.hexdigest()[:32], "Part": 1, "Parts": 1, "Ports": ports})


def _heartbeat(payload: Table, frame: Frame) -> Iterator[Told]:
    yield Told({})


def _baseline(payload: Table, frame: Frame) -> Iterator[Told]:
    for check in payload.tables(0, "checks"):
        yield Told(
            {
                "EventId": frame.id,
                "BaselineCheckId": check.text(0, "id"),
                "BaselineCheckResult": _word(check, 1, "result", _RESULTS),
                "BaselineCheckError": check.text(2, "error"),
                "BaselineCheckDescription": check.text(3, "description"),
                "BaselineCheckSeverity": _word(check, 4, "severity", _SEVERITIES),
                "BaselineCheckRemediation": check.text(5, "remediation"),
            }
        )


def _process(payload: Table, frame: Frame) -> Iterator[Told]:
    facts = {
        "EventType": _word(payload, 6, "event_type", _PROCESS_EVENTS),
        "ProcessId": payload.number(1, "process_id", packer.uint32),
        "ParentProcessId": payload.number(2, "parent_process_id", packer.uint32),
        "Commandline": payload.text(5, "commandline"),
        "Executable": payload.text(0, "executable"),
        "UserName": payload.text(4, "user_name"),
        "UserId": payload.number(3, "user_id", packer.uint32),
    }
    yield Told(facts, payload.number(7, "hit_count", packer.uint32, 1))


def _log(payload: Table, frame: Frame) -> Iterator[Told]:
    for entry in payload.tables(0, "logs"):
        text = entry.text(0, "message")
        yield Told(
            {
                "Level": str(entry.number(1, "level", packer.int8)),
                "Logger": f"{entry.text(4, 'filename')}:{entry.number(3, 'line', packer.uint32)}",
                "Template": text,
                "Message": text,
            }
        )


def _address(raw: bytes) -> str:
    return str(ipaddress.ip_address(raw))


def _word(table: Table, field: int, name: str, words: Sequence[str]) -> str:
    """An enumeration's value by its name. Raises MessageError for a number that has none."""
    return _name(words, table.number(field, name, packer.int8), f"{table.name}.{name}")


def _name(words: Sequence[str], number: int, field: str) -> str:
    if not 0 <= number < len(words):
        raise MessageError(f"{field}: {number} is not known")
    return words[number]


_PAYLOADS: dict[int, tuple[str, Callable[[Table, Frame], Iterator[Told]]]] = {
    1: ("NetworkActivity", _network_activity),
    2: ("SystemInformation", _system_information),
    3: ("ListeningPorts", _listening_ports),
    4: ("Heartbeat", _heartbeat),
    5: ("Baseline", _baseline),
    6: ("Process", _process),
    7: ("Log", _log),
}
"""Payload type → our event type, and how it is read."""
