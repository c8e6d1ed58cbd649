"""Event types, each declared once: fields with unit and meaning, identity, category, table.

Everything else is derived from these declarations: the message schema (`wire.message`), the generated
reference page, the aggregation identity (`agent.aggregate`) and the hub's tables (`hub.lake`). How an
event is collected does not live here; how one is declared is in `wire.declare`.

To add an event type, declare a `Payload` subclass under `@event_type`; nothing else has to change for
it to travel from a collector to a query.

Sources of the facts: the documentation of the retired micro agent (field names, identities) and the
public RTOS agent schema (field types); see docs/reference/events.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from vedette.wire.declare import (
    COMMON_DETAILS,
    EVENT_TYPES,
    Category,
    Event,
    EventType,
    Kind,
    Payload,
    UInt,
    describe,
    doc,
    event_type,
    pascal,
    type_of,
    utc_text,
)
from vedette.wire.filesystem import Word

__all__ = [
    "BY_HUB",
    "COMMON_DETAILS",
    "DNS",
    "EVENT_TYPES",
    "Baseline",
    "Category",
    "ConnectedHardware",
    "Event",
    "EventType",
    "ExtendedProperties",
    "FileSystem",
    "FirewallConfiguration",
    "FirewallRule",
    "Gap",
    "HardwareDevice",
    "Heartbeat",
    "HubOperation",
    "Kind",
    "ListeningPort",
    "ListeningPorts",
    "LocalUser",
    "LocalUsers",
    "Log",
    "Login",
    "NetworkActivity",
    "Nic",
    "NicAddress",
    "Outcome",
    "Package",
    "Payload",
    "Peripheral",
    "Process",
    "SBoM",
    "Snapshot",
    "Statistics",
    "SystemInformation",
    "UInt",
    "describe",
    "doc",
    "event_type",
    "pascal",
    "type_of",
    "utc_text",
]


@event_type("Process", category=Category.TRIGGERED, identity=("event_type", "commandline", "user_id"))
class Process(Payload, frozen=True, kw_only=True):
    """A command line that a user ran, and how often.

    Counted once an execution (`EXEC`), or once a child that never executed anything (`FORK`). With
    `Process_ReportExit` also once an end (`EXIT`), which is told by executable and exit status alone.
    """

    event_type: Annotated[
        Literal["FORK", "EXEC", "EXIT"],
        doc(
            "EXEC: a program was executed. FORK: a child ran on under the command line it inherited. "
            "EXIT: a process ended."
        ),
    ]
    process_id: Annotated[UInt, doc("Process id of the first observation, in the initial namespace.")]
    parent_process_id: Annotated[UInt, doc("Its parent; 0 where it is not known.")]
    commandline: Annotated[
        str,
        doc(
            "The arguments, quoted as a POSIX shell would need them; bytes that are not UTF-8 as \\xNN; "
            "secrets as REDACTED. Empty for EXIT."
        ),
    ]
    executable: Annotated[str, doc("Path as given to execve; empty where it could not be read.")] = ""
    user_name: Annotated[str, doc("Name of user_id in the device's passwd; empty if it has none.")] = ""
    user_id: Annotated[UInt, doc("Real user id of the caller, as the initial namespace sees it.")]
    commandline_length: Annotated[
        UInt | None,
        doc("Real length where commandline had to be truncated (at 4,096), else null.", "bytes"),
    ] = None
    masked: Annotated[UInt, doc("Secrets that were masked in commandline (`Process_RedactSecrets`).")] = 0
    exit_status: Annotated[
        UInt | None, doc("EXIT: what the process ended with, 0 to 255. Null: a signal ended it.")
    ] = None
    exit_signal: Annotated[UInt | None, doc("EXIT: number of the signal that ended it, else null.")] = None


class Outcome(msgspec.Struct, frozen=True):
    """How many events met one outcome, and how many observations they stood for."""

    description: Annotated[str, doc("`sent`, or `dropped: ` and the reason.")]
    hit_count: Annotated[UInt, doc("Observations concerned.")]
    events: Annotated[UInt, doc("Aggregated events concerned.")] = 0


@event_type("Statistics", category=Category.PERIODIC, kind=Kind.DIAGNOSTIC)
class Statistics(Payload, frozen=True, kw_only=True):
    """What became of one collector's events in the last cycle: sent, or dropped and why."""

    name: Annotated[str, doc("The collector, or the part of the agent, that is spoken of.")]
    events: Annotated[tuple[Outcome, ...], doc("The outcomes that occurred.")] = ()
    cpu_seconds: Annotated[
        float | None, doc("Processor time in the cycle: of the collector, or of the whole agent.", "seconds")
    ] = None
    resident_bytes: Annotated[UInt | None, doc("Resident memory of the agent now.", "bytes")] = None
    queue_messages: Annotated[UInt | None, doc("Messages in the outbox now.")] = None
    queue_bytes: Annotated[UInt | None, doc("Their size.", "bytes")] = None
    metered_units: Annotated[UInt | None, doc("Metered messages spent in the cycle.")] = None
    shed_seconds: Annotated[
        float | None,
        doc("How long the collector had to rest in the cycle, for `Agent_MaxCpuPercent`.", "seconds"),
    ] = None


