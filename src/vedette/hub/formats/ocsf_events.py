"""OCSF, version 1.7.0: raw events.

An event type that the schema has a class for is that class; the others are Device Config State (5002) or Base
Event (0), with EventDetails in `unmapped`. `count` is the hit count, `start_time` and `end_time` the window;
`raw_data` holds EventDetails as they were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vedette.hub.formats.ocsf import SEVERITIES, base, endpoint
from vedette.hub.formats.values import (
    RawEvent,
    address,
    base_name,
    inner,
    items,
    known,
    millis,
    number,
    text,
    texts,
)

Details = Mapping[str, Any]
Fields = dict[str, Any]

_LOG, _COLLECT = 1, 2
_SUCCESS, _FAILURE = 1, 2
_INBOUND, _OUTBOUND = 1, 2
_LINUX = 200
_LOCAL = "0.0.0.0"  # noqa: S104 - what a login without a remote address says

_FILE_ACTIVITIES = {
    "Created": 1,
    "Access": 2,
    "Modified": 3,
    "Deleted": 4,
    "Moved": 5,
    "Metadata changed": 6,
    "Opened": 14,
}
_RCODES = {
    "NOERROR": 0,
    "FORMERR": 1,
    "SERVFAIL": 2,
    "NXDOMAIN": 3,
    "NOTIMP": 4,
    "REFUSED": 5,
    "YXDOMAIN": 6,
    "YXRRSET": 7,
    "NXRRSET": 8,
    "NOTAUTH": 9,
    "NOTZONE": 10,
}
_CHECKED = {"PASS": (1, "Pass"), "FAIL": (3, "Fail"), "SKIP": (99, "Other"), "ERROR": (0, "Unknown")}
_CHECK_SEVERITIES = {"Critical": 4, "Important": 4, "Warning": 3, "Informational": 1}
OTHER = 99
_UNKNOWN_ACTOR = {"app_name": "Unknown"}
"""The schema requires an actor where the kernel does not tell one."""


class Told(NamedTuple):
    """What an event type tells in the words of a class. device: more of the device itself."""

    activity: int
    fields: Fields
    device: Fields = {}  # noqa: RUF012 - never changed
    severity: int = SEVERITIES["Informational"]


def event(raw: RawEvent) -> dict[str, Any]:
    """An event in OCSF."""
    class_uid, tell = _CLASSES.get(raw.name, (0, _as_is))
    told = tell(raw)
    document = base(
        class_uid,
        told.activity,
        time=raw.first,
        uid=raw.id,
        device=raw.device,
        severity_id=told.severity,
        count=raw.hits,
        start_time=millis(raw.first),
        end_time=millis(raw.end),
        **told.fields,
    )
    if "unmapped" not in document:
        document["raw_data"] = raw.text
    document["metadata"] |= known(log_name=raw.name, logged_time=millis(raw.received))
    document["device"] |= told.device
    return document


def _process(raw: RawEvent) -> Told:
    """A fork and an execution are launches, with the parent as actor; an end is its own."""
    details = raw.details
    kind = text(details, "EventType") or "EXEC"
    user = _user(details)
    parent = known(pid=number(details.get("ParentProcessId")) or None)
    process = _named_process(raw) | known(user=user, parent_process=parent)
    launch = {"FORK": (2, "Fork"), "EXEC": (3, "Exec")}.get(kind)
    return Told(
        1 if launch else 2,
        known(
            actor=known(process=parent, user=user) or _UNKNOWN_ACTOR,
            process=process,
            launch_type_id=launch and launch[0],
            launch_type=launch and launch[1],
            exit_code=number(details.get("ExitStatus")),
            status_detail=_signal(details),
        ),
    )


def _signal(details: Details) -> str:
    signal = text(details, "ExitSignal")
    return f"ended by signal {signal}" if signal else ""


def _named_process(raw: RawEvent) -> Fields:
    details = raw.details
    path = text(details, "Executable")
    return known(
        pid=number(details.get("ProcessId")),
        uid=raw.id,
        name=base_name(path),
        cmd_line=text(details, "Commandline", "CommandLine"),
        file=_file_object(path) if path else None,
    )


def _user(details: Details) -> Fields:
    return known(name=text(details, "UserName"), uid=text(details, "UserId"))


def _network(raw: RawEvent) -> Told:
    """A flow. Who opened it is told by the classic agent, for the others guessed from the ports."""
    details = raw.details
    stated = text(details, "Direction")
    outbound = stated == "Out" if stated else _opened_here(details)
    ends = [
        endpoint(details.get("LocalAddress"), details.get("LocalPort")),
        endpoint(details.get("RemoteAddress"), details.get("RemotePort"), _remote_name(details)),
    ]
    sent = [number(details.get("BytesOut")), number(details.get("BytesIn"))]
    if not outbound:
        ends.reverse()
        sent.reverse()
    ip = address(details.get("LocalAddress")) or ""
    return Told(
        6,
        known(
            src_endpoint=ends[0],
            dst_endpoint=ends[1] or {"name": "Unknown"},
            is_src_dst_assignment_known=bool(stated),
            connection_info=known(
                direction_id=_OUTBOUND if outbound else _INBOUND,
                protocol_name=text(details, "Protocol").lower(),
                protocol_ver_id=(6 if ":" in ip else 4) if ip else None,
            ),
            traffic=known(bytes_out=sent[0], bytes_in=sent[1], packets=_packets(raw)),
            app_name=text(details, "ApplicationProtocol"),
            actor=_owner(raw),
        ),
    )


def _packets(raw: RawEvent) -> int | None:
    """The hits of our own flows are packets; those of the classic agent are connections."""
    return raw.hits if raw.name == "NetworkActivity" else None


def _opened_here(details: Details) -> bool:
    return (number(details.get("LocalPort")) or 0) > (number(details.get("RemotePort")) or 0)


def _remote_name(details: Details) -> str:
    return text(inner(details, "ExtendedProperties"), "HostName", "TlsServerName")


def _owner(raw: RawEvent) -> Fields:
    """The process that the socket belongs to, where that is known."""
    pid = number(raw.details.get("ProcessId"))
    line = text(raw.details, "Commandline", "CommandLine")
    process = known(pid=pid, cmd_line=line) if pid is not None else {}
    return known(process=process, user=_user(raw.details))


def _dns(raw: RawEvent) -> Told:
    details = raw.details
    code = text(details, "ResponseCode")
    return Told(
        2,
        known(
            query=known(hostname=text(details, "QueryName") or ".", type=text(details, "QueryType")),
            answers=[{"rdata": answer} for answer in texts(details, "Answers")],
            rcode=code,
            rcode_id=_RCODES.get(code, OTHER),
            dst_endpoint=endpoint(details.get("RespondingServer")) or {"name": "Unknown"},
        ),
    )


def _login(raw: RawEvent) -> Told:
    details = raw.details
    operation = text(details, "Operation")
    remote = text(details, "RemoteAddress")
    source = "" if remote == _LOCAL else remote
    failed = operation == "LoginFailed"
    return Told(
        2 if operation == "Logout" else 1,
        known(
            user=_user(details) or {"name": "Unknown"},
            src_endpoint=endpoint(source, hostname=None if address(source) else source),
            dst_endpoint={"uid": raw.device},
            is_remote=bool(source),
            session=known(terminal=text(details, "Executable")),
            logon_process=known(pid=number(details.get("ProcessId")) or None),
            status_id=_FAILURE if failed else _SUCCESS,
            status="Failure" if failed else "Success",
        ),
    )


def _file(raw: RawEvent) -> Told:
    details = raw.details
    target, what = text(details, "TargetPath"), text(details, "Mask")
    return Told(
        _FILE_ACTIVITIES.get(what, OTHER),
        known(
            actor=_UNKNOWN_ACTOR,
            file=_file_object(text(details, "Path") or "Unknown"),
            file_result=_file_object(target) if target else None,
            activity_name=what,
        ),
    )


def _file_object(path: str) -> Fields:
    return {"name": base_name(path), "path": path, "type_id": 0}


def _peripheral(raw: RawEvent) -> Told:
    details = raw.details
    ids = known(vendor=text(details, "VendorId"), product=text(details, "ProductId"))
    name = text(details, "ProductName", "InterfaceName") or ":".join(ids.values())
    return Told(
        1 if text(details, "ActionType") == "Connection" else 2,
        {
            "actor": {"app_name": "kernel"},
            "peripheral_device": known(
                name=name or "Unknown",
                uid=":".join(ids.values()),
                vendor_name=text(details, "VendorName"),
                vendor_id_list=[ids["vendor"]] if "vendor" in ids else None,
                type_id=OTHER,
                type=text(details, "PeripheralType"),
            ),
        },
    )


def _software(raw: RawEvent) -> Told:
    """All packages of a snapshot's part as components of the device's software."""
    snapshot = text(raw.details, "SnapshotId") or "0"
    return Told(
        _COLLECT,
        {
            "sbom": known(uid=snapshot)
            | {
                "package": {"name": raw.device, "version": snapshot},
                "software_components": [_component(one) for one in items(raw.details, "Packages")],
            }
        },
    )


def _component(package: Details) -> Fields:
    return {
        "name": text(package, "Name") or "Unknown",
        "version": text(package, "Version"),
        **known(purl=text(package, "Purl"), author=text(package, "Vendor")),
    }


def _system(raw: RawEvent) -> Told:
    details = raw.details
    platform = text(details, "OsPlatform") or "Linux"
    return Told(
        _COLLECT,
        {},
        known(
            vendor_name=text(details, "HardwareVendor"),
            model=text(details, "HardwareModel"),
            os=known(
                name=text(details, "OsDist", "OSName") or platform,
                type_id=_LINUX if platform == "Linux" else OTHER,
                version=text(details, "OsVersion", "OSVersion"),
                kernel_release=text(details, "Kernel"),
            ),
            hw_info=known(
                serial_number=text(details, "HardwareSerialNumber"),
                bios_manufacturer=text(details, "FirmwareVendor"),
                bios_ver=text(details, "FirmwareVersion"),
                cpu_architecture=text(details, "OsArch"),
            ),
            network_interfaces=[_interface(nic) for nic in items(details, "Nics")],
        ),
    )


def _interface(nic: Details) -> Fields:
    """An interface with the first of its addresses."""
    first: Details = next(iter(items(nic, "Info")), {})
    ip = address(text(first, "Ipv4Address", "Ipv6Address").partition("/")[0])
    return known(name=text(nic, "Name") or "Unknown", mac=text(first, "Mac"), ip=ip)


def _ports(raw: RawEvent) -> Told:
    """The open ports of each address, as those of an interface."""
    by_address: dict[str, list[Fields]] = {}
    for port in items(raw.details, "Ports") or (raw.details,):
        open_port = known(port=number(port.get("LocalPort")), protocol_name=text(port, "Protocol").lower())
        if "port" in open_port:
            by_address.setdefault(text(port, "LocalAddress") or "Unknown", []).append(open_port)
    interfaces = [
        known(name=where, ip=address(where), open_ports=ports) for where, ports in by_address.items()
    ]
    return Told(_COLLECT, {}, known(network_interfaces=interfaces))


def _baseline(raw: RawEvent) -> Told:
    details = raw.details
    check = text(details, "BaselineCheckId", "CceId") or "Unknown"
    result = text(details, "BaselineCheckResult", "Result").upper()
    status_id, status = _CHECKED.get(result, (0, "Unknown"))
    severity = text(details, "BaselineCheckSeverity", "Severity").capitalize()
    title = text(details, "BaselineCheckDescription", "Description")
    return Told(
        1,
        known(
            finding_info=known(uid=f"{raw.device}/{check}", title=title.partition(". ")[0], desc=title),
            compliance=known(
                control=check,
                status_id=status_id,
                status=status,
                standards=["CIS Distribution Independent Linux"],
                status_detail=text(details, "BaselineCheckError"),
            ),
            remediation=known(desc=text(details, "BaselineCheckRemediation")),
        ),
        severity=_CHECK_SEVERITIES.get(severity, 0),
    )


def _as_is(raw: RawEvent) -> Told:
    """What the schema has no words for."""
    return Told(0, {"message": raw.name, "unmapped": dict(raw.details)})


def _state(raw: RawEvent) -> Told:
    """The state of something about the device."""
    return Told(_COLLECT, {"message": raw.name, "unmapped": dict(raw.details)})


_CLASSES: dict[str, tuple[int, Callable[[RawEvent], Told]]] = {
    "Process": (1007, _process),
    "ProcessCreate": (1007, _process),
    "NetworkActivity": (4001, _network),
    "ConnectionCreate": (4001, _network),
    "DNS": (4003, _dns),
    "Login": (3002, _login),
    "FileSystem": (1001, _file),
    "Peripheral": (1010, _peripheral),
    "SBoM": (5020, _software),
    "SystemInformation": (5001, _system),
    "ListeningPorts": (5001, _ports),
    "Baseline": (2003, _baseline),
    "OSBaseline": (2003, _baseline),
    "LocalUsers": (5002, _state),
    "FirewallConfiguration": (5002, _state),
    "ConnectedHardware": (5002, _state),
}
"""Event → class of OCSF, and what the event tells in it."""
