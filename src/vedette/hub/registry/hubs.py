"""The hub processes on a registry: who they are, and whether each still shows signs of life."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.schema import Base

Role: TypeAlias = Literal["all", "gateway", "worker"]
"""gateway: what devices and people reach. worker: looks after the lake and detects. all: both."""


class HubRow(Base):
    """One process. started, seen: Unix seconds by its own clock. beats: grows while it lives."""

    __tablename__ = "hubs"

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    version: Mapped[str]
    started: Mapped[float]
    seen: Mapped[float]
    beats: Mapped[int] = mapped_column(default=0)


class HubProcess(msgspec.Struct, frozen=True):
    """See HubRow. version: of the program."""

    name: str
    role: Role
    version: str
    started: float
    seen: float
    beats: int


class Hubs:
    """The processes on one registry. A name is one process's at a time: whoever enters under it replaces."""

    def __init__(self, read: sessionmaker[Session], shared: sessionmaker[Session]) -> None:
        self._read = read
        self._shared = shared

    def enter(self, name: str, role: Role, version: str) -> None:
        """A process begins."""
        now = time.time()
        with self._shared.begin() as session:
            session.merge(HubRow(name=name, role=role, version=version, started=now, seen=now, beats=0))

    def beat(self, name: str) -> bool:
        """A process lives; False if others have taken it for gone."""
        alive = update(HubRow).where(HubRow.name == name)
        with self._shared.begin() as session:
            beaten = alive.values(beats=HubRow.beats + 1, seen=time.time()).returning(HubRow.name)
            return session.scalar(beaten) is not None

    def leave(self, name: str, beats: int | None = None) -> bool:
        """A process has ended. With `beats`: if it has not shown itself since; False if it has."""
        where = [HubRow.name == name] if beats is None else [HubRow.name == name, HubRow.beats == beats]
        with self._shared.begin() as session:
            return session.scalar(delete(HubRow).where(*where).returning(HubRow.name)) is not None

    def list(self) -> Sequence[HubProcess]:
        """All, in the order of their names."""
        with self._read.begin() as session:
            rows = session.scalars(select(HubRow).order_by(HubRow.name))
            fields = HubProcess.__struct_fields__
            return [
                msgspec.convert({name: getattr(row, name) for name in fields}, HubProcess) for row in rows
            ]
