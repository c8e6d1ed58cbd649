"""What the forms share: raw events as they come from the lake, times, and leaving out what is not known."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

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


def known(**values: Any) -> dict[str, Any]:
    """The values that are known: neither None, nor an empty text, list or object."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {}, ())}


def millis(seconds: float) -> int:
    """Unix milliseconds."""
    return round(seconds * 1000)


def seconds(time: datetime) -> float:
    """Unix seconds of a time as queries give it: UTC without saying so."""
    return (time - _EPOCH).total_seconds()


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - as queries give times


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
    except (TypeError, ValueError):
        return None


def base_name(path: str) -> str:
    """The last part of a path; the path itself where that is empty."""
    return path.rstrip("/").rpartition("/")[2] or path
