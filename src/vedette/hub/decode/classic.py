"""Messages of the classic agent (2018-2021): a JSON envelope of events, each with a list of payload items.

Every item becomes a row of its event's name, with the keys that the agent gave it, so that queries written
for that agent find what they look for. Which of those rows a typed table of ours shows as well is declared
in `SHOWN_AS`. Facts: the public message schema 1.0 and the documented aggregation of that agent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from vedette.hub.decode.reading import MAX_HITS, Decoded, Reading, Unreadable, moment
from vedette.wire.events import COMMON_DETAILS
from vedette.wire.message import MAX_EVENTS, MessageError

EXTRA = "ExtraDetails"
"""Key of an item's texts beyond its fields; the aggregation window and the hit count stand there."""

EVENTS: dict[str, tuple[str, ...]] = {
    "ProcessCreate": ("Executable", "ProcessId", "ParentProcessId", "UserId", "UserName", "CommandLine"),
    "ProcessTerminate": ("Executable", "ProcessId", "ExitStatus"),
    "ConnectionCreate": (
        *("RemoteAddress", "RemotePort", "LocalAddress", "LocalPort", "Direction", "Protocol"),
        *("ProcessId", "UserId", "Executable", "CommandLine"),
    ),
    "OSBaseline": ("CceId", "Result", "Error", "Severity", "Description"),
    "Login": (),
    "LocalUsers": (),
    "ListeningPorts": (),
    "FirewallConfiguration": (),
    "SystemInformation": (),
    "ConnectedHardware": (),
    "Diagnostic": ("Message", "Severity", "ProcessId", "ThreadId", "CorrelationId"),
    "ConfigurationError": ("ConfigurationName", "ErrorType", "Message", "UsedConfiguration"),
    "DroppedEventsStatistics": ("Queue", "CollectedEvents", "DroppedEvents"),
    "MessageStatistics": ("MessagesSent", "TotalFailed", "MessagesUnder4KB"),
}
"""Event → fields of its items, which have no others. Where none are listed, agents differ and items are
taken with whatever keys they have; those events share a table with a declared type."""

INTEGERS = frozenset({"ProcessId", "ParentProcessId", "ExitStatus", "RemotePort", "LocalPort", "ThreadId"})
INTEGERS |= {"CollectedEvents", "DroppedEvents", "MessagesSent", "TotalFailed", "MessagesUnder4KB"}
"""Fields that a table shows as numbers, whichever way the agent wrote them."""

Source = str | dict[str, str]
"""Where a column gets its value from: a key of the item; a text in quotes; or, of a list that our types have
where this agent has one item after the other, the parts of its only entry with their keys."""

SHOWN_AS: dict[str, tuple[str, dict[str, Source]]] = {
    "ProcessCreate": ("Process", {"EventType": "'EXEC'", "Commandline": "CommandLine"}),
    "ProcessTerminate": ("Process", {"EventType": "'EXIT'"}),
    "ConnectionCreate": ("NetworkActivity", {"Commandline": "CommandLine"}),
    "OSBaseline": (
        "Baseline",
        {
            "BaselineCheckId": "CceId",
            "BaselineCheckResult": "Result",
            "BaselineCheckDescription": "Description",
            "BaselineCheckSeverity": "Severity",
            "BaselineCheckError": "Error",
        },
    ),
    "SystemInformation": (
        "SystemInformation",
        {"OsDist": "OSName", "OsVersion": "OSVersion", "OsArch": "OsArchitecture"},
    ),
    "ListeningPorts": (
        "ListeningPorts",
        {"Ports": {"Protocol": "Protocol", "LocalAddress": "LocalAddress", "LocalPort": "LocalPort"}},
    ),
    "LocalUsers": ("LocalUsers", {"Users": {"UserName": "UserName", "UserId": "UserId"}}),
    "FirewallConfiguration": (
        "FirewallConfiguration",
        {
            "Rules": {
                "Chain": "ChainName",
                "Direction": "Direction",
                "Action": "Action",
                "Protocol": "Protocol",
                "SourceAddress": "SourceAddress",
                "SourcePort": "SourcePort",
                "DestinationAddress": "DestinationAddress",
                "DestinationPort": "DestinationPort",
            }
        },
    ),
}
"""Event → the declared type whose table shows it too, and the columns of that which have another key here.
Columns not named have the same key in both, or are null."""

_SOURCE_PORT = {"In": "RemotePort", "Out": "LocalPort"}
_ZEROED = {
    "ProcessCreate": ("ProcessId", "ParentProcessId"),
    "ProcessTerminate": ("ProcessId",),
    "ConnectionCreate": ("ProcessId",),
}
"""What an aggregated event says nothing about any more, shown as 0; of connections also the source port."""


