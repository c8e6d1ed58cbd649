"""The twin settings: one table of name, type, default, bounds and meaning, and its strict validation.

`Settings` is the table. Its fields are what the agent works with; their `name` is the key in the twin;
docs/reference/settings.md and the JSON schema are generated from it. A document is judged as a whole:
one wrong key and nothing of it applies.

Source of names, types and defaults: the documentation of the retired micro agent. `MICRO_AGENT` are the keys
that it had; the others are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal

import msgspec

from vedette.wire.baseline import disabled_checks, disabled_groups
from vedette.wire.events import doc
from vedette.wire.filesystem import chosen_changes, excluded_globs, watched_paths
from vedette.wire.network import AUTO, watched_devices

VERSION_KEY = "$version"
LATEST_STATE = "latest_state"
LATEST_INVALID_FIELDS = "latest_invalid_fields"


class Priority(StrEnum):
    """How soon a collector's events are sent; the intervals are in `CollectorsCore_PriorityIntervals`."""

    HIGH = "High"
    MEDIUM = "Medium"
    LOW = "Low"


class ProcessMode(IntEnum):
    """Which kernel source counts processes. All but AUTO and EBPF are those of the micro agent."""

    AUTO = 1
    NETLINK = 2
    POLLING = 3
    EBPF = 4


