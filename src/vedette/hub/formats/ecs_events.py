"""ECS, the Elastic Common Schema, version 8.17: raw events.

The schema has no field for how often something was observed: `vedette.hit_count` has it. `event.original`
holds EventDetails as they were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vedette.hub.formats.ecs import base, end, user
from vedette.hub.formats.values import RawEvent, address, base_name, known, number
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
    kind = str(details.get("EventType", "EXEC"))
    return Told(
        "process",
        (_PROCESS_TYPES.get(kind, "info"),),
        known(process=_process_fields(details), user=_user(details)),
        {"action": kind.lower()},
    )


def _process_fields(details: Details) -> Fields:
    path = details.get("Executable")
    return known(
        pid=number(details.get("ProcessId")),
        executable=path,
        name=base_name(path) if path else None,
        command_line=details.get("Commandline") or details.get("CommandLine"),
        parent=known(pid=number(details.get("ParentProcessId")) or None),
        exit_code=number(details.get("ExitStatus")),
    )


def _user(details: Details) -> Fields:
    return user(details.get("UserName"), details.get("UserId"))


def _network(raw: RawEvent) -> Told:
    """A flow; its source is who opened it, by what the agent says or by the ports."""
    details = raw.details
    local = end(details.get("LocalAddress"), details.get("LocalPort"), bytes=number(details.get("BytesOut")))
    more = details.get("ExtendedProperties") or {}
    remote = end(
        details.get("RemoteAddress"),
        details.get("RemotePort"),
        bytes=number(details.get("BytesIn")),
        domain=more.get("HostName") or more.get("TlsServerName"),
    )
    stated = details.get("Direction")
    outbound = stated == "Out" if stated else local.get("port", 0) > remote.get("port", 0)
    source, destination = (local, remote) if outbound else (remote, local)
    ip = local.get("ip", "")
    network = known(
        transport=str(details.get("Protocol") or "").lower(),
        protocol=str(details.get("ApplicationProtocol") or "").lower(),
        type=("ipv6" if ":" in ip else "ipv4") if ip else None,
        direction="egress" if outbound else "ingress",
        bytes=local.get("bytes", 0) + remote.get("bytes", 0),
        packets=raw.hits if raw.name == "NetworkActivity" else None,
    )
    process = known(pid=number(details.get("ProcessId")), command_line=details.get("Commandline"))
    fields = known(
        source=source, destination=destination, network=network, process=process, user=_user(details)
    )
    return Told("network", ("connection",), fields)


def _dns(raw: RawEvent) -> Told:
    details = raw.details
    answers = [str(answer) for answer in details.get("Answers") or ()]
    return Told(
        "network",
        ("protocol", "info"),
        known(
            dns=known(
                type="answer",
                question=known(name=details.get("QueryName"), type=details.get("QueryType")),
                response_code=details.get("ResponseCode"),
                answers=[{"data": answer} for answer in answers],
                resolved_ip=[ip for ip in map(address, answers) if ip],
            ),
            network={"protocol": "dns"},
            destination=end(details.get("RespondingServer")),
        ),
    )


def _login(raw: RawEvent) -> Told:
    details = raw.details
    operation = str(details.get("Operation") or "")
    remote = details.get("RemoteAddress")
    return Told(
        "authentication",
        ("end" if operation == "Logout" else "start",),
        known(
            user=_user(details),
            source=end(None if remote == _LOCAL else remote),
            process=known(pid=number(details.get("ProcessId")) or None),
            vedette=known(terminal=details.get("Executable")),
        ),
        known(action=operation, outcome="failure" if operation == "LoginFailed" else "success"),
    )


def _file(raw: RawEvent) -> Told:
    details = raw.details
    path = str(details.get("TargetPath") or details.get("Path") or "")
    moved_from = details.get("Path") if details.get("TargetPath") else None
    return Told(
        "file",
        (_FILE_TYPES.get(str(details.get("Mask")), "info"),),
        known(
            file=known(path=path, name=base_name(path), directory=path.rpartition("/")[0]),
            vedette=known(moved_from=moved_from),
        ),
        known(action=details.get("Mask")),
    )


def _peripheral(raw: RawEvent) -> Told:
    details = raw.details
    device = known(
        id=":".join(known(vendor=details.get("VendorId"), product=details.get("ProductId")).values()),
        manufacturer=details.get("VendorName"),
        model=known(name=details.get("ProductName")),
    )
    return Told(
        "host",
        ("start" if details.get("ActionType") == "Connection" else "end",),
        known(device=device, vedette=known(interface=details.get("InterfaceName"))),
        known(action=details.get("ActionType")),
    )


def _system(raw: RawEvent) -> Told:
    details = raw.details
    addresses = [row for nic in details.get("Nics") or () for row in nic.get("Info") or ()]
    texts = [row.get(name) for row in addresses for name in ("Ipv4Address", "Ipv6Address")]
    host = known(
        architecture=details.get("OsArch"),
        os=known(
            type="linux" if details.get("OsPlatform", "Linux") == "Linux" else None,
            name=details.get("OsDist") or details.get("OSName"),
            full=details.get("OsVersion") or details.get("OSVersion"),
            kernel=details.get("Kernel"),
        ),
        ip=[ip for text in texts if (ip := address(str(text).partition("/")[0]))],
        mac=[row["Mac"].replace(":", "-").upper() for row in addresses if row.get("Mac")],
    )
    hardware = known(
        manufacturer=details.get("HardwareVendor"),
        model=known(name=details.get("HardwareModel")),
        id=details.get("HardwareSerialNumber"),
    )
    return Told("host", ("info",), known(host=host, device=hardware))


def _software(raw: RawEvent) -> Told:
    """A list of packages is no package: below `vedette`, each with the schema's names."""
    packages = [
        known(
            name=package.get("Name"),
            version=package.get("Version"),
            architecture=package.get("Architecture"),
            purl=package.get("Purl"),
        )
        for package in raw.details.get("Packages") or ()
    ]
    return Told("package", ("info",), known(vedette=known(packages=packages)))


def _configuration(raw: RawEvent) -> Told:
    """A check or the state of something; EventDetails are in `event.original`."""
    details = raw.details
    result = str(details.get("BaselineCheckResult") or details.get("Result") or "").upper()
    outcome = {"PASS": "success", "FAIL": "failure"}.get(result)
    rule = known(
        id=details.get("BaselineCheckId") or details.get("CceId"),
        description=details.get("BaselineCheckDescription") or details.get("Description"),
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