@event_type("Gap", category=Category.TRIGGERED, kind=Kind.DIAGNOSTIC)
class Gap(Payload, frozen=True, kw_only=True):
    """Which events are held back from now on because the day's units run short: silence that is meant.

    They are counted on meanwhile, as far as the caches reach, and sent later. No priorities: it is over.
    """

    priorities: Annotated[tuple[str, ...], doc("The priorities that are held back now.")] = ()
    daily_units: Annotated[UInt, doc("The cap in force: `Agent_DailyMessageUnits`.", "messages")]
    spent_units: Annotated[UInt, doc("Metered messages of this day, sent or waiting.", "messages")]


@event_type(
    "Baseline",
    category=Category.PERIODIC,
    details=(
        *COMMON_DETAILS,
        "BaselineCheckId",
        "BaselineCheckResult",
        "BaselineCheckDescription",
        "BaselineCheckRemediation",
        "BaselineCheckSeverity",
        "BaselineCheckError",
        "BaselineCheckGroup",
        "BaselineCheckEvidence",
    ),
)
class Baseline(Payload, frozen=True, kw_only=True):
    """What one check of the security baseline found. All events of a scan have one time and one id."""

    event_id: Annotated[str, doc("Id of the scan.")]
    baseline_check_id: Annotated[str, doc("In CIS form, as in `CIS-debian-12-Filesystem-1.1.2`.")]
    baseline_check_result: Annotated[
        Literal["PASS", "FAIL", "SKIP", "ERROR"],
        doc("SKIP: there is nothing to check on this device. ERROR: the check could not be made."),
    ]
    baseline_check_description: Annotated[str, doc("What the check expects, and why.")]
    baseline_check_remediation: Annotated[str, doc("What to do about it, for FAIL and ERROR.")] = ""
    baseline_check_severity: Annotated[
        Literal["Critical", "Important", "Warning", "Informational"],
        doc("How much a failure matters."),
    ]
    baseline_check_error: Annotated[str, doc("Why there is no verdict, for SKIP and ERROR.")] = ""
    baseline_check_group: Annotated[str, doc("Group of checks, as in `Baseline_GroupsDisabled`.")] = ""
    baseline_check_evidence: Annotated[
        tuple[str, ...], doc("What was read: paths and the lines that matter, never a secret.")
    ] = ()


class NicAddress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of a network interface's addresses; a field is empty where there is no further one."""

    ipv4_address: str = ""
    ipv6_address: str = ""
    mac: str = ""


