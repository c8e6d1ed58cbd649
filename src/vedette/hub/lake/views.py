"""What questions may name: the tables, their columns, and the views over `raw_events` in an engine's SQL.

Engines differ in how they read JSON and in what they call types; a `Dialect` says how. Rows of the tables
that are kept outside the lake are handed in by whoever asks (`Lake(beside=…)`).
"""

from __future__ import annotations

import types
import typing
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from vedette.hub.decode import classic
from vedette.hub.lake.tables import RAW_EVENTS, TABLES
from vedette.wire.events import EVENT_TYPES, EventType, pascal

Columns = Mapping[str, str]
"""Name → SQL type, in order, in DuckDB's words. JSON: a dynamic value."""

_Source = tuple[str, classic.Source]
"""An event of the classic agent, and where in it a column gets its value from."""

SQL_TYPES: Mapping[type, str] = {
    str: "VARCHAR",
    bytes: "BLOB",
    bool: "BOOLEAN",
    int: "BIGINT",
    float: "DOUBLE",
    datetime: "TIMESTAMP",
    date: "DATE",
}


def _columns(text: str) -> Columns:
    words = (part.split() for part in text.split(","))
    return {name: kind for name, kind in words}  # noqa: C416 - says what the two are


ALERT_COLUMNS = _columns("""
    AlertLink VARCHAR, AlertName VARCHAR, AlertSeverity VARCHAR, AlertType VARCHAR, CompromisedEntity VARCHAR,
    ConfidenceLevel VARCHAR, ConfidenceScore DOUBLE, Description VARCHAR, DisplayName VARCHAR,
    EndTime TIMESTAMP, Entities VARCHAR, ExtendedLinks VARCHAR, ExtendedProperties VARCHAR,
    IsIncident BOOLEAN, ProcessingEndTime TIMESTAMP, ProductComponentName VARCHAR, ProductName VARCHAR,
    ProviderName VARCHAR, RemediationSteps VARCHAR, ResourceId VARCHAR, SourceComputerId VARCHAR,
    StartTime TIMESTAMP, Status VARCHAR, SubTechniques VARCHAR, SystemAlertId VARCHAR, Tactics VARCHAR,
    Techniques VARCHAR, TimeGenerated TIMESTAMP, VendorName VARCHAR, VendorOriginalId VARCHAR,
    WorkspaceResourceGroup VARCHAR, WorkspaceSubscriptionId VARCHAR
""")
"""Columns of `SecurityAlert`, as the documented table has them."""

RECOMMENDATION_COLUMNS = _columns("""
    AssessedResourceId VARCHAR, Description VARCHAR, DeviceId VARCHAR, DiscoveredTimeUTC TIMESTAMP,
    Environment VARCHAR, FirstEvaluationDate TIMESTAMP, IsSnapshot BOOLEAN, PolicyDefinitionId VARCHAR,
    Properties JSON, ProviderName VARCHAR, RecommendationAdditionalData JSON,
    RecommendationDisplayName VARCHAR, RecommendationId VARCHAR, RecommendationName VARCHAR,
    RecommendationSeverity VARCHAR, RecommendationState VARCHAR, ResolvedTimeUTC TIMESTAMP,
    ResourceRegion VARCHAR, StatusChangeDate TIMESTAMP, TimeGenerated TIMESTAMP
""")
"""Columns of `SecurityRecommendation`, as the documented table has them."""

DEVICE_COLUMNS = _columns("""
    DeviceId VARCHAR, Modules BIGINT, Enabled BOOLEAN, Connected BOOLEAN, Gateway VARCHAR,
    Authentication VARCHAR, Created TIMESTAMP, LastActivity TIMESTAMP, Tags JSON
""")
"""Columns of `Devices`: a row a registered device. LastActivity: null if it was never heard of."""

TWIN_COLUMNS = _columns("""
    DeviceId VARCHAR, ModuleId VARCHAR, Tags JSON, Desired JSON, DesiredVersion BIGINT, Reported JSON,
    ReportedVersion BIGINT
""")
"""Columns of `Twins`: a row a device (ModuleId empty) and a module."""

VULNERABILITY_COLUMNS = _columns("""
    DeviceId VARCHAR, Advisory VARCHAR, Cves JSON, Package VARCHAR, Version VARCHAR, FixedVersion VARCHAR,
    Severity VARCHAR, Score DOUBLE, Summary VARCHAR, PackageUrl VARCHAR, TimeGenerated TIMESTAMP
""")
"""Columns of `SoftwareVulnerability`: a row for each advisory that fits a device's package."""

BESIDE: Mapping[str, Columns] = {
    "SecurityAlert": ALERT_COLUMNS,
    "SecurityRecommendation": RECOMMENDATION_COLUMNS,
    "SoftwareVulnerability": VULNERABILITY_COLUMNS,
    "Devices": DEVICE_COLUMNS,
    "Twins": TWIN_COLUMNS,
}
"""Tables whose rows are kept outside the lake."""


class Dialect(Protocol):
    """How an engine writes what the views need. A key is one of `EventDetails`; its parts have no dots."""

    def name(self, name: str) -> str:
        """A name, quoted."""

    def type(self, kind: str) -> str:
        """The engine's name of a type."""

    def text(self, key: str) -> str:
        """The key's value as a text; null where there is none."""

    def json(self, key: str) -> str:
        """The key's value as a dynamic one; null where there is none."""

    def entry(self, parts: Mapping[str, str]) -> str:
        """A dynamic list of one object: part → the key that has its value."""


