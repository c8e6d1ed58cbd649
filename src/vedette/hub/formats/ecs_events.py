"""ECS, the Elastic Common Schema, version 8.17: raw events.

The schema has no field for how often something was observed: `vedette.hit_count` has it. `event.original`
holds EventDetails as they were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vedette.hub.formats.ecs import base, end, user
from vedette.hub.formats.values import (
    RawEvent,
    address,
    base_name,
    inner,
    items,
    known,
    number,
    text,
    texts,
)
from vedette.wire.declare import utc_text

Details = Mapping[str, Any]
Fields = dict[str, Any]

_FILE_TYPES = {
    "Created": "creation",
    "Access": "access",
    "Modified": "change",
    "Deleted": "deletion",
    "Moved": "change",
    "Metadata changed": "change",
    "Opened": "access",
    "Closed": "access",
}
_PROCESS_TYPES = {"EXEC": "start", "FORK": "start", "EXIT": "end"}
_LOCAL = "0.0.0.0"  # noqa: S104 - what a login without a remote address says


class Told(NamedTuple):
    """What an event type tells. category, kinds: `event.category` and `event.type`, of the allowed values."""

    category: str
    kinds: tuple[str, ...]
    fields: Fields
    event: Fields = {}  # noqa: RUF012 - never changed


def event(raw: RawEvent) -> dict[str, Any]:
    """An event in ECS."""
    told = _TYPES.get(raw.name, _other)(raw)
    document = base(
        raw.device,
        raw.first,
        {
            "kind": "event",
            "id": raw.id,
            "action": raw.name,
            "category": [told.category],
            "type": list(told.kinds),
            "start": utc_text(raw.first),
            "end": utc_text(raw.end),
            "created": utc_text(raw.received),
            "original": raw.text,
            **told.event,
        },
    )
    fields = dict(told.fields)
    document["host"] |= fields.pop("host", {})
    if raw.agent:
        document["agent"] = {"type": "vedette", "version": raw.agent}
    own = known(hit_count=raw.hits, module_id=raw.module, **fields.pop("vedette", {}))
    return document | fields | {"vedette": own}


def _process(raw: RawEvent) -> Told:
    details = raw.details
    kind = text(details, "EventType") or "EXEC"
    return Told(
        "process",
        (_PROCESS_TYPES.get(kind, "info"),),
        known(process=_process_fields(details), user=_user(details)),
        {"action": kind.lower()},
    )


def _process_fields(details: Details) -> Fields:
    path = text(details, "Executable")
    return known(
        pid=number(details.get("ProcessId")),
        executable=path,
        name=base_name(path),
        command_line=text(details, "Commandline", "CommandLine"),
        parent=known(pid=number(details.get("ParentProcessId")) or None),
        exit_code=number(details.get("ExitStatus")),
    )


def _user(details: Details) -> Fields:
    return user(text(details, "UserName"), text(details, "UserId"))


def _network(raw: RawEvent) -> Told:
    """A flow; its source is who opened it, by what the agent says or by the ports."""
    details = raw.details
    local = end(
        text(details, "LocalAddress"), details.get("LocalPort"), bytes=number(details.get("BytesOut"))
    )
    more = inner(details, "ExtendedProperties")
    remote = end(
        text(details, "RemoteAddress"),
        details.get("RemotePort"),
        bytes=number(details.get("BytesIn")),
        domain=text(more, "HostName", "TlsServerName"),
    )
    stated = text(details, "Direction")
    outbound = stated == "Out" if stated else local.get("port", 0) > remote.get("port", 0)
    source, destination = (local, remote) if outbound else (remote, local)
    ip = local.get("ip", "")
    network = known(
        transport=text(details, "Protocol").lower(),
        protocol=text(details, "ApplicationProtocol").lower(),
        type=("ipv6" if ":" in ip else "ipv4") if ip else None,
        direction="egress" if outbound else "ingress",
        bytes=local.get("bytes", 0) + remote.get("bytes", 0),
        packets=raw.hits if raw.name == "NetworkActivity" else None,
    )
    process = known(
        pid=number(details.get("ProcessId")), command_line=text(details, "Commandline", "CommandLine")
    )
    fields = known(
        source=source, destination=destination, network=network, process=process, user=_user(details)
    )
    return Told("network", ("connection",), fields)


def _dns(raw: RawEvent) -> Told:
    details = raw.details
    answers = texts(details, "Answers")
    return Told(
        "network",
        ("protocol", "info"),
        known(
            dns=known(
                type="answer",
                question=known(name=text(details, "QueryName"), type=text(details, "QueryType")),
                response_code=text(details, "ResponseCode"),
                answers=[{"data": answer} for answer in answers],
                resolved_ip=[ip for ip in map(address, answers) if ip],
            ),
            network={"protocol": "dns"},
            destination=end(text(details, "RespondingServer")),
        ),
    )


def _login(raw: RawEvent) -> Told:
    details = raw.details
    operation = text(details, "Operation")
    remote = text(details, "RemoteAddress")
    return Told(
        "authentication",
        ("end" if operation == "Logout" else "start",),
        known(
            user=_user(details),
            source=end("" if remote == _LOCAL else remote),
            process=known(pid=number(details.get("ProcessId")) or None),
            vedette=known(terminal=text(details, "Executable")),
        ),
        known(action=operation, outcome="failure" if operation == "LoginFailed" else "success"),
    )


def _file(raw: RawEvent) -> Told:
    details = raw.details
    path, what = text(details, "TargetPath", "Path"), text(details, "Mask")
    moved_from = text(details, "Path") if text(details, "TargetPath") else None
    return Told(
        "file",
        (_FILE_TYPES.get(what, "info"),),
        known(
            file=known(path=path, name=base_name(path), directory=path.rpartition("/")[0]),
            vedette=known(moved_from=moved_from),
        ),
        known(action=what),
    )


def _peripheral(raw: RawEvent) -> Told:
    details = raw.details
    device = known(
        id=":".join(filter(None, (text(details, "VendorId"), text(details, "ProductId")))),
        manufacturer=text(details, "VendorName"),
        model=known(name=text(details, "ProductName")),
    )
    return Told(
        "host",
        ("start" if text(details, "ActionType") == "Connection" else "end",),
        known(device=device, vedette=known(interface=text(details, "InterfaceName"))),
        known(action=text(details, "ActionType")),
    )


def _system(raw: RawEvent) -> Told:
    details = raw.details
    addresses = [row for nic in items(details, "Nics") for row in items(nic, "Info")]
    ips = [text(row, name).partition("/")[0] for row in addresses for name in ("Ipv4Address", "Ipv6Address")]
    host = known(
        architecture=text(details, "OsArch"),
        os=known(
            type="linux" if text(details, "OsPlatform") in ("", "Linux") else None,
            name=text(details, "OsDist", "OSName"),
            full=text(details, "OsVersion", "OSVersion"),
            kernel=text(details, "Kernel"),
        ),
        ip=[ip for ip in map(address, ips) if ip],
        mac=[mac.replace(":", "-").upper() for row in addresses if (mac := text(row, "Mac"))],
    )
    hardware = known(
        manufacturer=text(details, "HardwareVendor"),
        model=known(name=text(details, "HardwareModel")),
        id=text(details, "HardwareSerialNumber"),
    )
    return Told("host", ("info",), known(host=host, device=hardware))


def _software(raw: RawEvent) -> Told:
    """A list of packages is no package: below `vedette`, each with the schema's names."""
    names = ("Name", "Version", "Architecture", "Purl")
    packages = [
        known(**{name.lower(): text(package, name) for name in names})
        for package in items(raw.details, "Packages")
    ]
    return Told("package", ("info",), known(vedette=known(packages=packages)))