class Nic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network interface of the device."""

    name: Annotated[str, doc("As the kernel calls it.")]
    type: Annotated[
        Literal["UNKNOWN", "ETH", "WIFI", "MOBILE", "SATELLITE"],
        doc("UNKNOWN: bridges, tunnels and whatever else is not hardware of the other kinds."),
    ]
    vlans: Annotated[tuple[UInt, ...], doc("VLAN ids configured on it.")] = ()
    vendor: Annotated[str, doc("Vendor of the controller; empty where the device cannot tell.")] = ""
    info: Annotated[tuple[NicAddress, ...], doc("Its addresses, those of its VLANs included.")] = ()


@event_type("SystemInformation", category=Category.PERIODIC)
class SystemInformation(Payload, frozen=True, kw_only=True):
    """What the device is: hardware, firmware, operating system, agent, network interfaces."""

    hardware_vendor: Annotated[str, doc("Vendor of the device.")] = ""
    hardware_model: Annotated[str, doc("Model of the device.")] = ""
    hardware_serial_number: Annotated[str, doc("Its serial number.")] = ""
    firmware_vendor: Annotated[str, doc("Vendor of its firmware (BIOS, U-Boot).")] = ""
    firmware_version: Annotated[str, doc("Version of its firmware.")] = ""
    os_dist: Annotated[str, doc("Distribution, as in `Debian GNU/Linux`.")] = ""
    os_version: Annotated[str, doc("Distribution with version, as in `Ubuntu 20.04.1 LTS`.")] = ""
    os_platform: Annotated[str, doc("Operating system.")] = "Linux"
    os_arch: Annotated[str, doc("Machine architecture, as in `x86_64`.")] = ""
    kernel: Annotated[str, doc("Release of the running kernel.")] = ""
    agent_type: Annotated[
        Literal["Standalone", "Edge"], doc("Edge: the device runs the Azure IoT Edge runtime.")
    ] = "Standalone"
    agent_version: Annotated[str, doc("Version of the agent.")]
    nics: Annotated[tuple[Nic, ...], doc("Network interfaces, loopback left out.")] = ()


class Snapshot(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """What every snapshot carries: sent when the state it shows changed, and whole now and then.

    A long one is split: the parts with the same snapshot_id and time belong together.
    """

    snapshot_id: Annotated[str, doc("Digest of the state: equal states have equal ids.")]
    part: Annotated[UInt, doc("Number of this part, from 1.")] = 1
    parts: Annotated[UInt, doc("How many parts the snapshot has.")] = 1


class Package(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An installed package."""

    name: str
    version: str = ""
    vendor: Annotated[str, doc("Maintainer (deb, apk, opkg), Vendor (rpm), Author (Python, Node).")] = ""
    architecture: str = ""
    source: Annotated[str, doc("Source package it was built from; empty if it has the same name.")] = ""
    purl: Annotated[str, doc("Package URL: type, distribution, name, version and architecture in one.")]


@event_type("SBoM", category=Category.PERIODIC)
class SBoM(Snapshot, frozen=True, kw_only=True):
    """The software on the device: all of it, or what changed since an earlier snapshot."""

    previous_id: Annotated[
        str, doc("Snapshot that these changes apply to; empty if all packages are listed.")
    ] = ""
    packages: Annotated[tuple[Package, ...], doc("All packages, or the new and changed ones.")] = ()
    removed: Annotated[tuple[str, ...], doc("Package URLs that are no longer there.")] = ()
    total: Annotated[UInt, doc("Packages installed, over all parts.")] = 0
    notes: Annotated[tuple[str, ...], doc("Package databases that could not be read, and why.")] = ()


class ListeningPort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A socket that waits for peers."""

    protocol: Literal["TCP", "UDP"]
    local_address: Annotated[str, doc("Address it is bound to; `0.0.0.0` or `::` is all of them.")]
    local_port: UInt
    user_id: UInt
    user_name: str = ""
    process_id: Annotated[UInt, doc("A process that holds it; 0 where that could not be seen.")] = 0
    executable: Annotated[str, doc("That process's program; empty where it could not be seen.")] = ""


@event_type("ListeningPorts", category=Category.PERIODIC)
class ListeningPorts(Snapshot, frozen=True, kw_only=True):
    """Every TCP and UDP port that the device listens on."""

    ports: Annotated[tuple[ListeningPort, ...], doc("The ports that this part lists.")] = ()


class LocalUser(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An account of the device's passwd."""

    user_name: str
    user_id: UInt
    group_ids: Annotated[tuple[UInt, ...], doc("Its groups, the primary one first.")] = ()
    group_names: Annotated[tuple[str, ...], doc("Their names, in the same order.")] = ()
    home: str = ""
    shell: str = ""
    password: Annotated[
        Literal["", "set", "locked", "empty"],
        doc("Whether a password opens it; empty text where the agent may not read shadow."),
    ] = ""


