"""The registry, looked through now and then: some devices a call, so that nobody waits for the database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from vedette.hub.posture import configuration, messages, snapshots
from vedette.hub.posture.assess import Assessment
from vedette.hub.registry.schema import IdentityRow

PERIOD_S = 3600.0
"""From the beginning of one look to the next."""

SLICE = 1_000
"""Devices of a call: about 50 ms. A look at 100,000 takes some 200 calls, each with a batch of events."""


class Survey:
    """Assesses keys, twins and message sizes of every device; who has which key is read in a first round."""

    def __init__(self) -> None:
        self._begun = float("-inf")
        self._at: str | None = None
        self._owners = configuration.Owners()
        self._groups: dict[str, list[tuple[str, ...]]] | None = None

    def __call__(self, session: Session, now: float) -> list[Assessment]:
        """Go on where the last call ended. Returns the assessments of some devices, or of none."""
        if self._at is None:
            if now - self._begun < PERIOD_S:
                return []
            self._begun, self._at = now, ""
            messages.forget(session, now)
            snapshots.forget(session, now)
        if self._groups is None:
            devices = self._devices(session)
            self._owners.read(session, devices)
            if len(devices) == SLICE:
                return []
            self._groups, self._at = self._owners.groups(), ""
        devices = self._devices(session)
        found = [
            *(configuration.credentials(d, self._groups[d], now) for d in devices if d in self._groups),
            *configuration.twins(session, devices, now),
            *messages.of_a_day(session, devices, now),
        ]
        if len(devices) < SLICE:
            self._at = self._groups = None
        return found

    def _devices(self, session: Session) -> Sequence[str]:
        """The next ones by name."""
        names = select(IdentityRow.device_id).where(IdentityRow.module_id == "")
        page = names.where(IdentityRow.device_id > self._at).order_by(IdentityRow.device_id).limit(SLICE)
        devices = session.scalars(page).all()
        if devices:
            self._at = devices[-1]
        return devices
