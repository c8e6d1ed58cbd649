"""DuckDB over the lake: a connection that sees the tables' present files as views, and can read nothing else.

Each query gets a connection of its own, with the list of files that the Delta log names at that moment.
Read-only by construction: before the query is seen, the connection is confined to exactly those files and
its configuration locked; then only a single SELECT is let through, so that the files cannot be written.
"""

from __future__ import annotations

import types
import typing
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from vedette.hub.decode import classic
from vedette.hub.lake.tables import DEAD_LETTERS, PARTITION, RAW_EVENTS, Table, live
from vedette.wire.events import EVENT_TYPES, EventType, pascal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SQL_TYPES = {
    str: "VARCHAR",
    bytes: "BLOB",
    bool: "BOOLEAN",
    int: "BIGINT",
    float: "DOUBLE",
    datetime: "TIMESTAMP",
    date: "DATE",
}

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

ALERT_COLUMNS = """
    AlertLink VARCHAR, AlertName VARCHAR, AlertSeverity VARCHAR, AlertType VARCHAR, CompromisedEntity VARCHAR,
    ConfidenceLevel VARCHAR, ConfidenceScore DOUBLE, Description VARCHAR, DisplayName VARCHAR,
    EndTime TIMESTAMP, Entities VARCHAR, ExtendedLinks VARCHAR, ExtendedProperties VARCHAR,
    IsIncident BOOLEAN, ProcessingEndTime TIMESTAMP, ProductComponentName VARCHAR, ProductName VARCHAR,
    ProviderName VARCHAR, RemediationSteps VARCHAR, ResourceId VARCHAR, SourceComputerId VARCHAR,
    StartTime TIMESTAMP, Status VARCHAR, SubTechniques VARCHAR, SystemAlertId VARCHAR, Tactics VARCHAR,
    Techniques VARCHAR, TimeGenerated TIMESTAMP, VendorName VARCHAR, VendorOriginalId VARCHAR,
    WorkspaceResourceGroup VARCHAR, WorkspaceSubscriptionId VARCHAR
"""
"""Columns of `SecurityAlert`, as the documented table has them."""

RECOMMENDATION_COLUMNS = """
    AssessedResourceId VARCHAR, Description VARCHAR, DeviceId VARCHAR, DiscoveredTimeUTC TIMESTAMP,
    Environment VARCHAR, FirstEvaluationDate TIMESTAMP, IsSnapshot BOOLEAN, PolicyDefinitionId VARCHAR,
    Properties JSON, ProviderName VARCHAR, RecommendationAdditionalData JSON,
    RecommendationDisplayName VARCHAR, RecommendationId VARCHAR, RecommendationName VARCHAR,
    RecommendationSeverity VARCHAR, RecommendationState VARCHAR, ResolvedTimeUTC TIMESTAMP,
    ResourceRegion VARCHAR, StatusChangeDate TIMESTAMP, TimeGenerated TIMESTAMP
"""
"""Columns of `SecurityRecommendation`, as the documented table has them."""


class Confinement(msgspec.Struct, frozen=True):
    """What a query connection may use."""

    memory_bytes: int
    threads: int


def connect(lake: Path, bounds: Confinement) -> DuckDBPyConnection:
    """A confined connection over the lake's present state. A lake that does not exist yet is empty."""
    import duckdb

    files = {table: live_files(table.path(lake)) for table in (RAW_EVENTS, DEAD_LETTERS)}
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{bounds.memory_bytes}B",
            "threads": bounds.threads,
            "temp_directory": "",  # no spilling: the memory limit is a limit
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET allowed_paths = {_literal([*files[RAW_EVENTS], *files[DEAD_LETTERS]])}")
    connection.execute("SET enable_external_access = false")
    for table, names in files.items():
        connection.execute(f"CREATE VIEW {table.name} AS {_scan(table, names)}")
    for statement in VIEWS:
        connection.execute(statement)
    connection.execute("SET lock_configuration = true")
    return connection


def live_files(table: Path) -> list[str]:
    """The data files that the table's log names now; none where there is no table."""
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(str(table)):
        return []
    return [str(table.absolute() / file.name) for file in live(DeltaTable(table))]


