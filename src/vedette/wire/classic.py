"""Settings of the classic agent (module `azureiotsecurity`, 2018-2021), whose twin we understand as well.

They stand in one object of the desired properties, every one as `{"value": …}`, times as ISO 8601 durations.
The object is judged as a whole: with one wrong value it is ignored, and the running configuration stays.
`ClassicSettings.settings` is what they mean for our collectors. Its messages are in `wire.classic_events`.

Source of names, types and defaults: that agent's documentation and public twin schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from vedette.wire.declare import doc
from vedette.wire.twin import InvalidSettings, Settings, bounded, short

OBJECT = "ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration"
"""Key of the desired and reported properties under which its settings stand."""

MESSAGE_SIZE = "maxMessageSizeInBytes"

MARKS = ("$", "__")
"""What keys of a twin begin with that are no settings: versions, metadata, component marks."""

_DURATION = re.compile(
    r"P(?=.)(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?",
    re.ASCII,
)
_SECONDS = {"weeks": 604_800, "days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}

MIN_DURATION_S = 1.0
MAX_DURATION_S = 31_622_400.0
"""Bounds of an interval: a second, so that a test can be short, and a year."""

MAX_DURATION_CHARS = 64


class ConflictingSettings(InvalidSettings):
    """Every setting is right by itself, but two of them contradict each other."""


class Level(StrEnum):
    """With which of the two kinds of messages an event goes; Off: not at all."""

    HIGH = "High"
    LOW = "Low"
    OFF = "Off"


def seconds_of(duration: str) -> float:
    """An ISO 8601 duration in seconds. Raises ValueError; years and months have no length."""
    match = _DURATION.fullmatch(duration) if len(duration) <= MAX_DURATION_CHARS else None
    if match is None:
        raise ValueError('not an ISO 8601 duration of weeks, days and time, as in "PT1H30M"')
    seconds = sum(float(value) * _SECONDS[unit] for unit, value in match.groupdict().items() if value)
    if not MIN_DURATION_S <= seconds <= MAX_DURATION_S:
        raise ValueError("must be from PT1S to P366D")
    return seconds


def _priority(event: str) -> msgspec.Meta:
    return doc(f"Priority of {event}; Off: none are sent.")


def _switch(events: str) -> msgspec.Meta:
    return doc(f"Whether identical {events} become one with a hit count.")


def _interval(events: str) -> msgspec.Meta:
    return doc(f"How long {events} are aggregated before they wait for the next message of their priority.")


class ClassicSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the classic twin can steer. ISO 8601 durations keep the text they came with."""

    high_frequency: Annotated[str, doc("How often High events are sent.")] = msgspec.field(
        default="PT7M", name="highPriorityMessageFrequency"
    )
    low_frequency: Annotated[str, doc("How often Low events are sent.")] = msgspec.field(
        default="PT5H", name="lowPriorityMessageFrequency"
    )
    snapshot_frequency: Annotated[str, doc("How often the state of the device is taken.")] = msgspec.field(
        default="PT13H", name="snapshotFrequency"
    )
    cache_bytes: Annotated[int, bounded("Events and messages kept unsent.", 8_193, 2**30, "bytes")] = (
        msgspec.field(default=2_560_000, name="maxLocalCacheSizeInBytes")
    )
    message_bytes: Annotated[int, bounded("Largest message that is made.", 8_192, 262_144, "bytes")] = (
        msgspec.field(default=204_800, name=MESSAGE_SIZE)
    )

    process_create: Annotated[Level, _priority("processes that started")] = msgspec.field(
        default=Level.LOW, name="eventPriorityProcessCreate"
    )
    process_terminate: Annotated[Level, _priority("processes that ended")] = msgspec.field(
        default=Level.LOW, name="eventPriorityProcessTerminate"
    )
    connection_create: Annotated[Level, _priority("connections")] = msgspec.field(
        default=Level.LOW, name="eventPriorityConnectionCreate"
    )
    login: Annotated[Level, _priority("logins")] = msgspec.field(
        default=Level.HIGH, name="eventPriorityLogin"
    )
    listening_ports: Annotated[Level, _priority("listening ports")] = msgspec.field(
        default=Level.HIGH, name="eventPriorityListeningPorts"
    )
    local_users: Annotated[Level, _priority("accounts")] = msgspec.field(
        default=Level.HIGH, name="eventPriorityLocalUsers"
    )
    firewall: Annotated[Level, _priority("firewall rules")] = msgspec.field(
        default=Level.LOW, name="eventPriorityFirewallConfiguration"
    )
    system_information: Annotated[Level, _priority("system information")] = msgspec.field(
        default=Level.LOW, name="eventPrioritySystemInformation"
    )
    hardware: Annotated[Level, _priority("connected hardware")] = msgspec.field(
        default=Level.LOW, name="eventPriorityConnectedHardware"
    )
    baseline: Annotated[Level, _priority("results of the baseline")] = msgspec.field(
        default=Level.LOW, name="eventPriorityOSBaseline"
    )
    diagnostic: Annotated[Level, _priority("the agent's own warnings and errors")] = msgspec.field(
        default=Level.OFF, name="eventPriorityDiagnostic"
    )
    configuration_error: Annotated[Level, _priority("refused settings")] = msgspec.field(
        default=Level.LOW, name="eventPriorityConfigurationError"
    )
    dropped_events: Annotated[Level, _priority("counts of dropped events")] = msgspec.field(
        default=Level.LOW, name="eventPriorityDroppedEventsStatistics"
    )
    message_statistics: Annotated[Level, _priority("counts of messages")] = msgspec.field(
        default=Level.LOW, name="eventPriorityMessageStatistics"
    )

    aggregate_process_create: Annotated[bool, _switch("processes that started")] = msgspec.field(
        default=True, name="aggregationEnabledProcessCreate"
    )
    process_create_interval: Annotated[str, _interval("processes that started")] = msgspec.field(
        default="PT1H", name="aggregationIntervalProcessCreate"
    )
    aggregate_connection_create: Annotated[bool, _switch("connections")] = msgspec.field(
        default=True, name="aggregationEnabledConnectionCreate"
    )
    connection_create_interval: Annotated[str, _interval("connections")] = msgspec.field(
        default="PT1H", name="aggregationIntervalConnectionCreate"
    )
    aggregate_process_terminate: Annotated[bool, _switch("processes that ended")] = msgspec.field(
        default=True, name="aggregationEnabledProcessTerminate"
    )
    process_terminate_interval: Annotated[
        str,
        doc(
            "How long processes that ended are aggregated. Starts and ends are counted together: the shorter"
            " of their intervals holds for both."
        ),
    ] = msgspec.field(default="PT1H", name="aggregationIntervalProcessTerminate")

    @property
    def settings(self) -> Settings:
        """What this means for collectors and outbox. What the classic agent did not know is off.

        Snapshots are taken whole each time; all send intervals are that of the snapshots, since the
        dialect's own timers decide when anything is asked for.
        """
        off = Level.OFF
        minutes = f"{seconds_of(self.snapshot_frequency) / 60:f}"
        return Settings(
            priority_intervals=",".join([minutes] * 3),
            outbox_bytes=self.cache_bytes,
            message_bytes=self.message_bytes,
            process_disabled=self.process_create is off and self.process_terminate is off,
            process_report_exit=self.process_terminate is not off,
            network_disabled=self.connection_create is off,
            login_disabled=self.login is off,
            listening_ports_disabled=self.listening_ports is off,
            listening_ports_full_every=0,
            local_users_disabled=self.local_users is off,
            local_users_full_every=0,
            firewall_disabled=self.firewall is off,
            firewall_full_every=0,
            hardware_disabled=self.hardware is off,
            hardware_full_every=0,
            system_information_disabled=self.system_information is off,
            baseline_disabled=self.baseline is off,
            log_disabled=self.diagnostic is off,
            statistics_disabled=self.dropped_events is off and self.message_statistics is off,
            dns_disabled=True,
            filesystem_disabled=True,
            heartbeat_disabled=True,
            peripheral_disabled=True,
            sbom_disabled=True,
        )

    @property
    def process_interval(self) -> float:
        """Seconds after which processes are asked for: when the first kind of their events needs it."""
        kinds = (
            (self.process_create, self.aggregate_process_create, self.process_create_interval),
            (self.process_terminate, self.aggregate_process_terminate, self.process_terminate_interval),
        )
        by_level = {Level.HIGH: self.high_frequency, Level.LOW: self.low_frequency}
        wanted = [kind for kind in kinds if kind[0] is not Level.OFF]
        needs = [interval if merged else by_level[level] for level, merged, interval in wanted]
        return min(map(seconds_of, needs or [self.low_frequency]))

    def document(self) -> dict[str, Any]:
        """Every setting in the form of the twin."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {OBJECT: {key: {"value": value} for key, value in plain.items()}}


_FIELDS = {info.encode_name: info for info in msgspec.structs.fields(ClassicSettings)}
_DURATIONS = {key for key in _FIELDS if key.endswith("Frequency") or key.startswith("aggregationInterval")}


def classic_from(desired: Mapping[str, Any]) -> ClassicSettings:
    """Settings from the desired properties; what they do not name, or name as null, has its default.

    Raises InvalidSettings with every wrong setting.
    """
    given = desired.get(OBJECT)
    if not isinstance(given, dict):
        if given is None:
            return ClassicSettings()
        raise InvalidSettings({OBJECT: "not an object of settings"})
    entries = {key: entry for key, entry in given.items() if not key.startswith(MARKS) and entry is not None}
    wrong = {key: why for key, entry in entries.items() if (why := _invalid(key, entry))}
    if wrong:
        raise InvalidSettings(dict(sorted(wrong.items())))
    settings = msgspec.convert({key: entry["value"] for key, entry in entries.items()}, ClassicSettings)
    if seconds_of(settings.high_frequency) > seconds_of(settings.low_frequency):
        raise ConflictingSettings({"highPriorityMessageFrequency": "longer than lowPriorityMessageFrequency"})
    if settings.message_bytes > settings.cache_bytes:
        raise ConflictingSettings({MESSAGE_SIZE: "larger than maxLocalCacheSizeInBytes"})
    return settings


def _invalid(key: str, entry: object) -> str | None:
    """Why an entry may not stand under a key; None if it may."""
    if key not in _FIELDS:
        return "unknown setting"
    if not isinstance(entry, dict) or "value" not in entry:
        return 'not in the form {"value": …}'
    try:
        value = msgspec.convert(entry["value"], _FIELDS[key].type)
        if key in _DURATIONS:
            seconds_of(value)
    except ValueError as error:
        return short(error)
    return None