@event_type("LocalUsers", category=Category.PERIODIC)
class LocalUsers(Snapshot, frozen=True, kw_only=True):
    """The accounts of the device."""

    users: Annotated[tuple[LocalUser, ...], doc("The accounts that this part lists.")] = ()


class FirewallRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule of the packet filter, or the policy of one of its chains."""

    position: Annotated[UInt, doc("Its place in the listing, from 1: rules are evaluated in this order.")]
    backend: Literal["nftables", "iptables"]
    family: Annotated[str, doc("`inet`, `ip`, `ip6`, `bridge`, `arp` or `netdev`.")]
    table: str
    chain: str
    direction: Annotated[
        Literal["", "In", "Out", "Forward"], doc("Empty for a chain that only others jump to.")
    ] = ""
    policy: Annotated[bool, doc("True: what the chain does with packets that no rule decided on.")] = False
    action: Annotated[str, doc("`accept`, `drop`, `reject`, `jump NAME` …; empty if it only counts.")] = ""
    protocol: str = ""
    source_address: str = ""
    source_port: str = ""
    destination_address: str = ""
    destination_port: str = ""
    text: Annotated[str, doc("The matches that have no field of their own.")] = ""


@event_type("FirewallConfiguration", category=Category.PERIODIC)
class FirewallConfiguration(Snapshot, frozen=True, kw_only=True):
    """The packet filter's chains and rules. No rules at all: nothing is filtered."""

    rules: Annotated[tuple[FirewallRule, ...], doc("The rules and policies that this part lists.")] = ()


class HardwareDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device on the PCI or USB bus."""

    bus: Literal["PCI", "USB"]
    address: Annotated[str, doc("Its place on the bus, as sysfs names it.")]
    vendor_id: Annotated[str, doc("Four hexadecimal digits.")]
    product_id: Annotated[str, doc("Four hexadecimal digits.")]
    device_class: Annotated[str, doc("Class, subclass and protocol: six hexadecimal digits.")] = ""
    vendor: str = ""
    product: str = ""
    serial_number: str = ""
    driver: str = ""


@event_type("ConnectedHardware", category=Category.PERIODIC)
class ConnectedHardware(Snapshot, frozen=True, kw_only=True):
    """The devices on the PCI and USB buses."""

    devices: Annotated[tuple[HardwareDevice, ...], doc("The devices that this part lists.")] = ()


@event_type(
    "HubOperation",
    category=Category.TRIGGERED,
    identity=("operation", "outcome", "reason", "protocol", "remote_address", "identity", "tls"),
)
class HubOperation(Payload, frozen=True, kw_only=True):
    """Something that was done with a device at the hub, or tried. Made by the hub; devices cannot send it.

    It is an event of the device; of `$hub` where no registered device is concerned.
    """

    operation: Annotated[
        Literal["Connect", "TwinUpdate", "MethodInvoke", "MessageToDevice"],
        doc("TwinUpdate: of reported properties by the device, or of the twin by its owner."),
    ]
    outcome: Annotated[Literal["Accepted", "Refused"], doc("Whether it was done.")]
    reason: Annotated[str, doc("Why it was refused, in one of a fixed number of texts.")] = ""
    protocol: Annotated[
        Literal["", "MQTT", "HTTPS"], doc("MQTT: also over WebSocket. HTTPS: the service API.")
    ] = ""
    remote_address: Annotated[str, doc("Where it came from; `*`: from more places than are told apart.")] = ""
    identity: Annotated[
        str, doc("The client id, as in `device/module`; of a refused connect, who it claimed to be.")
    ] = ""
    tls: Annotated[
        str,
        doc("Version and cipher suite of an accepted connect, as in `TLSv1.3 TLS_AES_256_GCM_SHA384`."),
    ] = ""


BY_HUB = frozenset({"HubOperation"})
"""Events that only a hub makes: no device may send them, and they are no sign of life of one."""


@event_type("Heartbeat", category=Category.PERIODIC, kind=Kind.OPERATIONAL)
class Heartbeat(Payload, frozen=True, kw_only=True):
    """The agent is alive."""

    agent_uptime: Annotated[UInt, doc("Since the agent started.", "seconds")]
    system_uptime: Annotated[UInt, doc("Since the kernel started.", "seconds")]
    boot_id: Annotated[str, doc("Changes with every boot.")]
    config_version: Annotated[UInt, doc("`$version` of the twin's desired properties in force; 0: none.")] = 0


@event_type(
    "Log", category=Category.TRIGGERED, kind=Kind.DIAGNOSTIC, identity=("level", "logger", "template")
)
class Log(Payload, frozen=True, kw_only=True):
    """A warning or error of the agent itself, and how often it was logged."""

    level: Annotated[Literal["WARNING", "ERROR", "CRITICAL"], doc("How grave the agent takes it to be.")]
    logger: Annotated[str, doc("The part of the agent that speaks.")]
    template: Annotated[str, doc("The message before its arguments are filled in: what it is told by.")]
    message: Annotated[str, doc("The message as it was first logged.")]
    exception: Annotated[str, doc("Type of the exception it tells of, and where it was raised.")] = ""


@event_type(
    "FileSystem", category=Category.TRIGGERED, identity=("mask", "mask_number", "path", "target_path")
)
class FileSystem(Payload, frozen=True, kw_only=True):
    """What happened to a file or directory under a watched path, and how often."""

    mask: Annotated[Word, doc("What happened.")]
    mask_number: Annotated[
        UInt,
        doc("The same as inotify bits. A move: 0xC0 both ends seen, 0x40 left, 0x80 arrived."),
    ]
    path: Annotated[
        str,
        doc("What it happened to. A move: where it was, or where it arrived if that is all that was seen."),
    ]
    target_path: Annotated[str | None, doc("A move with both ends watched: where it is now. Else null.")] = (
        None
    )


@event_type(
    "Peripheral",
    category=Category.TRIGGERED,
    identity=(
        "action_type",
        "peripheral_type",
        "cause",
        "bus_number",
        "kernel_device_number",
        "interface_name",
        "vendor_id",
        "product_id",
    ),
)
class Peripheral(Payload, frozen=True, kw_only=True):
    """A USB device or an Ethernet link that came or went."""

    action_type: Annotated[Literal["Connection", "Disconnection"], doc("What happened.")]
    peripheral_type: Annotated[Literal["USB", "Ethernet"], doc("What it happened to.")]
    cause: Annotated[
        Literal["device", "carrier"],
        doc("`device`: it appeared or disappeared. `carrier`: an Ethernet link was gained or lost."),
    ] = "device"
    bus_number: Annotated[
        UInt | None, doc("The USB bus; of an Ethernet interface, the USB or PCI bus that its device is on.")
    ] = None
    kernel_device_number: Annotated[
        UInt | None, doc("The kernel's number of a USB device on its bus; new with each connection.")
    ] = None
    device_class: Annotated[UInt | None, doc("USB class; 0: each interface has its own.")] = None
    device_subclass: Annotated[UInt | None, doc("USB subclass, within device_class.")] = None
    device_protocol: Annotated[UInt | None, doc("USB protocol, within device_subclass.")] = None
    interface_class: Annotated[
        UInt | None, doc("Class of the first USB interface, where device_class is 0.")
    ] = None
    interface_subclass: Annotated[UInt | None, doc("Its subclass, within interface_class.")] = None
    interface_protocol: Annotated[UInt | None, doc("Its protocol, within interface_subclass.")] = None
    interfaces: Annotated[
        tuple[str, ...],
        doc("Where device_class is 0: all interfaces as `class/subclass/protocol`, decimal."),
    ] = ()
    vendor_id: Annotated[str, doc("USB: four hexadecimal digits.")] = ""
    product_id: Annotated[str, doc("USB: four hexadecimal digits.")] = ""
    vendor_name: Annotated[str, doc("As the USB device calls it: its word, nobody's proof.")] = ""
    product_name: Annotated[str, doc("As the USB device calls it.")] = ""
    interface_name: Annotated[str, doc("Ethernet: the interface, as in `eth0`.")] = ""


@event_type("Login", category=Category.TRIGGERED)
class Login(Payload, frozen=True, kw_only=True):
    """Somebody signed in, signed out, or tried to and was refused. Every one is its own event.

    The hit count is above 1 only where the source itself tells a number of attempts at once (sudo does).
    """

    operation: Annotated[
        Literal["Login", "Logout", "LoginFailed"],
        doc("LoginFailed: the account was named, and the attempt to become it failed."),
    ]
    process_id: Annotated[UInt, doc("The process that authenticated (sshd, login, su); 0: not known.")] = 0
    user_name: Annotated[
        str,
        doc(
            "The account. `UNKNOWN`: there is none of the name that was typed, and the name is withheld, as "
            "it may be a password (`Login_RedactUnknownUsers`)."
        ),
    ] = ""
    executable: Annotated[
        str,
        doc("The terminal, as in `tty1` or `pts/0`; `ssh:notty`: over SSH without one; empty: not known."),
    ] = ""
    remote_address: Annotated[
        str,
        doc(
            "IPv4 or IPv6 address of the client, a host name where the source has no address; 0.0.0.0: local."
        ),
    ] = ""


class ExtendedProperties(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What else is known of a flow."""

    host_name: Annotated[
        str, doc("Name of the remote address: the one that the device asked a DNS server for.")
    ] = ""
    tls_server_name: Annotated[str, doc("The server that the client asked for in its TLS ClientHello.")] = ""
    delivery: Annotated[
        Literal["", "broadcast", "multicast"],
        doc("Whether packets were sent to many; empty: to one."),
    ] = ""


