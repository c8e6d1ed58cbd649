"""Messages of the classic agent (schema 1.0): our events in its envelope, and nothing that it does not know.

What was aggregated is identical in fewer fields than with us, so that events may meet; what does not belong
to the identity is 0, and ExtraDetails tell how often and from when to when.

Source: that agent's public message schema and its documentation of aggregation; docs/reference/
classic.schema.json is our own statement of both. Pure: ids are random, times are passed in.
"""

from __future__ import annotations

import ipaddress
import shlex
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal, NamedTuple

import msgspec

from vedette import __version__
from vedette.wire.classic import ClassicSettings, Level
from vedette.wire.classic_items import (
    ClassicHardware,
    ClassicLogin,
    ClassicPort,
    ClassicRule,
    ClassicSystem,
    ClassicUser,
    ConnectionCreate,
    Diagnostic,
    Item,
    OSBaseline,
    ProcessCreate,
    ProcessTerminate,
)
from vedette.wire.events import (
    Baseline,
    ConnectedHardware,
    Event,
    FirewallConfiguration,
    FirewallRule,
    ListeningPorts,
    LocalUsers,
    Log,
    Login,
    NetworkActivity,
    Payload,
    Process,
    SystemInformation,
)
from vedette.wire.message import Packed, Window, metered_units

PROPERTIES = "%24.ce=application%2fjson&%24.ifid=urn%3aazureiot%3aSecurity%3aSecurityAgent%3a1"
"""The property bag of its messages, spelt as that agent spells it."""

SIGNALLED = 128
"""What a shell adds to the number of the signal that ended a process."""

ITEMS_BYTES = 4_096
"""Items of one event: with its envelope it fits into the smallest message that may be asked for."""

SERVER_PORTS = 32_768
"""Linux gives clients ports from here on: a connection whose local port is lower was accepted."""


class Kind(NamedTuple):
    """A classic event: its name, when it is made, what it speaks of, and the setting of its priority."""

    name: str
    category: Literal["Triggered", "Periodic"]
    event_type: Literal["Security", "Operational", "Diagnostic"]
    level: Callable[[ClassicSettings], Level]


PROCESS_CREATE = Kind("ProcessCreate", "Triggered", "Security", lambda s: s.process_create)
PROCESS_TERMINATE = Kind("ProcessTerminate", "Triggered", "Security", lambda s: s.process_terminate)
CONNECTION_CREATE = Kind("ConnectionCreate", "Triggered", "Security", lambda s: s.connection_create)
LOGIN = Kind("Login", "Triggered", "Security", lambda s: s.login)
LISTENING_PORTS = Kind("ListeningPorts", "Periodic", "Security", lambda s: s.listening_ports)
LOCAL_USERS = Kind("LocalUsers", "Periodic", "Security", lambda s: s.local_users)
FIREWALL = Kind("FirewallConfiguration", "Periodic", "Security", lambda s: s.firewall)
SYSTEM = Kind("SystemInformation", "Periodic", "Security", lambda s: s.system_information)
HARDWARE = Kind("ConnectedHardware", "Periodic", "Security", lambda s: s.hardware)
BASELINE = Kind("OSBaseline", "Periodic", "Security", lambda s: s.baseline)
DIAGNOSTIC = Kind("Diagnostic", "Triggered", "Diagnostic", lambda s: s.diagnostic)
CONFIGURATION = Kind("ConfigurationError", "Triggered", "Operational", lambda s: s.configuration_error)
DROPPED = Kind("DroppedEventsStatistics", "Periodic", "Operational", lambda s: s.dropped_events)
MESSAGES = Kind("MessageStatistics", "Periodic", "Operational", lambda s: s.message_statistics)


class Origin(msgspec.Struct, frozen=True):
    """Where messages come from. agent_id: a GUID that stays. utc_offset: of local time, seconds."""

    agent_id: str
    host_name: str = ""
    process_id: int = 0
    utc_offset: int = 0


class Ready(NamedTuple):
    """An event as it will stand in a message, and how many observations it stands for."""

    body: bytes
    hits: int


_encode = msgspec.json.Encoder().encode