class DuckDB:
    """DuckDB's words, for the views."""

    def name(self, name: str) -> str:
        """A name, quoted."""
        return '"' + name.replace('"', '""') + '"'

    def type(self, kind: str) -> str:
        """Types are declared in DuckDB's words."""
        return kind

    def text(self, key: str) -> str:
        """A key's value as a text."""
        return f"""json_extract_string(EventDetails, '$."{key}"')"""

    def json(self, key: str) -> str:
        """A key's value as JSON."""
        return f"""json_extract(EventDetails, '$."{key}"')"""

    def entry(self, parts: Mapping[str, str]) -> str:
        """A list of one object."""
        pairs = ", ".join(f"'{part}', {self.json(key)}" for part, key in parts.items())
        return f"json_array(json_object({pairs}))"


class View(NamedTuple):
    """A view over `raw_events`: its columns and the SELECT that yields them."""

    columns: Columns
    select: str


_DOCUMENTED = (
    "AgentVersion",
    "DeviceId",
    "AssociatedResourceId",
    "AzureSubscriptionId",
    "IoTRawEventId",
    "IsEmpty",
    "RawEventCategory",
    "RawEventName",
    "RawEventType",
    "TimeGenerated",
    "TimeStamp",
    "ModuleId",
    "HitCount",
)
_COMMON = ("TimeGenerated", "DeviceId", "ModuleId", "TimeStamp", "HitCount", "WindowStart", "WindowEnd")
_RAW: Columns = {name: SQL_TYPES[kind] for name, kind in RAW_EVENTS.columns.items()}


def views(dialect: Dialect) -> dict[str, View]:
    """Every view by its name."""
    return {
        "SecurityIoTRawEvent": _raw_view("SecurityIoTRawEvent", "VARCHAR", dialect),
        "DefenderIoTRawEvent": _raw_view("DefenderIoTRawEvent", "JSON", dialect),
        **{event.table: event_view(event, dialect) for event in EVENT_TYPES.values()},
        **{name: _classic_view(name, dialect) for name in classic.EVENTS if name not in EVENT_TYPES},
    }


def columns() -> dict[str, Columns]:
    """The columns of everything that can be asked of, by table."""
    stored = {table.name: {name: SQL_TYPES[kind] for name, kind in table.columns.items()} for table in TABLES}
    return stored | {name: view.columns for name, view in views(DuckDB()).items()} | dict(BESIDE)


def _raw_view(name: str, details: str, dialect: Dialect) -> View:
    """A documented raw-event table: the documented columns, ours, then `EventDetails` and `Type`."""
    shown = ", ".join(_DOCUMENTED)
    return View(
        {**{column: _RAW[column] for column in _DOCUMENTED}, "EventDetails": details, "Type": "VARCHAR"},
        f"SELECT {shown}, CAST(EventDetails AS {dialect.type(details)}) AS EventDetails, "  # noqa: S608
        f"'{name}' AS Type FROM {RAW_EVENTS.name}",
    )


def event_view(event: EventType, dialect: Dialect) -> View:
    """The view of one event type: common columns, then each payload field under its own name.

    Rows of the classic agent's events that correspond to the type are among them.
    """
    hints = typing.get_type_hints(event.payload, include_extras=True)
    names, sources = {event.name}, defaultdict[str, list[_Source]](list)
    for other, (shown_as, keys) in classic.SHOWN_AS.items():
        if shown_as == event.name:
            names.add(other)
            for column, source in keys.items():
                sources[column].append((other, source))
    fields = {pascal(field): sql_type(hints[field]) for field in event.payload.__struct_fields__}
    return _view(fields, names, sources, dialect)


def _classic_view(name: str, dialect: Dialect) -> View:
    """The view of an event of the classic agent that has no declared type."""
    fields = {key: "BIGINT" if key in classic.INTEGERS else "VARCHAR" for key in classic.EVENTS[name]}
    return _view({**fields, classic.EXTRA: "JSON"}, {name}, {}, dialect)


def _view(
    fields: Columns, events: Iterable[str], sources: Mapping[str, Sequence[_Source]], dialect: Dialect
) -> View:
    values = [
        f"{_field(name, kind, sources.get(name, ()), dialect)} AS {dialect.name(name)}"
        for name, kind in fields.items()
    ]
    select = f"SELECT {', '.join([*_COMMON, *values])} FROM {RAW_EVENTS.name}"  # noqa: S608 - ours
    return View(
        {**{name: _RAW[name] for name in _COMMON}, **fields},
        f"{select} WHERE RawEventName IN ({_list(events)})",
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


def _field(name: str, kind: str, sources: Sequence[_Source], dialect: Dialect) -> str:
    """A value from EventDetails: of the same key, or where that is null of the classic agent's sources."""
    values = [dialect.json(name) if kind == "JSON" else dialect.text(name)]
    for event, source in sources:
        if isinstance(source, dict):
            first = dialect.text(next(iter(source.values())))
            values.append(f"CASE WHEN {first} IS NOT NULL THEN {dialect.entry(source)} END")
        elif source.startswith("'"):
            values.append(f"CASE WHEN RawEventName = '{event}' THEN {source} END")
        else:
            values.append(dialect.text(source))
    value = values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"
    return value if kind in ("JSON", "VARCHAR") else f"TRY_CAST({value} AS {dialect.type(kind)})"


def sql_type(hint: Any) -> str:
    """The SQL type of a payload field; JSON for what has parts."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return sql_type(typing.get_args(hint)[0])
    if origin is Literal:
        return SQL_TYPES[type(typing.get_args(hint)[0])]
    if origin in (types.UnionType, typing.Union):
        kinds = {sql_type(part) for part in typing.get_args(hint) if part is not types.NoneType}
        return kinds.pop() if len(kinds) == 1 else "JSON"
    if isinstance(hint, type):
        return next((name for kind, name in SQL_TYPES.items() if issubclass(hint, kind)), "JSON")
    return "JSON"
