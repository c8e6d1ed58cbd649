"""Shared access policies: keys of services and operators, each with what it may do."""

from __future__ import annotations

from enum import Flag, auto

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.records import Veiled
from vedette.hub.registry.rows import new_key
from vedette.hub.registry.schema import Base, Secret


class Right(Flag):
    """What a policy may do; the names are the real service's."""

    REGISTRY_READ = auto()
    REGISTRY_WRITE = auto()
    SERVICE_CONNECT = auto()
    DEVICE_CONNECT = auto()


_REGISTRY = Right.REGISTRY_READ | Right.REGISTRY_WRITE

RIGHTS = {
    "iothubowner": _REGISTRY | Right.SERVICE_CONNECT | Right.DEVICE_CONNECT,
    "service": Right.SERVICE_CONNECT,
    "device": Right.DEVICE_CONNECT,
    "registryRead": Right.REGISTRY_READ,
    "registryReadWrite": _REGISTRY,
}
"""The policies that every hub has."""


class PolicyRow(Base):
    """One policy's keys, base64."""

    __tablename__ = "policies"

    name: Mapped[str] = mapped_column(primary_key=True)
    primary_key: Mapped[Secret]
    secondary_key: Mapped[Secret]


class Policy(Veiled, frozen=True):
    """A policy."""

    SHOWN = ("name",)

    name: str
    primary_key: str
    secondary_key: str

    @property
    def rights(self) -> Right:
        """What it may do."""
        return RIGHTS[self.name]


class Policies:
    """The policies of a hub; their keys are made when the first is asked for."""

    def __init__(self, read: sessionmaker[Session], write: sessionmaker[Session]) -> None:
        self._read = read
        self._write = write

    def get(self, name: str) -> Policy | None:
        """A policy by its name; None if there is none of that name."""
        if name not in RIGHTS:
            return None
        with self._read.begin() as session:
            row = session.get(PolicyRow, name)
            found = row and Policy(row.name, row.primary_key, row.secondary_key)
        return found or self._make(name)

    def _make(self, name: str) -> Policy:
        with self._write.begin() as session:
            present = set(session.scalars(select(PolicyRow.name)))
            session.add_all(
                PolicyRow(name=missing, primary_key=new_key(), secondary_key=new_key())
                for missing in RIGHTS.keys() - present
            )
            session.flush()
            row = session.get_one(PolicyRow, name)
            return Policy(row.name, row.primary_key, row.secondary_key)