def classic_events(
    events: Iterable[Event], window: Window, settings: ClassicSettings, origin: Origin
) -> Iterator[tuple[Kind, Ready]]:
    """One collector's cycle. Events that the classic agent did not know yield nothing."""
    events = list(events)
    yield from _processes(events, window, settings, origin)
    yield from _connections(events, window, settings, origin)
    for event in events:
        if isinstance(event.payload, Login):
            yield from _single(LOGIN, _login(event.payload, event.hits), event, origin)
        elif isinstance(event.payload, Log):
            yield from _single(DIAGNOSTIC, _diagnostic(event.payload, event.hits, origin), event, origin)
    checks = [_check(event.payload) for event in events if isinstance(event.payload, Baseline)]
    yield from _ready(BASELINE, [(check, 1) for check in checks if check], window.end, origin)
    for event in events:
        if found := _snapshot(event.payload, origin):
            kind, items = found
            yield from _ready(kind, [(item, 1) for item in items], window.end, origin, even_if_empty=True)


def told(kind: Kind, items: Iterable[Item], at: float, origin: Origin) -> Iterator[tuple[Kind, Ready]]:
    """Events of the agent about itself."""
    yield from _ready(kind, [(item, 1) for item in items], at, origin)


def classic_messages(ready: Iterable[Ready], origin: Origin, *, max_bytes: int) -> Iterator[Packed]:
    """Events in as few messages as `max_bytes`, properties included, allows, in order."""
    head = _encode({"AgentVersion": __version__, "AgentId": origin.agent_id, "MessageSchemaVersion": "1.0"})
    head = head.removesuffix(b"}") + b',"Events":['
    room = max_bytes - len(PROPERTIES) - len(head) - 2
    parts: list[Ready] = []
    size = 0

    def seal() -> Packed:
        body = head + b",".join(part.body for part in parts) + b"]}"
        units = metered_units(len(body) + len(PROPERTIES))
        hits = sum(part.hits for part in parts)
        return Packed(uuid.uuid4().hex, body, len(parts), hits, units, PROPERTIES)

    for event in ready:
        if parts and size + len(event.body) + 1 > room:
            yield seal()
            parts, size = [], 0
        parts.append(event)
        size += len(event.body) + 1
    if parts:
        yield seal()


def _ready(
    kind: Kind, items: Iterable[tuple[Item, int]], at: float, origin: Origin, *, even_if_empty: bool = False
) -> Iterator[tuple[Kind, Ready]]:
    """Events of as many items as fit."""
    payload: list[bytes] = []
    size = hits = 0
    for item, count in items:
        encoded = _encode(item)
        if payload and size + len(encoded) > ITEMS_BYTES:
            yield kind, Ready(_event(kind, payload, at, origin), hits)
            payload, size, hits = [], 0, 0
        payload.append(encoded)
        size += len(encoded) + 1
        hits += count
    if payload or even_if_empty:
        yield kind, Ready(_event(kind, payload, at, origin), max(hits, 1))


def _event(kind: Kind, payload: list[bytes], at: float, origin: Origin) -> bytes:
    return _encode(
        {
            "EventType": kind.event_type,
            "Category": kind.category,
            "Name": kind.name,
            "IsEmpty": not payload,
            "PayloadSchemaVersion": "1.0",
            "Id": str(uuid.uuid4()),
            "TimestampLocal": _local(at, origin.utc_offset),
            "TimestampUTC": _utc(at),
            "Payload": msgspec.Raw(b"[" + b",".join(payload) + b"]"),
        }
    )


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _local(at: float, offset: int) -> str:
    zone = timezone(timedelta(seconds=offset))
    return datetime.fromtimestamp(at, zone).isoformat(timespec="milliseconds")


def _aggregated(hits: int, window: Window, origin: Origin) -> dict[str, str]:
    return {
        "HitCount": str(hits),
        "StartTimeUtc": _utc(window.start),
        "EndTimeUtc": _utc(window.end),
        "StartTimeLocal": _local(window.start, origin.utc_offset),
        "EndTimeLocal": _local(window.end, origin.utc_offset),
    }


def _counted(hits: int) -> dict[str, str]:
    """Of an event that the classic agent would not aggregate, but our source did."""
    return {"HitCount": str(hits)} if hits > 1 else {}


def _single(kind: Kind, item: Item, event: Event, origin: Origin) -> Iterator[tuple[Kind, Ready]]:
    """An event that stands for itself, at its own time."""
    yield from _ready(kind, [(item, event.hits)], event.first_seen, origin)


