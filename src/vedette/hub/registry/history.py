"""What was desired of each device, version by version: who wanted it, and when.

As in `audit`, changes are noticed in the session that writes them, so that no caller can forget to tell.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ForeignKeyConstraint, delete, event, inspect, select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.audit import actor
from vedette.hub.registry.rows import key_of
from vedette.hub.registry.schema import Base, TwinRow
from vedette.wire.iothub import Identity

VERSIONS_KEPT = 50
"""Of one identity, the newest. Desired properties have some 300 bytes, at most 32 KB."""


class DesiredRow(Base):
    """The desired properties as one version left them. desired: JSON. at: Unix seconds."""

    __tablename__ = "desired_history"
    __table_args__ = (
        ForeignKeyConstraint(
            ["device_id", "module_id"], ["identities.device_id", "identities.module_id"], ondelete="CASCADE"
        ),
    )

    device_id: Mapped[str] = mapped_column(primary_key=True)
    module_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    actor: Mapped[str]
    desired: Mapped[str]


class Wanted(msgspec.Struct, frozen=True):
    """See DesiredRow."""

    version: int
    at: float
    actor: str
    desired: dict[str, Any]


class History:
    """What was desired of each identity before."""

    def __init__(self, read: sessionmaker[Session]) -> None:
        self._read = read

    def versions(self, identity: Identity) -> Sequence[Wanted]:
        """The versions that are kept, the newest first."""
        device_id, module_id = key_of(identity)
        rows = (
            select(DesiredRow)
            .where(DesiredRow.device_id == device_id, DesiredRow.module_id == module_id)
            .order_by(DesiredRow.version.desc())
            .limit(VERSIONS_KEPT)
        )
        with self._read.begin() as session:
            return [
                Wanted(row.version, row.at, row.actor, msgspec.json.decode(row.desired))
                for row in session.scalars(rows)
            ]


def watch(maker: sessionmaker[Session]) -> None:
    """Keep what this maker's sessions write."""
    event.listen(maker, "before_flush", _flushing)


def _flushing(session: Session, context: Any, instances: Any) -> None:
    for row in list(session.dirty):
        if isinstance(row, TwinRow) and inspect(row).attrs.desired_version.history.has_changes():
            _keep(session, row)


def _keep(session: Session, row: TwinRow) -> None:
    session.add(
        DesiredRow(
            device_id=row.device_id,
            module_id=row.module_id,
            version=row.desired_version,
            at=time.time(),
            actor=actor(),
            desired=row.desired,
        )
    )
    session.execute(
        delete(DesiredRow).where(
            DesiredRow.device_id == row.device_id,
            DesiredRow.module_id == row.module_id,
            DesiredRow.version <= row.desired_version - VERSIONS_KEPT,
        ),
        execution_options={"autoflush": False, "synchronize_session": False},
    )
