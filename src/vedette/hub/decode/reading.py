"""What a decoder makes of a message, whatever generation of agent sent it. Decoders are pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from vedette.wire.message import MessageError

MAX_HITS = 2**63 - 1
"""Largest hit count that a column holds."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One event, understood.

    index: its place in the message, counted over everything that becomes a row. id: as the device gave it,
    not unique. facts: the payload by its EventDetails keys. keys: the order of EventDetails; a key that
    neither the facts nor the hub knows is null. first_seen, window_start, window_end: by the device's clock.
    empty: the device said that there is nothing to tell.
    """

    index: int
    id: str
    name: str
    category: str
    kind: str
    facts: dict[str, Any]
    keys: tuple[str, ...]
    first_seen: datetime
    window_start: datetime
    window_end: datetime
    hits: int = 1
    empty: bool = False


class Unreadable(msgspec.Struct, frozen=True):
    """One event that could not be understood: its place, the field and the reason, its bytes."""

    index: int
    reason: str
    body: bytes


class Decoded(msgspec.Struct, frozen=True):
    """A message, understood as far as possible. source: what `MessageSource` says of its sender."""

    agent_version: str
    source: str
    readings: list[Reading]
    unreadable: list[Unreadable]


def moment(field: str, text: str) -> datetime:
    """A time from ISO 8601; UTC if it names no zone. Raises MessageError naming the field."""
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MessageError(f"{field}: {text[:64]!r} is not ISO 8601") from None


def instant(field: str, seconds: float) -> datetime:
    """A time from Unix seconds. Raises MessageError beyond the years 1 to 9999."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise MessageError(f"{field}: {seconds} is not a time: {error}") from None