def _processes(
    events: Iterable[Event], window: Window, settings: ClassicSettings, origin: Origin
) -> Iterator[tuple[Kind, Ready]]:
    """Executions, then ends. The collector's events differ in what makes them differ here, too."""
    processes = [(event.payload, event) for event in events if isinstance(event.payload, Process)]
    made = [(_process(process), event) for process, event in processes if process.event_type == "EXEC"]
    ended = [(_end(process), event) for process, event in processes if process.event_type == "EXIT"]
    for kind, found, aggregated in (
        (PROCESS_CREATE, made, settings.aggregate_process_create),
        (PROCESS_TERMINATE, ended, settings.aggregate_process_terminate),
    ):
        if aggregated:
            items = [(_merged(item, event.hits, window, origin), event.hits) for item, event in found]
            yield from _ready(kind, items, window.end, origin)
            continue
        for item, event in found:
            extra = item.extra_details | _counted(event.hits)
            yield from _single(kind, msgspec.structs.replace(item, extra_details=extra), event, origin)


def _merged(item: Item, hits: int, window: Window, origin: Origin) -> Item:
    """An item that stands for several processes: without their ids."""
    ids = dict.fromkeys({"process_id", "parent_process_id"}.intersection(item.__struct_fields__), 0)
    extra = item.extra_details | _aggregated(hits, window, origin)
    return msgspec.structs.replace(item, **ids, extra_details=extra)


def _process(process: Process) -> ProcessCreate:
    return ProcessCreate(
        executable=process.executable,
        process_id=process.process_id,
        parent_process_id=process.parent_process_id,
        user_id=str(process.user_id),
        user_name=process.user_name,
        command_line=process.commandline,
    )


def _end(process: Process) -> ProcessTerminate:
    signal = process.exit_signal
    return ProcessTerminate(
        executable=process.executable,
        process_id=process.process_id,
        exit_status=SIGNALLED + signal if signal else process.exit_status or 0,
        extra_details=_filled(Signal=str(signal or "")),
    )


def _connections(
    events: Iterable[Event], window: Window, settings: ClassicSettings, origin: Origin
) -> Iterator[tuple[Kind, Ready]]:
    """Flows. A flow is a connection; aggregated, those that differ in the client's port alone are one."""
    flows = [(_connection(e.payload), e.first_seen) for e in events if isinstance(e.payload, NetworkActivity)]
    if not settings.aggregate_connection_create:
        for item, at in flows:
            yield from _ready(CONNECTION_CREATE, [(item, 1)], at, origin)
        return
    same: dict[bytes, list[ConnectionCreate]] = {}
    for item, _ in flows:
        item = _without_client(item)
        same.setdefault(_encode(item), []).append(item)
    items = [
        (msgspec.structs.replace(met[0], extra_details=_aggregated(len(met), window, origin)), len(met))
        for met in same.values()
    ]
    yield from _ready(CONNECTION_CREATE, items, window.end, origin)


def _without_client(item: ConnectionCreate) -> ConnectionCreate:
    """What makes two connections the same: the rest is 0."""
    if item.direction == "In":
        return msgspec.structs.replace(item, process_id=0, remote_port="0")
    return msgspec.structs.replace(item, process_id=0, local_port="0")


def _connection(flow: NetworkActivity) -> ConnectionCreate:
    accepted = 0 < flow.local_port < SERVER_PORTS and flow.local_port <= flow.remote_port
    return ConnectionCreate(
        remote_address=flow.remote_address,
        remote_port=str(flow.remote_port),
        local_address=flow.local_address,
        local_port=str(flow.local_port),
        direction="In" if accepted else "Out",
        protocol=flow.protocol,
        process_id=flow.process_id or 0,
        user_id="" if flow.user_id is None else str(flow.user_id),
        executable=_program(flow.commandline),
        command_line=flow.commandline,
    )


def _program(commandline: str) -> str:
    """The first argument of a command line that is quoted for a shell."""
    try:
        return next(iter(shlex.split(commandline)), "")
    except ValueError:  # cut off within quotes
        return commandline.partition(" ")[0]


def _login(login: Login, hits: int) -> ClassicLogin:
    extra = _counted(hits)
    address = login.remote_address
    try:
        ipaddress.ip_address(address)
    except ValueError:
        extra |= {"RemoteHost": address} if address else {}
        address = ""
    return ClassicLogin(
        process_id=login.process_id,
        user_name=login.user_name,
        operation=login.operation,
        executable=login.executable,
        result="Fail" if login.operation == "LoginFailed" else "Success",
        remote_address=address,
        extra_details=extra,
    )


