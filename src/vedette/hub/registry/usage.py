"""Message units by day, as gateways wrote them down: of devices, and (device id empty) of the whole hub."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.schema import Base
from vedette.hub.registry.upserts import upsert_sums

DAYS_KEPT = 2
"""Days of single devices: today's quota, and yesterday's for who looks into it. Of the hub all are kept."""


class UsageRow(Base):
    """Units of a day (ISO 8601, UTC)."""

    __tablename__ = "usage"

    day: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str] = mapped_column(primary_key=True)
    units: Mapped[int]


class Usages:
    """The units of a hub."""

    def __init__(self, read: sessionmaker[Session], shared: sessionmaker[Session]) -> None:
        self._read = read
        self._shared = shared

    def add(self, spent: Mapping[tuple[str, str], int]) -> None:
        """Add what was spent, by day and device."""
        if not spent:
            return
        with self._shared.begin() as session:
            # Sorted, as by all writers: none waits in a circle.
            rows = [
                {"day": day, "device_id": device_id, "units": units}
                for (day, device_id), units in sorted(spent.items())
            ]
            upsert_sums(session, UsageRow, rows, ("units",))
            last = date.fromisoformat(max(day for day, _ in spent)) - timedelta(days=DAYS_KEPT)
            old = delete(UsageRow).where(UsageRow.day <= last.isoformat(), UsageRow.device_id != "")
            session.execute(old)

    def units(self, day: str, device_id: str = "") -> int:
        """What is written down of a day."""
        with self._read.begin() as session:
            row = session.get(UsageRow, (day, device_id))
            return row.units if row else 0
