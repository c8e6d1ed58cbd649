"""When each property of a twin was last changed: the `$metadata` of its sections.

As in `audit`, changes are noticed in the session that writes them, so that no caller can forget to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ForeignKeyConstraint, event, inspect
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.schema import Base, TwinRow
from vedette.hub.registry.times import time_text

UPDATED, VERSION = "$lastUpdated", "$lastUpdatedVersion"
"""As documents call them; VERSION stands in the desired section alone."""

SHORT = {UPDATED: "$u", VERSION: "$v"}
"""As they are stored: there is one pair for each property, of which a twin may have hundreds."""

_LONG = {short: name for name, short in SHORT.items()}

Stamps = dict[str, Any]
"""Nested like the section that it tells of: at each level the stamp, and one of these for each property."""


class MetadataRow(Base):
    """The stamps of a twin's sections, as JSON."""

    __tablename__ = "twin_metadata"
    __table_args__ = (
        ForeignKeyConstraint(
            ["device_id", "module_id"], ["identities.device_id", "identities.module_id"], ondelete="CASCADE"
        ),
    )

    device_id: Mapped[str] = mapped_column(primary_key=True)
    module_id: Mapped[str] = mapped_column(primary_key=True)
    desired: Mapped[str]
    reported: Mapped[str]


class Metadata(msgspec.Struct, frozen=True):
    """The stamps of a twin's sections as they are stored; empty for a twin that is older than they are."""

    desired: Stamps = msgspec.field(default_factory=dict)
    reported: Stamps = msgspec.field(default_factory=dict)


def metadata_of(row: MetadataRow | None) -> Metadata:
    """What a row holds."""
    if row is None:
        return Metadata()
    return Metadata(msgspec.json.decode(row.desired), msgspec.json.decode(row.reported))


def shown(stamps: Stamps) -> dict[str, Any]:
    """Stamps as documents show them."""
    return {
        _LONG.get(key, key): shown(value) if isinstance(value, dict) else value
        for key, value in stamps.items()
    }


def stamped(
    stamps: Stamps, before: Mapping[str, Any], after: Mapping[str, Any], stamp: Mapping[str, Any]
) -> Stamps:
    """The stamps of a section that has changed: a new one at what is different, and on the way there."""
    fresh: Stamps = dict(stamp)
    for key, value in after.items():
        old, known = before.get(key), stamps.get(key)
        if known is not None and key in before and _same(old, value):
            fresh[key] = known
        elif isinstance(value, Mapping):
            inside = (known or {}, old) if isinstance(old, Mapping) else ({}, {})
            fresh[key] = stamped(*inside, value, stamp)
        else:
            fresh[key] = dict(stamp)
    return fresh


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is neither 1.0 nor true."""
    return msgspec.json.encode(one) == msgspec.json.encode(other)


def watch(maker: sessionmaker[Session]) -> None:
    """Stamp what this maker's sessions write."""
    event.listen(maker, "before_flush", _flushing)


def _flushing(session: Session, context: Any, instances: Any) -> None:
    for row in [row for row in (*session.new, *session.dirty) if isinstance(row, TwinRow)]:
        _stamp(session, row)


def _stamp(session: Session, row: TwinRow) -> None:
    now = time_text(datetime.now(UTC))
    key = row.device_id, row.module_id
    with session.no_autoflush:
        kept = session.get(MetadataRow, key)
    if kept is None:
        kept = MetadataRow(device_id=row.device_id, module_id=row.module_id, desired="{}", reported="{}")
        session.add(kept)
    kept.desired = _section(kept.desired, row, "desired", {"$u": now, "$v": row.desired_version or 1})
    kept.reported = _section(kept.reported, row, "reported", {"$u": now})


def _section(stamps: str, row: TwinRow, name: str, stamp: Mapping[str, Any]) -> str:
    """A section's stamps after what the session is about to write of it."""
    history = inspect(row).attrs[name].history
    if not history.has_changes() and stamps != "{}":
        return stamps
    old, new = (history.deleted or [None])[0], getattr(row, name)
    known, before, after = (msgspec.json.decode(part or "{}") for part in (stamps, old, new))
    return msgspec.json.encode(stamped(known, before, after, stamp)).decode()