class Envelope(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    """A message. agent_id: a GUID."""

    agent_version: str
    agent_id: str
    message_schema_version: Literal["1.0"]
    events: list[msgspec.Raw]


class Entry(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    """One event of a message. `Aggregated` is what the C agent calls a triggered event with a hit count."""

    event_type: Literal["Security", "Operational", "Diagnostic"]
    category: Literal["Triggered", "Periodic", "Aggregated"]
    name: str
    is_empty: bool
    payload_schema_version: str
    id: str
    timestamp_utc: str = msgspec.field(name="TimestampUTC")
    timestamp_local: str = ""
    payload: list[dict[str, Any]] = []


class _Probe(msgspec.Struct, frozen=True, rename="pascal"):
    message_schema_version: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_probe = msgspec.json.Decoder(_Probe)
_envelope = msgspec.json.Decoder(Envelope)
_entry = msgspec.json.Decoder(Entry)


def is_envelope(body: bytes) -> bool:
    """True if a body without `mti` is of this format: a JSON object with one of the envelope's own keys."""
    try:
        probe = _probe.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return probe.message_schema_version is not msgspec.UNSET or probe.events is not msgspec.UNSET


def decode(body: bytes) -> Decoded:
    """Read a body. Raises MessageError if nothing of it can be understood."""
    try:
        envelope = _envelope.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"classic envelope: {error}") from None
    if len(envelope.events) > MAX_EVENTS:
        raise MessageError(f"Events: {len(envelope.events)} in one message, {MAX_EVENTS} allowed")
    decoded = Decoded(envelope.agent_version, "Linux", [], [])
    index = 0
    for raw in envelope.events:
        try:
            readings = list(_readings(index, _decode_entry(raw)))
        except MessageError as error:
            decoded.unreadable.append(Unreadable(index, str(error), bytes(raw)))
            index += 1
            continue
        decoded.readings.extend(readings)
        index += len(readings)
    return decoded


def _decode_entry(raw: msgspec.Raw) -> Entry:
    try:
        entry = _entry.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"classic event: {error}") from None
    if entry.name not in EVENTS:
        raise MessageError(f"Name: unknown event {entry.name[:64]!r}")
    return entry


def _readings(index: int, entry: Entry) -> Iterator[Reading]:
    """A row for each item; one without facts where there is none. Raises MessageError."""
    for place, item in enumerate(entry.payload or [{}]):
        _check_keys(entry.name, item)
        yield _reading(index + place, entry, item)


def _check_keys(name: str, item: Mapping[str, Any]) -> None:
    known = EVENTS[name]
    for key in item:
        if known and key != EXTRA and key not in known:
            raise MessageError(f"Payload of {name}: unknown field {key[:64]!r}")


def _reading(index: int, entry: Entry, item: dict[str, Any]) -> Reading:
    seen = moment("TimestampUTC", entry.timestamp_utc)
    extra = item.get(EXTRA)
    if not isinstance(extra, dict):
        if extra is not None:
            raise MessageError(f"{EXTRA}: not an object")
        extra = {}
    window = {
        key: moment(key, str(extra[key])) if key in extra else seen for key in ("StartTimeUtc", "EndTimeUtc")
    }
    facts = _zeroed(entry.name, item) if "HitCount" in extra else item
    return Reading(
        index=index,
        id=entry.id,
        name=entry.name,
        category="Periodic" if entry.category == "Periodic" else "Triggered",
        kind=entry.event_type,
        facts=facts,
        keys=(*COMMON_DETAILS, *(key for key in facts if key not in COMMON_DETAILS)),
        first_seen=seen,
        window_start=window["StartTimeUtc"],
        window_end=window["EndTimeUtc"],
        hits=_hits(extra.get("HitCount", 1)),
        empty=entry.is_empty or not item,
    )


def _zeroed(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """An aggregated item, with 0 where its single events differed."""
    fields = _ZEROED.get(name, ())
    if name == "ConnectionCreate" and (port := _SOURCE_PORT.get(str(item.get("Direction")))):
        fields = (*fields, port)
    return item | dict.fromkeys(fields, 0)


def _hits(value: Any) -> int:
    """A hit count: a number from the C agent, text from the C# one. Raises MessageError."""
    try:
        hits = int(value) if isinstance(value, int | str) and len(str(value)) < 20 else -1
    except ValueError:
        hits = -1
    if not 0 <= hits <= MAX_HITS:
        raise MessageError(f"{EXTRA}.HitCount: {str(value)[:32]!r} is not a count")
    return hits
