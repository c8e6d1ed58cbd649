"""Times as documents of twins show them: text, so made that earlier ones come first."""

from __future__ import annotations

from datetime import UTC, datetime

NEVER = "0001-01-01T00:00:00Z"
"""A time that there was not; the SDKs expect one."""

LONG_AGO = -62_135_596_800.0
"""The same in Unix seconds."""


def time_text(moment: datetime) -> str:
    """A time as documents show it: UTC, milliseconds; without a zone it is UTC. Raises ValueError."""
    try:
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        utc = zoned.astimezone(UTC)
    except OverflowError:
        raise ValueError("beyond the years 1 to 9999") from None
    if utc.year == 1:
        return NEVER
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
