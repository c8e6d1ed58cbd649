"""Snapshots that travel in parts: what each part told waits until all have come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from vedette.hub.detect.schema import SnapshotPartRow
from vedette.hub.detect.taxonomy import Observed
from vedette.hub.posture.assess import encoded
from vedette.hub.registry.upserts import insert_new

PARTS_KEPT_S = 24 * 3600.0
"""How long parts of a snapshot wait for the others: they are sent in one go, or within the hour."""


def whole(
    session: Session, event: Observed, own: Mapping[str, Any], now: float
) -> list[Mapping[str, Any]] | None:
    """What all parts of a snapshot told, this one's included; None while others are missing."""
    details = event.details
    parts = details.get("Parts") or 1
    if parts == 1:
        return [own]
    snapshot = f"{details.get('SnapshotId')} {event.first}"
    key = {"device_id": event.device, "name": event.name, "snapshot": snapshot}
    row = {**key, "part": details.get("Part") or 1, "data": encoded(own), "received": now}
    insert_new(session, SnapshotPartRow, [row])
    held = session.scalars(select(SnapshotPartRow.data).filter_by(**key).order_by(SnapshotPartRow.part)).all()
    return [msgspec.json.decode(data) for data in held] if len(held) >= parts else None


def forget(session: Session, now: float) -> None:
    """Drop parts whose others did not come."""
    session.execute(delete(SnapshotPartRow).where(SnapshotPartRow.received < now - PARTS_KEPT_S))
