"""OCSF, version 1.7.0: raw events.

An event type that the schema has a class for is that class; the others are Device Config State (5002) or Base
Event (0), with EventDetails in `unmapped`. `count` is the hit count, `start_time` and `end_time` the window;
`raw_data` holds EventDetails as they were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vedette.hub.formats.ocsf import SEVERITIES, base, endpoint
from vedette.hub.formats.values import RawEvent, address, base_name, known, millis, number

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
    kind = details.get("EventType", "EXEC")
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
    signal = details.get("ExitSignal")
    return f"ended by signal {signal}" if signal is not None else ""


def _named_process(raw: RawEvent) -> Fields:
    details = raw.details
    path = str(details.get("Executable") or "")
    return known(
        pid=number(details.get("ProcessId")),
        uid=raw.id,
        name=base_name(path),
        cmd_line=details.get("Commandline") or details.get("CommandLine"),
        file=_file_object(path) if path else None,
    )


def _user(details: Details) -> Fields:
    uid = details.get("UserId")
    return known(name=details.get("UserName"), uid=None if uid is None else str(uid))


def _network(raw: RawEvent) -> Told:
    """A flow. Who opened it is told by the classic agent, for the others guessed from the ports."""
    details = raw.details
    stated = details.get("Direction")
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
                protocol_name=str(details.get("Protocol") or "").lower(),
                protocol_ver_id=(6 if ":" in ip else 4) if ip else None,
            ),
            traffic=known(bytes_out=sent[0], bytes_in=sent[1], packets=_packets(raw)),
            app_name=details.get("ApplicationProtocol"),
            actor=_owner(raw),
        ),
    )


def _packets(raw: RawEvent) -> int | None:
    """The hits of our own flows are packets; those of the classic agent are connections."""
    return raw.hits if raw.name == "NetworkActivity" else None


def _opened_here(details: Details) -> bool:
    return (number(details.get("LocalPort")) or 0) > (number(details.get("RemotePort")) or 0)


def _remote_name(details: Details) -> str:
    more = details.get("ExtendedProperties") or {}
    return str(more.get("HostName") or more.get("TlsServerName") or "")


def _owner(raw: RawEvent) -> Fields:
    """The process that the socket belongs to, where that is known."""
    pid = number(raw.details.get("ProcessId"))
    line = raw.details.get("Commandline") or raw.details.get("CommandLine")
    process = known(pid=pid, cmd_line=line) if pid is not None else {}
    return known(process=process, user=_user(raw.details))


def _dns(raw: RawEvent) -> Told:
    details = raw.details
    code = str(details.get("ResponseCode") or "")
    return Told(
        2,
        known(
            query=known(hostname=details.get("QueryName") or ".", type=details.get("QueryType")),
            answers=[{"rdata": str(answer)} for answer in details.get("Answers") or ()],
            rcode=code,
            rcode_id=_RCODES.get(code, OTHER),
            dst_endpoint=endpoint(details.get("RespondingServer")) or {"name": "Unknown"},
        ),
    )


def _login(raw: RawEvent) -> Told:
    details = raw.details
    operation = details.get("Operation")
    remote = str(details.get("RemoteAddress") or "")
    source = "" if remote == _LOCAL else remote
    failed = operation == "LoginFailed"
    return Told(
        2 if operation == "Logout" else 1,
        known(
            user=_user(details) or {"name": "Unknown"},
            src_endpoint=endpoint(source, hostname=None if address(source) else source),
            dst_endpoint={"uid": raw.device},
            is_remote=bool(source),
            session=known(terminal=details.get("Executable")),
            logon_process=known(pid=number(details.get("ProcessId")) or None),
            status_id=_FAILURE if failed else _SUCCESS,
            status="Failure" if failed else "Success",
        ),
    )


def _file(raw: RawEvent) -> Told:
    details = raw.details
    target = details.get("TargetPath")
    return Told(
        _FILE_ACTIVITIES.get(str(details.get("Mask")), OTHER),
        known(
            actor=_UNKNOWN_ACTOR,
            file=_file_object(str(details.get("Path") or "Unknown")),
            file_result=_file_object(str(target)) if target else None,
            activity_name=details.get("Mask"),
        ),
    )


def _file_object(path: str) -> Fields:
    return {"name": base_name(path), "path": path, "type_id": 0}


def _peripheral(raw: RawEvent) -> Told:
    details = raw.details
    ids = known(vendor=details.get("VendorId"), product=details.get("ProductId"))
    name = details.get("ProductName") or details.get("InterfaceName") or ":".join(ids.values())
    return Told(
        1 if details.get("ActionType") == "Connection" else 2,
        {
            "actor": {"app_name": "kernel"},
            "peripheral_device": known(
                name=name or "Unknown",
                uid=":".join(ids.values()),
                vendor_name=details.get("VendorName"),
                vendor_id_list=[ids["vendor"]] if "vendor" in ids else None,
                type_id=OTHER,
                type=details.get("PeripheralType"),
            ),
        },
    )


def _software(raw: RawEvent) -> Told:
    """All packages of a snapshot's part as components of the device's software."""
    packages = raw.details.get("Packages") or ()
    snapshot = str(raw.details.get("SnapshotId") or "0")
    return Told(
        _COLLECT,
        {
            "sbom": known(uid=snapshot)
            | {
                "package": {"name": raw.device, "version": snapshot},
                "software_components": [_component(package) for package in packages],
            }
        },
    )


def _component(package: Details) -> Fields:
    return {
        "name": package.get("Name") or "Unknown",
        "version": package.get("Version") or "",
        **known(purl=package.get("Purl"), author=package.get("Vendor")),
    }


def _system(raw: RawEvent) -> Told:
    details = raw.details
    kernel = details.get("Kernel")
    return Told(
        _COLLECT,
        {},
        known(
            vendor_name=details.get("HardwareVendor"),
            model=details.get("HardwareModel"),
            os=known(
                name=details.get("OsDist") or details.get("OSName") or details.get("OsPlatform") or "Unknown",
                type_id=_LINUX if details.get("OsPlatform", "Linux") == "Linux" else OTHER,
                version=details.get("OsVersion") or details.get("OSVersion"),
                kernel_release=kernel,
            ),
            hw_info=known(
                serial_number=details.get("HardwareSerialNumber"),
                bios_manufacturer=details.get("FirmwareVendor"),
                bios_ver=details.get("FirmwareVersion"),
                cpu_architecture=details.get("OsArch"),
            ),
            network_interfaces=[_interface(nic) for nic in details.get("Nics") or ()],
        ),
    )


def _interface(nic: Details) -> Fields:
    """An interface with the first of its addresses."""
    first: Details = next(iter(nic.get("Info") or ()), {})
    ip = address(str(first.get("Ipv4Address") or first.get("Ipv6Address") or "").partition("/")[0])
    return known(name=nic.get("Name") or "Unknown", mac=first.get("Mac"), ip=ip)


def _ports(raw: RawEvent) -> Told:
    """The open ports of each address, as those of an interface."""
    by_address: dict[str, list[Fields]] = {}
    for port in raw.details.get("Ports") or (raw.details,):
        open_port = known(port=number(port.get("LocalPort")), protocol_name=str(port.get("Protocol")).lower())
        if "port" in open_port:
            by_address.setdefault(str(port.get("LocalAddress") or "Unknown"), []).append(open_port)
    interfaces = [
        known(name=where, ip=address(where), open_ports=ports) for where, ports in by_address.items()
    ]
    return Told(_COLLECT, {}, known(network_interfaces=interfaces))


def _baseline(raw: RawEvent) -> Told:
    details = raw.details
    check = str(details.get("BaselineCheckId") or details.get("CceId") or "Unknown")
    result = str(details.get("BaselineCheckResult") or details.get("Result") or "").upper()
    status_id, status = _CHECKED.get(result, (0, "Unknown"))
    severity = details.get("BaselineCheckSeverity") or details.get("Severity")
    text = str(details.get("BaselineCheckDescription") or details.get("Description") or "")
    return Told(
        1,
        known(
            finding_info=known(uid=f"{raw.device}/{check}", title=text.partition(". ")[0], desc=text),
            compliance=known(
                control=check,
                status_id=status_id,
                status=status,
                standards=["CIS Distribution Independent Linux"],
                status_detail=details.get("BaselineCheckError"),
            ),
            remediation=known(desc=details.get("BaselineCheckRemediation")),
        ),
        severity=_CHECK_SEVERITIES.get(str(severity).capitalize(), 0),
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
