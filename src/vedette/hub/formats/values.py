"""What the forms share: raw events as they come from the lake, times, and leaving out what is not known."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

PRODUCT = "Vedette"


class RawEvent(NamedTuple):
    """An event of `SecurityIoTRawEvent`. Times are Unix seconds; text: EventDetails as it is stored.

    first, end: first and last observation by the device's clock; received: by the hub's.
    """

    id: str
    device: str
    module: str
    name: str
    details: Mapping[str, Any]
    text: str
    first: float
    end: float
    received: float
    hits: int
    agent: str = ""


EVENT_COLUMNS: Mapping[str, type] = {
    **dict.fromkeys(("IoTRawEventId", "DeviceId", "ModuleId", "RawEventName", "EventDetails"), str),
    **dict.fromkeys(("TimeStamp", "TimeGenerated"), datetime),
    "HitCount": int,
    "AgentVersion": str,
}
"""What a row must have to be an event."""


def raw_event(row: Mapping[str, Any]) -> RawEvent:
    """An event of a row of `SecurityIoTRawEvent` or `raw_events`. Raises ValueError naming a wrong column."""
    for name, kind in EVENT_COLUMNS.items():
        if not isinstance(row[name], kind):
            raise ValueError(f"{name}: {row[name]!r:.64} is not what an event has there")
    try:
        details = msgspec.json.decode(row["EventDetails"], type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"EventDetails: {error}") from None
    first, end = row["TimeStamp"], row.get("WindowEnd")
    return RawEvent(
        id=row["IoTRawEventId"],
        device=row["DeviceId"],
        module=row["ModuleId"],
        name=row["RawEventName"],
        details=details,
        text=row["EventDetails"],
        first=_seconds(first),
        end=_seconds(max(first, end) if isinstance(end, datetime) else first),
        received=_seconds(row["TimeGenerated"]),
        hits=row["HitCount"],
        agent=row["AgentVersion"],
    )


def _seconds(time: datetime) -> float:
    """A time as queries give it: UTC without saying so."""
    return time.replace(tzinfo=UTC).timestamp()


def known(**values: Any) -> dict[str, Any]:
    """The values that are known: neither None, nor an empty text, list or object."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {}, ())}


def millis(seconds: float) -> int:
    """Unix milliseconds."""
    return round(seconds * 1000)


def text(details: Mapping[str, Any], *keys: str) -> str:
    """The first of these values that is a text or number, as text; agents of strangers may send anything."""
    for key in keys:
        value = details.get(key)
        if isinstance(value, str | int) and value != "" and not isinstance(value, bool):
            return str(value)
    return ""


def inner(details: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object within; empty where there is none."""
    value = details.get(key)
    return value if isinstance(value, Mapping) else {}


def items(details: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of a list within; none where there is no list."""
    value = details.get(key)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def texts(details: Mapping[str, Any], key: str) -> list[str]:
    """The texts of a list within."""
    value = details.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []


def address(value: Any) -> str | None:
    """An IP address, None for what is none (a host name, or nothing)."""
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        return None


def number(value: Any) -> int | None:
    """A whole number; the classic agent writes ports and ids as text."""
    try:
        return int(value)
    except (OverflowError, TypeError, ValueError):
        return None


def base_name(path: str) -> str:
    """The last part of a path; the path itself where that is empty."""
    return path.rstrip("/").rpartition("/")[2] or path
