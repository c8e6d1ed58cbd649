"""How values are written, and the addresses of pages. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from vedette.hub.console.gate import PATH, STATIC

MAX_TEXT = 2_000
"""Characters of one value in a table; the rest is in the lake."""


def written(value: Any) -> str:
    """Any value of the lake as text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return moment(value)
    shown = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return shown if len(shown) <= MAX_TEXT else f"{shown[:MAX_TEXT]}…"


def moment(value: datetime | float | None) -> str:
    """A time, UTC, to the second."""
    if value is None:
        return ""
    when = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    return f"{when:%Y-%m-%d %H:%M:%S}"


def ago(seconds: float | None, now: float) -> str:
    """A time by its distance."""
    if seconds is None:
        return "never"
    distance = max(0.0, now - seconds)
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if distance >= unit:
            return f"{distance / unit:.0f} {name} ago"
    return f"{distance:.0f} s ago"


def count(value: Any) -> str:
    """A number with separators; nothing counts as 0."""
    return f"{int(value or 0):,}"


def number_of(number: int, noun: str) -> str:
    """How many there are of something, as in `1 device`, `2 devices`."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def size(value: Any) -> str:
    """Bytes in the unit that suits them."""
    number = float(value or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def at(path: str, **query: str | int) -> str:
    """An address inside the console; parts of the path are given quoted (see `device_at`)."""
    kept = {key: value for key, value in query.items() if value not in ("", 0)}
    return f"{PATH}{path}" + (f"?{urlencode(kept)}" if kept else "")


def static(name: str) -> str:
    """The address of a file that comes with the console."""
    return f"{STATIC}{name}"


def path_part(text: str) -> str:
    """A text as one part of an address's path."""
    return quote(text, safe="")


def device_at(device_id: str, **query: str | int) -> str:
    """The address of a device's page."""
    return at(f"/device/{path_part(device_id)}", **query)


def investigate_at(query: str) -> str:
    """The address that runs a KQL query."""
    return at("/investigate", q=query)


def script_text(value: str) -> str:
    """A text as a JavaScript literal."""
    return json.dumps(value).replace("<", "\\u003c")