def _configuration(raw: RawEvent) -> Told:
    """A check or the state of something; EventDetails are in `event.original`."""
    details = raw.details
    result = text(details, "BaselineCheckResult", "Result").upper()
    outcome = {"PASS": "success", "FAIL": "failure"}.get(result)
    rule = known(
        id=text(details, "BaselineCheckId", "CceId"),
        description=text(details, "BaselineCheckDescription", "Description"),
    )
    return Told("configuration", ("info",), known(rule=rule), known(outcome=outcome))


def _other(raw: RawEvent) -> Told:
    return Told("host", ("info",), known(vedette=known(details=dict(raw.details))))


_TYPES: dict[str, Callable[[RawEvent], Told]] = {
    "Process": _process,
    "ProcessCreate": _process,
    "NetworkActivity": _network,
    "ConnectionCreate": _network,
    "DNS": _dns,
    "Login": _login,
    "FileSystem": _file,
    "Peripheral": _peripheral,
    "SBoM": _software,
    "SystemInformation": _system,
    "Baseline": _configuration,
    "OSBaseline": _configuration,
    "ListeningPorts": _configuration,
    "LocalUsers": _configuration,
    "FirewallConfiguration": _configuration,
    "ConnectedHardware": _configuration,
}
"""Event → what it tells in ECS."""
