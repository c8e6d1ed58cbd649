"""Alerts of every built-in rule, of its own examples; an event of every type, with little and with much."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec

from vedette.hub.detect import alerts, examples
from vedette.hub.detect.alerts import Alert, Alerts
from vedette.hub.detect.correlate import Correlator
from vedette.hub.detect.history import identity, scratch
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.rules import Rule, load
from vedette.hub.formats import RawEvent
from vedette.hub.posture import Recommendation
from vedette.wire.events import EVENT_TYPES

NOW = examples.NOON
RULES = load()


@functools.cache
def alerts_of_every_rule() -> tuple[Alert, ...]:
    """One alert for each rule, of the first example that fires."""
    with scratch() as database:
        for rule in RULES.rules:
            _act(database, rule)
        return tuple(Alerts(database).list(limit=1_000))


def _act(database: Any, rule: Rule) -> None:
    rules = examples.only(RULES, rule)
    judge, correlator = Judge(rules.selections.values(), examples.lookup(rule)), Correlator(rules)
    steps = examples.steps(rule.examples.fires[0])
    for number, step in enumerate(steps):
        if step.event:  # each rule on a device of its own: alerts of one type do not merge
            event = step.event._replace(device=f"{rule.id}-{step.event.device}", id=f"{rule.id}-{number}")
            steps[number] = step._replace(event=event)
    with database.write.begin() as session:
        session.add_all(identity(device) for device in {step.event.device for step in steps if step.event})
        for at, then in groupby(steps, attrgetter("at")):
            matches = judge.judge([step.event for step in then if step.event])
            findings = correlator.take(session, matches, now=at, fresh_after=0.0)
            alerts.record(session, findings + correlator.due(session, at, up_since=0.0), at)
    judge.close()


def recommendation(**changed: Any) -> Recommendation:
    known = {
        "name": "IoT_CISBenchmarks_5.2.10",
        "device_id": "pump-17",
        "module_id": "agent",
        "title": "Root may not sign in over SSH",
        "severity": "High",
        "description": "sshd lets root in.",
        "remediation": "Set PermitRootLogin no.",
        "state": "Active",
        "first": NOW,
        "discovered": NOW,
        "changed": NOW,
        "resolved": None,
        "evaluated": NOW,
        "updated": NOW,
        "data": {"Evidence": ["PermitRootLogin yes"]},
    }
    return Recommendation(**known | changed)


def raw(name: str, details: dict[str, Any], hits: int = 3) -> RawEvent:
    text = msgspec.json.encode(details).decode()
    return RawEvent(
        id=f"id-{name}",
        device="pump-17",
        module="agent",
        name=name,
        details=details,
        text=text,
        first=NOW,
        end=NOW + 60,
        received=NOW + 61,
        hits=hits,
        agent="1.0",
    )


FULL: dict[str, dict[str, Any]] = {
    "Process": {
        "process_id": 812,
        "parent_process_id": 1,
        "commandline": "sshd -D",
        "executable": "/usr/sbin/sshd",
        "user_name": "root",
        "user_id": 0,
    },
    "NetworkActivity": {
        "local_address": "192.0.2.7",
        "remote_address": "2001:db8::9",
        "local_port": 40_022,
        "remote_port": 443,
        "bytes_in": 500,
        "bytes_out": 90,
        "protocol": "TCP",
        "process_id": 9,
        "user_id": 33,
        "application_protocol": "TLS",
        "commandline": "curl https://example.net",
        "extended_properties": {"host_name": "example.net"},
    },
    "DNS": {
        "query_name": "example.net",
        "query_type": "A",
        "response_code": "NOERROR",
        "responding_server": "192.0.2.53",
        "answers": ["198.51.100.4", "cname.example.net"],
    },
    "Login": {
        "operation": "LoginFailed",
        "process_id": 77,
        "user_name": "root",
        "executable": "ssh:notty",
        "remote_address": "203.0.113.9",
    },
    "FileSystem": {"mask": "Moved", "mask_number": 192, "path": "/etc/a", "target_path": "/etc/b"},
    "Peripheral": {
        "action_type": "Connection",
        "peripheral_type": "USB",
        "vendor_id": "0951",
        "product_id": "1666",
        "vendor_name": "Kingston",
        "product_name": "DataTraveler",
    },
    "SBoM": {
        "snapshot_id": "s1",
        "packages": [
            {"name": "bash", "version": "5.2", "purl": "pkg:deb/debian/bash@5.2", "vendor": "Debian"}
        ],
    },
    "SystemInformation": {
        "hardware_vendor": "ACME",
        "hardware_model": "P1",
        "hardware_serial_number": "1",
        "os_dist": "Debian GNU/Linux",
        "os_version": "Debian GNU/Linux 12",
        "os_arch": "armv7l",
        "kernel": "6.1",
        "agent_version": "1.0",
        "nics": [
            {
                "name": "eth0",
                "type": "ETH",
                "info": [{"ipv4_address": "192.0.2.7/24", "mac": "02:00:00:00:00:01"}],
            }
        ],
    },
    "ListeningPorts": {
        "snapshot_id": "s1",
        "ports": [{"protocol": "TCP", "local_address": "0.0.0.0", "local_port": 22, "user_id": 0}],
    },
    "Baseline": {
        "event_id": "scan",
        "baseline_check_id": "CIS-debian-12-5.2.10",
        "baseline_check_result": "FAIL",
        "baseline_check_description": "Root may not sign in. It is shared.",
        "baseline_check_remediation": "Set PermitRootLogin no.",
        "baseline_check_severity": "Critical",
    },
}
"""Event type → fields of one that says much."""

CLASSIC: dict[str, dict[str, Any]] = {
    "ProcessCreate": {
        "Executable": "/bin/ls",
        "ProcessId": "5",
        "ParentProcessId": "1",
        "UserId": "0",
        "UserName": "root",
        "CommandLine": "ls",
    },
    "ConnectionCreate": {
        "RemoteAddress": "203.0.113.1",
        "RemotePort": "443",
        "LocalAddress": "192.0.2.1",
        "LocalPort": "5000",
        "Direction": "In",
        "Protocol": "tcp",
        "ProcessId": "1",
    },
    "OSBaseline": {"CceId": "CCE-1", "Result": "FAIL", "Severity": "Critical", "Description": "text"},
    "Diagnostic": {"Message": "text", "Severity": "Warning", "ProcessId": "1"},
}


def events_of_every_type() -> Iterator[RawEvent]:
    """Each type as empty as it can be, some full ones, and those of the classic agent."""
    for declared in EVENT_TYPES.values():
        yield raw(declared.name, examples.details(declared.name, {}))
        if declared.name in FULL:
            yield raw(declared.name, examples.details(declared.name, FULL[declared.name]))
    for mask in ("Access", "Closed", "Opened", "Metadata changed", "Created", "Deleted", "Modified"):
        yield raw("FileSystem", {"Mask": mask, "MaskNumber": 1, "Path": "/etc/a"})
    yield raw("Process", {"EventType": "EXIT", "ProcessId": 0, "Executable": "/bin/ls", "ExitStatus": 1})
    yield raw("Login", {"Operation": "Logout", "UserName": "", "RemoteAddress": "laptop.example.net"})
    for name, details in CLASSIC.items():
        yield raw(name, details)