@event_type(
    "NetworkActivity",
    category=Category.TRIGGERED,
    identity=("local_port", "remote_port", "protocol", "local_address", "remote_address"),
    sums=("bytes_in", "bytes_out"),
    details=(
        *("LocalAddress", "RemoteAddress", "LocalPort", "RemotePort", "BytesIn", "BytesOut", "Protocol"),
        *("ProcessId", "UserId", "ApplicationProtocol", "AzureResourceId", "DeviceId", "MessageSource"),
        *("OriginalEventId", "TimestampUTC", "EventId", "Commandline", "HitCount", "ExtendedProperties"),
    ),
)
class NetworkActivity(Payload, frozen=True, kw_only=True):
    """Packets between a local and a remote address, and how many: the hit count is that of packets.

    Local is this device's end of the flow: the source of what it sends, the target of what it receives.
    """

    local_address: Annotated[str, doc("IPv4 or IPv6 address.")]
    remote_address: Annotated[str, doc("IPv4 or IPv6 address.")]
    local_port: Annotated[UInt, doc("0 where the protocol has no ports.")] = 0
    remote_port: Annotated[UInt, doc("0 where the protocol has no ports.")] = 0
    bytes_in: Annotated[UInt, doc("Received: IP packets with their headers.", "bytes")] = 0
    bytes_out: Annotated[UInt, doc("Sent: IP packets with their headers.", "bytes")] = 0
    protocol: Annotated[
        str, doc("`TCP`, `UDP`, `ICMP`, `ICMPv6`; others by their IANA name, or as in `IP-99`.")
    ]
    process_id: Annotated[
        UInt | None, doc("The process that made the socket, or the listener that accepted; null: not known.")
    ] = None
    user_id: Annotated[UInt | None, doc("Its real user id; null: not known.")] = None
    application_protocol: Annotated[
        str, doc("By first bytes, else by well-known port; empty where neither tells.")
    ] = ""
    commandline: Annotated[
        str,
        doc("Of that process, quoted for a shell; its first 240 bytes if it has ended; empty: not known."),
    ] = ""
    extended_properties: Annotated[ExtendedProperties, doc("What else is known of the flow.")] = (
        ExtendedProperties()
    )


@event_type(
    "DNS",
    category=Category.TRIGGERED,
    identity=("query_name", "query_type", "response_code", "responding_server"),
)
class DNS(Payload, frozen=True, kw_only=True):
    """A name that a DNS server answered for, and how often."""

    query_name: Annotated[str, doc("In lower case, without the final dot; odd bytes as \\DDD.")]
    query_type: Annotated[str, doc("`A`, `AAAA`, `TXT` …, as in `TYPE1234` where it has no name.")]
    response_code: Annotated[str, doc("`NOERROR`, `NXDOMAIN`, `SERVFAIL` …")]
    responding_server: Annotated[str, doc("Address of the server that answered.")]
    answers: Annotated[
        tuple[str, ...], doc("The records of the first answer: addresses, names, texts; at most 16.")
    ] = ()