def _literal(texts: list[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"


def _scan(table: Table, names: list[str]) -> str:
    """The table's rows with its declared columns; times as TIMESTAMP in UTC, which is what KQL means."""
    columns = ", ".join(
        f"{name}::{_SQL_TYPES[kind]} AS {name}" if names else f"NULL::{_SQL_TYPES[kind]} AS {name}"
        for name, kind in table.columns.items()
    )
    if not names:
        return f"SELECT {columns} WHERE false"
    source = f"read_parquet({_literal(names)}, hive_types = {{'{PARTITION}': DATE}})"
    return f"SELECT {columns} FROM {source}"  # noqa: S608 - names are ours, quoted above


def sql_type(hint: Any) -> str:
    """The SQL type of a payload field; JSON for what has parts."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return sql_type(typing.get_args(hint)[0])
    if origin is Literal:
        return _SQL_TYPES[type(typing.get_args(hint)[0])]
    if origin in (types.UnionType, typing.Union):
        kinds = {sql_type(part) for part in typing.get_args(hint) if part is not types.NoneType}
        return kinds.pop() if len(kinds) == 1 else "JSON"
    if isinstance(hint, type):
        return next((name for kind, name in _SQL_TYPES.items() if issubclass(hint, kind)), "JSON")
    return "JSON"


_COMMON = ("TimeGenerated", "DeviceId", "ModuleId", "TimeStamp", "HitCount", "WindowStart", "WindowEnd")


def event_view(declared: EventType) -> str:
    """`CREATE VIEW` for one event type: common columns, then each payload field under its own name.

    Rows of the classic agent's events that correspond to the type are among them.
    """
    hints = typing.get_type_hints(declared.payload, include_extras=True)
    names, sources = {declared.name}, dict[str, classic.Source]()
    for event, (shown_as, keys) in classic.SHOWN_AS.items():
        if shown_as == declared.name:
            names.add(event)
            sources |= keys
    columns = [
        _field(name, sql_type(hints[field]), sources.get(name))
        for field in declared.payload.__struct_fields__
        if (name := pascal(field))
    ]
    return _view(declared.table, columns, names)


def classic_view(name: str) -> str:
    """`CREATE VIEW` for an event of the classic agent that has no declared type."""
    columns = [
        _field(key, "BIGINT" if key in classic.INTEGERS else "VARCHAR") for key in classic.EVENTS[name]
    ]
    return _view(name, [*columns, _field(classic.EXTRA, "JSON")], {name})


def _view(name: str, columns: list[str], events: set[str]) -> str:
    shown = ", ".join(f"'{event}'" for event in sorted(events))
    return (
        f'CREATE VIEW "{name}" AS SELECT {", ".join([*_COMMON, *columns])} '  # noqa: S608 - declared names
        f"FROM {RAW_EVENTS.name} WHERE RawEventName IN ({shown})"
    )


def _field(name: str, kind: str, source: classic.Source | None = None) -> str:
    """A column from EventDetails: of the same key, or where that is null of the classic agent's source."""
    values = [_json(name) if kind == "JSON" else _text(name)]
    if isinstance(source, dict):
        parts = ", ".join(f"'{part}', {_json(key)}" for part, key in source.items())
        first = next(iter(source.values()))
        values.append(f"CASE WHEN {_json(first)} IS NOT NULL THEN json_array(json_object({parts})) END")
    elif source is not None and source.startswith("'"):
        values.append(f"CASE WHEN RawEventName IN ({_classic_names}) THEN {source} END")
    elif source is not None:
        values.append(_text(source))
    value = values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"
    return (
        f'{value} AS "{name}"' if kind in ("JSON", "VARCHAR") else f'TRY_CAST({value} AS {kind}) AS "{name}"'
    )


def _json(key: str) -> str:
    return f"""json_extract(EventDetails, '$."{key}"')"""


def _text(key: str) -> str:
    return f"""json_extract_string(EventDetails, '$."{key}"')"""


_classic_names = ", ".join(f"'{name}'" for name in classic.SHOWN_AS if name not in EVENT_TYPES)


def _raw_view(name: str, details: str) -> str:
    """A documented raw-event table: the documented columns, ours, then `EventDetails` and `Type`."""
    return (
        f"CREATE VIEW {name} AS SELECT {', '.join(_DOCUMENTED)}, {details} AS EventDetails, "  # noqa: S608
        f"'{name}' AS Type FROM {RAW_EVENTS.name}"
    )


VIEWS = (
    _raw_view("SecurityIoTRawEvent", "EventDetails"),
    _raw_view("DefenderIoTRawEvent", "EventDetails::JSON"),
    *(event_view(declared) for declared in EVENT_TYPES.values()),
    *(classic_view(name) for name in classic.EVENTS if name not in EVENT_TYPES),
    f"CREATE TABLE SecurityAlert ({ALERT_COLUMNS})",
    f"CREATE TABLE SecurityRecommendation ({RECOMMENDATION_COLUMNS})",
)
"""What users see: views over `raw_events`, and documented tables that nothing is written to yet."""