_SEVERITIES: dict[str, Literal["Fatal", "Error", "Warning"]] = {
    "CRITICAL": "Fatal",
    "ERROR": "Error",
    "WARNING": "Warning",
}
_RESULTS: dict[str, Literal["Pass", "Fail", "Err"]] = {"PASS": "Pass", "FAIL": "Fail", "ERROR": "Err"}
_ACTIONS: dict[str, Literal["Allow", "Deny", "Other"]] = {"accept": "Allow", "drop": "Deny", "reject": "Deny"}


def _diagnostic(log: Log, hits: int, origin: Origin) -> Diagnostic:
    return Diagnostic(
        severity=_SEVERITIES[log.level],
        message=f"{log.logger}: {log.message}",
        process_id=origin.process_id,
        thread_id=origin.process_id,  # the agent's main thread; others are not told apart
        extra_details=_counted(hits),
    )


def _check(check: Baseline) -> OSBaseline | None:
    """None where there was nothing to check: the classic agent has no word for it."""
    if check.baseline_check_result == "SKIP":
        return None
    return OSBaseline(
        description=check.baseline_check_description,
        cce_id=check.baseline_check_id,
        result=_RESULTS[check.baseline_check_result],
        error=check.baseline_check_error or "; ".join(check.baseline_check_evidence),
        severity=check.baseline_check_severity,
    )


def _snapshot(payload: Payload, origin: Origin) -> tuple[Kind, list[Item]] | None:
    if isinstance(payload, ListeningPorts):
        return LISTENING_PORTS, [
            ClassicPort(
                protocol=port.protocol,
                local_address=port.local_address,
                local_port=str(port.local_port),
                extra_details=_filled(Executable=port.executable, UserName=port.user_name),
            )
            for port in payload.ports
        ]
    if isinstance(payload, LocalUsers):
        return LOCAL_USERS, [
            ClassicUser(
                user_name=user.user_name,
                user_id=str(user.user_id),
                group_ids=";".join(map(str, user.group_ids)),
                group_names=";".join(user.group_names),
            )
            for user in payload.users
        ]
    if isinstance(payload, FirewallConfiguration):
        return FIREWALL, [_rule(rule) for rule in payload.rules]
    if isinstance(payload, ConnectedHardware):
        return HARDWARE, [
            ClassicHardware(
                hardware_category=device.bus,
                hardware_sub_category=device.device_class,
                hardware_name=device.product or f"{device.vendor_id}:{device.product_id}",
                extra_details=_filled(
                    Manufacturer=device.vendor, Address=device.address, Driver=device.driver
                ),
            )
            for device in payload.devices
        ]
    if isinstance(payload, SystemInformation):
        return SYSTEM, [_system(payload, origin)]
    return None


def _rule(rule: FirewallRule) -> ClassicRule:
    action = _ACTIONS.get(rule.action, "Other")
    both_ways = rule.direction if rule.direction not in ("In", "Out") else ""
    return ClassicRule(
        enabled=True,
        action=action,
        priority=rule.position,
        chain_name=rule.chain,
        direction="" if both_ways else rule.direction,
        source_address=rule.source_address,
        source_port=rule.source_port,
        destination_address=rule.destination_address,
        destination_port=rule.destination_port,
        protocol=rule.protocol,
        extra_details=_filled(
            Action=rule.action if action == "Other" else "",
            Direction=both_ways,
            Table=f"{rule.family} {rule.table}",
            Policy="true" if rule.policy else "",
            Matches=rule.text,
        ),
    )


def _system(system: SystemInformation, origin: Origin) -> ClassicSystem:
    return ClassicSystem(
        os_name=system.os_dist,
        os_version=system.os_version,
        os_architecture=system.os_arch,
        host_name=origin.host_name,
        bios_version=system.firmware_version,
        extra_details=_filled(
            Kernel=system.kernel,
            HardwareVendor=system.hardware_vendor,
            HardwareModel=system.hardware_model,
            HardwareSerialNumber=system.hardware_serial_number,
            FirmwareVendor=system.firmware_vendor,
        ),
    )


def _filled(**details: str) -> dict[str, str]:
    return {key: value for key, value in details.items() if value}