class InvalidSettings(ValueError):
    """A document was refused. `fields` holds every wrong key with its reason."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields
        super().__init__("; ".join(f"{key}: {reason}" for key, reason in fields.items()))


def bounded(text: str, low: int, high: int, unit: str = "") -> msgspec.Meta:
    """The annotation of a whole number: its meaning, bounds (inclusive) and unit."""
    return msgspec.Meta(ge=low, le=high, description=text, extra={"unit": unit} if unit else None)


def text(meaning: str) -> msgspec.Meta:
    """The annotation of a free text: its meaning, and the length that the twin allows."""
    return msgspec.Meta(max_length=4096, description=meaning)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the twin can steer, as one immutable value."""

    priority_intervals: Annotated[
        str,
        doc(
            'Send intervals of the priorities as "<High>,<Medium>,<Low>". Each should be a multiple of the '
            "one before. Decimals are allowed, down to 0.01.",
            "minutes",
        ),
    ] = msgspec.field(default="30,120,1440", name="CollectorsCore_PriorityIntervals")
    message_timeout: Annotated[
        int,
        bounded("Age at which a message that could not be sent is dropped.", 1, 525_600, "minutes"),
    ] = msgspec.field(default=2880, name="IothubModule_MessageTimeout")
    outbox_bytes: Annotated[
        int,
        bounded(
            "Unsent messages kept on disk; beyond it the oldest is dropped.", 8_192, 1_073_741_824, "bytes"
        ),
    ] = msgspec.field(default=2_560_000, name="IothubModule_MaxLocalCacheSize")
    message_bytes: Annotated[int, bounded("Largest message that is made.", 8_192, 262_144, "bytes")] = (
        msgspec.field(default=204_800, name="IothubModule_MaxMessageSize")
    )

    daily_units: Annotated[
        int,
        bounded(
            "Metered messages (of 4 KB) sent in a day, UTC; 0: no cap. As they run short, Low gives way "
            "first, then Medium: their events are counted on and sent when there are units again.",
            0,
            1_000_000_000,
            "messages",
        ),
    ] = msgspec.field(default=0, name="Agent_DailyMessageUnits")
    max_cpu: Annotated[
        int,
        bounded(
            "Share of one core that the agent may take, averaged over a minute; 0: no limit. Beyond it the "
            "most expensive collector rests until it is calm again.",
            0,
            6_400,
            "percent",
        ),
    ] = msgspec.field(default=5, name="Agent_MaxCpuPercent")

    process_disabled: Annotated[bool, doc("Switches the process collector off.")] = msgspec.field(
        default=False, name="Process_Disabled"
    )
    process_frequency: Annotated[Priority, doc("Priority of process events.")] = msgspec.field(
        default=Priority.MEDIUM, name="Process_MessageFrequency"
    )
    process_cache_size: Annotated[
        int,
        bounded("Distinct process events kept between two sends.", 1, 65_536, "events"),
    ] = msgspec.field(default=256, name="Process_CacheSize")
    process_overflow: Annotated[
        Literal["drop-oldest", "drop-new"],
        doc("What a full cache does: the oldest event leaves, or nothing new is taken until the next send."),
    ] = msgspec.field(default="drop-oldest", name="Process_OverflowPolicy")
    process_mode: Annotated[
        ProcessMode,
        doc("1 the best source that works, 2 netlink process connector, 3 polling /proc, 4 eBPF only."),
    ] = msgspec.field(default=ProcessMode.AUTO, name="Process_Mode")
    process_polling_interval: Annotated[
        int,
        bounded("Time between two looks at /proc when polling.", 1_000, 60_000_000, "microseconds"),
    ] = msgspec.field(default=100_000, name="Process_PollingInterval")
    process_redact_secrets: Annotated[
        bool,
        doc(
            "Masks well-known password and token arguments, and credentials in URLs, in the command lines "
            "of Process and NetworkActivity events before they are stored."
        ),
    ] = msgspec.field(default=True, name="Process_RedactSecrets")
    process_report_exit: Annotated[
        bool,
        doc("Counts the ends of processes, too, by executable and exit status. Polling cannot see them."),
    ] = msgspec.field(default=False, name="Process_ReportExit")

    statistics_disabled: Annotated[bool, doc("Switches the statistics collector off.")] = msgspec.field(
        default=False, name="Statistics_Disabled"
    )
    statistics_frequency: Annotated[Priority, doc("Priority of statistics.")] = msgspec.field(
        default=Priority.LOW, name="Statistics_MessageFrequency"
    )
    statistics_cache_size: Annotated[
        int,
        bounded("Collectors whose outcomes are kept between two sends.", 1, 65_536, "events"),
    ] = msgspec.field(default=256, name="Statistics_CacheSize")

    system_information_disabled: Annotated[bool, doc("Switches the system information collector off.")] = (
        msgspec.field(default=False, name="SystemInformation_Disabled")
    )
    system_information_frequency: Annotated[Priority, doc("Priority of system information events.")] = (
        msgspec.field(default=Priority.LOW, name="SystemInformation_MessageFrequency")
    )
    system_information_hardware_vendor: Annotated[
        str, text("Vendor of the device, where the device cannot tell it or tells it wrongly.")
    ] = msgspec.field(default="", name="SystemInformation_HardwareVendor")
    system_information_hardware_model: Annotated[
        str, text("Model of the device, where the device cannot tell it or tells it wrongly.")
    ] = msgspec.field(default="", name="SystemInformation_HardwareModel")
    system_information_hardware_serial_number: Annotated[
        str, text("Serial number of the device, where the device cannot tell it or tells it wrongly.")
    ] = msgspec.field(default="", name="SystemInformation_HardwareSerialNumber")
    system_information_firmware_vendor: Annotated[
        str, text("Vendor of its firmware, where the device cannot tell it or tells it wrongly.")
    ] = msgspec.field(default="", name="SystemInformation_FirmwareVendor")
    system_information_firmware_version: Annotated[
        str, text("Version of its firmware, where the device cannot tell it or tells it wrongly.")
    ] = msgspec.field(default="", name="SystemInformation_FirmwareVersion")

    sbom_disabled: Annotated[bool, doc("Switches the software inventory collector off.")] = msgspec.field(
        default=False, name="SBoM_Disabled"
    )
    sbom_frequency: Annotated[Priority, doc("Priority of software inventory events.")] = msgspec.field(
        default=Priority.LOW, name="SBoM_MessageFrequency"
    )
    sbom_full_every: Annotated[
        int,
        bounded("Time after which all packages are listed again, changed or not.", 1, 365, "days"),
    ] = msgspec.field(default=30, name="SBoM_FullEvery")

    listening_ports_disabled: Annotated[bool, doc("Switches the listening ports collector off.")] = (
        msgspec.field(default=False, name="ListeningPorts_Disabled")
    )
    listening_ports_frequency: Annotated[Priority, doc("Priority of listening ports events.")] = (
        msgspec.field(default=Priority.MEDIUM, name="ListeningPorts_MessageFrequency")
    )
    listening_ports_full_every: Annotated[
        int,
        bounded("Time after which the ports are told again, changed or not.", 1, 365, "days"),
    ] = msgspec.field(default=7, name="ListeningPorts_FullEvery")

    local_users_disabled: Annotated[bool, doc("Switches the local users collector off.")] = msgspec.field(
        default=False, name="LocalUsers_Disabled"
    )
    local_users_frequency: Annotated[Priority, doc("Priority of local users events.")] = msgspec.field(
        default=Priority.MEDIUM, name="LocalUsers_MessageFrequency"
    )
    local_users_full_every: Annotated[
        int,
        bounded("Time after which the users are told again, changed or not.", 1, 365, "days"),
    ] = msgspec.field(default=7, name="LocalUsers_FullEvery")

    firewall_disabled: Annotated[bool, doc("Switches the firewall configuration collector off.")] = (
        msgspec.field(default=False, name="FirewallConfiguration_Disabled")
    )
    firewall_frequency: Annotated[Priority, doc("Priority of firewall configuration events.")] = (
        msgspec.field(default=Priority.MEDIUM, name="FirewallConfiguration_MessageFrequency")
    )
    firewall_full_every: Annotated[
        int,
        bounded("Time after which the rules are told again, changed or not.", 1, 365, "days"),
    ] = msgspec.field(default=7, name="FirewallConfiguration_FullEvery")

    hardware_disabled: Annotated[bool, doc("Switches the connected hardware collector off.")] = msgspec.field(
        default=False, name="ConnectedHardware_Disabled"
    )
    hardware_frequency: Annotated[Priority, doc("Priority of connected hardware events.")] = msgspec.field(
        default=Priority.LOW, name="ConnectedHardware_MessageFrequency"
    )
    hardware_full_every: Annotated[
        int,
        bounded("Time after which the devices are told again, changed or not.", 1, 365, "days"),
    ] = msgspec.field(default=7, name="ConnectedHardware_FullEvery")

    heartbeat_disabled: Annotated[bool, doc("Switches the heartbeat collector off.")] = msgspec.field(
        default=False, name="Heartbeat_Disabled"
    )
    heartbeat_frequency: Annotated[Priority, doc("Priority of heartbeat events.")] = msgspec.field(
        default=Priority.LOW, name="Heartbeat_MessageFrequency"
    )

    log_disabled: Annotated[bool, doc("Switches the log collector off.")] = msgspec.field(
        default=False, name="LogCollector_Disabled"
    )
    log_frequency: Annotated[Priority, doc("Priority of log events.")] = msgspec.field(
        default=Priority.LOW, name="LogCollector_MessageFrequency"
    )

    baseline_disabled: Annotated[bool, doc("Switches the baseline collector off.")] = msgspec.field(
        default=False, name="Baseline_Disabled"
    )
    baseline_frequency: Annotated[Priority, doc("Priority of baseline results.")] = msgspec.field(
        default=Priority.LOW, name="Baseline_MessageFrequency"
    )
    baseline_groups_disabled: Annotated[
        str, doc("Groups of checks that are not run, as in `Time Synchronization, Network Parameters Host`.")
    ] = msgspec.field(default="", name="Baseline_GroupsDisabled")
    baseline_checks_disabled: Annotated[
        str, doc("Numbers of checks that are not run, as in `3.3.5,2.2.1.1`.")
    ] = msgspec.field(default="", name="Baseline_ChecksDisabled")
    baseline_results: Annotated[
        Literal["all", "failed"],
        doc("Which results are sent. `failed` leaves passed and skipped checks out; errors are sent."),
    ] = msgspec.field(default="all", name="Baseline_Results")
    baseline_profile: Annotated[
        Literal["device", "server", "full"],
        doc(
            "Which checks apply. `device` skips what a device image cannot or need not follow, `server` what"
            " current server distributions no longer have, `full` nothing."
        ),
    ] = msgspec.field(default="device", name="Baseline_Profile")
    baseline_custom_checks: Annotated[
        str, doc("Path on the device of a YAML file with checks of one's own; empty for none.")
    ] = msgspec.field(default="", name="Baseline_CustomChecks")
    baseline_custom_checks_sha256: Annotated[
        str,
        msgspec.Meta(
            pattern="^([0-9a-fA-F]{64})?$",
            description="SHA-256 that the file of `Baseline_CustomChecks` must have to be used.",
        ),
    ] = msgspec.field(default="", name="Baseline_CustomChecksSha256")
    baseline_one_file_system: Annotated[
        bool, doc("Search for files with risky permissions stays on the root file system.")
    ] = msgspec.field(default=True, name="Baseline_OneFileSystem")
    baseline_cpu_share: Annotated[
        int,
        bounded(
            "Share of one core that a scan may take, on average; at most four fifths of "
            "`Agent_MaxCpuPercent`.",
            1,
            100,
            "percent",
        ),
    ] = msgspec.field(default=10, name="Baseline_CpuShare")

    filesystem_disabled: Annotated[bool, doc("Switches the file system collector off.")] = msgspec.field(
        default=False, name="FileSystem_Disabled"
    )
    filesystem_frequency: Annotated[Priority, doc("Priority of file system events.")] = msgspec.field(
        default=Priority.LOW, name="FileSystem_MessageFrequency"
    )
    filesystem_cache_size: Annotated[
        int, bounded("Distinct file system events kept between two sends.", 1, 65_536, "events")
    ] = msgspec.field(default=256, name="FileSystem_CacheSize")
    filesystem_paths: Annotated[
        str | None,
        doc(
            "Files and directories to watch, as in `/etc,/usr/local/bin`; they need not exist yet. A path "
            "through a symbolic link stands for the link's target; links further down are not followed."
        ),
    ] = msgspec.field(default=None, name="FileSystem_Paths")
    filesystem_recursive: Annotated[bool, doc("Directories below the watched ones are watched too.")] = (
        msgspec.field(default=True, name="FileSystem_Recursive")
    )
    filesystem_exclude: Annotated[
        str | None,
        doc(
            "Globs of what is not watched, as in `*.tmp,/var/log/*`: one with a slash is held against the "
            "whole path, one without against every name in it."
        ),
    ] = msgspec.field(default=None, name="FileSystem_Exclude")
    filesystem_events: Annotated[
        str,
        doc(
            "Which changes are reported, of `created`, `deleted`, `moved`, `modified`, `metadata`, `opened`, "
            "`closed`, `accessed`."
        ),
    ] = msgspec.field(default="created,deleted,moved,modified,metadata", name="FileSystem_Events")

    peripheral_disabled: Annotated[bool, doc("Switches the peripheral collector off.")] = msgspec.field(
        default=False, name="Peripheral_Disabled"
    )
    peripheral_frequency: Annotated[Priority, doc("Priority of peripheral events.")] = msgspec.field(
        default=Priority.LOW, name="Peripheral_MessageFrequency"
    )
    peripheral_cache_size: Annotated[
        int, bounded("Distinct peripheral events kept between two sends.", 1, 65_536, "events")
    ] = msgspec.field(default=256, name="Peripheral_CacheSize")
    peripheral_virtual: Annotated[
        bool,
        doc("Reports Ethernet interfaces without hardware too: veth, bridge, VLAN, tap and the like."),
    ] = msgspec.field(default=False, name="Peripheral_VirtualInterfaces")

    login_disabled: Annotated[bool, doc("Switches the login collector off.")] = msgspec.field(
        default=False, name="Login_Disabled"
    )
    login_frequency: Annotated[Priority, doc("Priority of login events.")] = msgspec.field(
        default=Priority.MEDIUM, name="Login_MessageFrequency"
    )
    login_use_pam: Annotated[
        bool,
        doc("Reads the log of the PAM hook instead of wtmp, btmp and the authentication log."),
    ] = msgspec.field(default=False, name="Login_UsePAM")
    login_redact_unknown: Annotated[
        bool,
        doc(
            "Withholds names of accounts that do not exist in failed logins: a password typed at the prompt "
            "for the name ends up there."
        ),
    ] = msgspec.field(default=True, name="Login_RedactUnknownUsers")

    network_disabled: Annotated[bool, doc("Switches the network activity collector off.")] = msgspec.field(
        default=False, name="NetworkActivity_Disabled"
    )
    network_frequency: Annotated[Priority, doc("Priority of network activity events.")] = msgspec.field(
        default=Priority.MEDIUM, name="NetworkActivity_MessageFrequency"
    )
    network_cache_size: Annotated[
        int, bounded("Distinct network activity events kept between two sends.", 1, 65_536, "events")
    ] = msgspec.field(default=256, name="NetworkActivity_CacheSize")
    network_overflow: Annotated[
        Literal["drop-oldest", "drop-new"],
        doc("What a full cache does: the oldest event leaves, or nothing new is taken until the next send."),
    ] = msgspec.field(default="drop-oldest", name="NetworkActivity_OverflowPolicy")
    network_devices: Annotated[
        str,
        doc(
            "Network devices to watch, as in `eth0,wlan0`; `auto`: all that are up, without loopback. A "
            "device whose packets pass through another watched one is not watched itself."
        ),
    ] = msgspec.field(default=AUTO, name="NetworkActivity_Devices")
    network_buffer: Annotated[
        int,
        bounded(
            "Captured packets of a device that may wait to be read, where the kernel cannot count.",
            65_536,
            67_108_864,
            "bytes",
        ),
    ] = msgspec.field(default=2_097_152, name="NetworkActivity_PacketBufferSize")

    dns_disabled: Annotated[
        bool, doc("Switches DNS events off. There are none without network activity, which sees the answers.")
    ] = msgspec.field(default=False, name="DNS_Disabled")
    dns_frequency: Annotated[Priority, doc("Priority of DNS events.")] = msgspec.field(
        default=Priority.MEDIUM, name="DNS_MessageFrequency"
    )
    dns_cache_size: Annotated[
        int, bounded("Distinct DNS events kept between two sends.", 1, 65_536, "events")
    ] = msgspec.field(default=256, name="DNS_CacheSize")

    @property
    def intervals(self) -> dict[Priority, float]:
        """`priority_intervals` in seconds by priority."""
        minutes = _intervals(self.priority_intervals)
        return {priority: 60 * value for priority, value in zip(Priority, minutes, strict=True)}

    def document(self) -> dict[str, Any]:
        """Every setting under its twin key, as the twin reports it."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


MIN_INTERVAL = 0.01
MAX_INTERVAL = 525_600.0
"""Bounds of a send interval in minutes: 0.6 s so that a demonstration can be live, and a year."""


def _intervals(text: str) -> tuple[float, float, float]:
    try:
        high, medium, low = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError('three numbers are needed, as in "30,120,1440"') from None
    if not all(MIN_INTERVAL <= value <= MAX_INTERVAL for value in (high, medium, low)):
        raise ValueError(f"each interval must be from {MIN_INTERVAL} to {MAX_INTERVAL:.0f} minutes")
    if not high <= medium <= low:
        raise ValueError("High must not be longer than Medium, nor Medium than Low")
    return high, medium, low


_FIELDS = {info.encode_name: info for info in msgspec.structs.fields(Settings)}
KEYS = tuple(_FIELDS)
"""Every twin key, in the order of the table."""

_EVENT_BASED = ("Process", "NetworkActivity", "FileSystem", "Peripheral", "Statistics")
_TRIGGERED = ("Login", "SystemInformation", "Baseline", "SBoM", "Heartbeat", "LogCollector")
_BOARD = ("HardwareVendor", "HardwareModel", "HardwareSerialNumber", "FirmwareVendor", "FirmwareVersion")

MICRO_AGENT = frozenset(
    (
        "CollectorsCore_PriorityIntervals",
        "IothubModule_MessageTimeout",
        *(f"{name}_{key}" for name in _EVENT_BASED + _TRIGGERED for key in ("Disabled", "MessageFrequency")),
        *(f"{name}_CacheSize" for name in _EVENT_BASED),
        *("Process_Mode", "Process_PollingInterval", "Login_UsePAM"),
        *("NetworkActivity_Devices", "NetworkActivity_PacketBufferSize"),
        *("FileSystem_Paths", "FileSystem_Recursive"),
        *("Baseline_GroupsDisabled", "Baseline_ChecksDisabled"),
        *(f"SystemInformation_{fact}" for fact in _BOARD),
    )
)
"""Keys of the documented micro agent, under which its owners' twins go on to work."""

MAX_REASON = 160
MAX_INVALID = 25
"""Characters told of a mistake, and mistakes told of a document: there may be thousands, each with its wrong
value, and a report of more than 32 KB would be refused whole, so that the owner would learn of none."""

_CHECKS: dict[str, Callable[[str], object]] = {
    "CollectorsCore_PriorityIntervals": _intervals,
    "Baseline_GroupsDisabled": disabled_groups,
    "Baseline_ChecksDisabled": disabled_checks,
    "FileSystem_Paths": watched_paths,
    "NetworkActivity_Devices": watched_devices,
    "FileSystem_Exclude": excluded_globs,
    "FileSystem_Events": chosen_changes,
}


def _invalid(key: str, value: object) -> str | None:
    """Why a value may not stand under a key; None if it may."""
    if key not in _FIELDS:
        return "unknown setting"
    try:
        msgspec.convert(value, _FIELDS[key].type)
        if key in _CHECKS:
            _CHECKS[key](str(value))
    except ValueError as error:
        return short(error)
    return None


def short(error: ValueError) -> str:
    """Why a value is wrong, without more of the value than can be told."""
    return str(error).removesuffix(" - at `$`")[:MAX_REASON]


def settings_from(document: Mapping[str, Any], *, onto: Settings | None = None) -> Settings:
    """Settings from a desired document (flat keys; `$version` and the like are ignored).

    Keys that the document does not name keep their value in `onto`, or their default; null returns a key
    to its default. Raises InvalidSettings with every wrong key if there is any.
    """
    given = {key: value for key, value in document.items() if not key.startswith("$")}
    wrong = {key: why for key, value in given.items() if value is not None and (why := _invalid(key, value))}
    wrong |= {key: "unknown setting" for key, value in given.items() if value is None and key not in _FIELDS}
    if wrong:
        raise InvalidSettings(dict(sorted(wrong.items())))
    kept = (onto or Settings()).document() | given
    return msgspec.convert({key: value for key, value in kept.items() if value is not None}, Settings)


def reported_document(settings: Settings, invalid: Mapping[str, str]) -> dict[str, Any]:
    """What the agent reports: the configuration in force and the verdict on the latest change."""
    told = [f"{key[:MAX_REASON]}: {why}" for key, why in sorted(invalid.items())[:MAX_INVALID]]
    if len(invalid) > MAX_INVALID:
        told.append(f"and {len(invalid) - MAX_INVALID} more")
    return settings.document() | {
        LATEST_STATE: "failed" if invalid else "success",
        LATEST_INVALID_FIELDS: told,
    }
