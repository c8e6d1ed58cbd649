"""Which gateway holds an identity's connection: the newest one does, whatever an older one says later.

Holdings are numbered in the order of their commits. A gateway has one written before it lets a client in,
reads those of the others, and closes what they have taken over. Whoever leaves names the number, so that a
late farewell does not end a newer connection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import cast

import msgspec
from sqlalchemy import ColumnElement, Table, UniqueConstraint, bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.rows import key_of
from vedette.hub.registry.schema import Base, IdentityRow, Number
from vedette.wire.iothub import Identity

PAGE = 1_000
"""Holdings that are read, or ended, at a time. Read four times a second, they are more than a hub lets in."""


class ConnectionRow(Base):
    """One connection that a gateway holds. `identities.gateway` repeats its gateway for who lists devices."""

    __tablename__ = "connections"
    __table_args__ = (
        UniqueConstraint("device_id", "module_id"),
        {"sqlite_autoincrement": True},  # a number is never given twice
    )

    seq: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    device_id: Mapped[str]
    module_id: Mapped[str]
    gateway: Mapped[str] = mapped_column(index=True)


_TABLE = cast("Table", ConnectionRow.__table__)
_IDENTITIES = cast("Table", IdentityRow.__table__)
_FORGET = delete(_TABLE).where(
    _TABLE.c.device_id == bindparam("device"), _TABLE.c.module_id == bindparam("module")
)
_MAKE = insert(_TABLE).returning(_TABLE.c.seq, _TABLE.c.device_id, _TABLE.c.module_id)
_MARK = (
    update(_IDENTITIES)
    .where(_IDENTITIES.c.device_id == bindparam("device"), _IDENTITIES.c.module_id == bindparam("module"))
    .values(gateway=bindparam("holder"))
)

_HELD = (_TABLE.c.device_id == _IDENTITIES.c.device_id) & (_TABLE.c.module_id == _IDENTITIES.c.module_id)
_CLEAN = (
    update(_IDENTITIES)
    .where(_IDENTITIES.c.gateway != "", ~select(_TABLE.c.seq).where(_HELD).exists())
    .values(gateway="")
)
"""Earlier releases marked identities and had no table of connections."""


class Holding(msgspec.Struct, frozen=True):
    """A gateway holds the connection of an identity. seq: that of a newer connection is larger."""

    seq: int
    identity: Identity
    gateway: str


class Connections:
    """The holdings of all gateways on a registry."""

    def __init__(self, read: sessionmaker[Session], write: sessionmaker[Session]) -> None:
        self._read = read
        self._write = write  # numbers are given by one writer after the other: `newer` misses none

    def hold(self, gateway: str, identities: Collection[Identity]) -> dict[Identity, int]:
        """Have a gateway hold these identities from now on; the numbers of the holdings."""
        keys = sorted(map(key_of, identities))  # as all writers: no two wait for each other
        rows = [{"device_id": device, "module_id": module, "gateway": gateway} for device, module in keys]
        with self._write.begin() as session:
            connection = session.connection()
            connection.execute(_FORGET, _bound(keys, gateway))
            made = connection.execute(_MAKE, rows).all()
            connection.execute(_MARK, _bound(keys, gateway))
        return {Identity(device, module): seq for seq, device, module in made}

    def leave(self, numbers: Collection[int]) -> None:
        """These connections have ended; an identity that has a newer one is still connected."""
        left = sorted(numbers)
        for start in range(0, len(left), PAGE):
            self._end(_TABLE.c.seq.in_(left[start : start + PAGE]))

    def release(self, gateway: str) -> None:
        """Forget the connections of a gateway, which starts anew or has ended, and marks of nobody's."""
        self._end(_TABLE.c.gateway == gateway)
        with self._write.begin() as session:
            session.connection().execute(_CLEAN)

    def holder(self, identity: Identity) -> str:
        """Name of the gateway that holds an identity's connection; empty if none does."""
        device, module = key_of(identity)
        row = _TABLE.c.device_id == device, _TABLE.c.module_id == module
        with self._read.begin() as session:
            return session.scalar(select(_TABLE.c.gateway).where(*row)) or ""

    def last(self) -> int:
        """Number of the latest holding that stands, 0 if none does."""
        with self._read.begin() as session:
            return session.scalar(select(func.max(_TABLE.c.seq))) or 0

    def newer(self, after: int) -> Sequence[Holding]:
        """The first PAGE holdings behind a number, of all gateways."""
        rows = select(ConnectionRow).where(ConnectionRow.seq > after).order_by(ConnectionRow.seq)
        with self._read.begin() as session:
            return [
                Holding(row.seq, Identity(row.device_id, row.module_id), row.gateway)
                for row in session.scalars(rows.limit(PAGE))
            ]

    def _end(self, which: ColumnElement[bool]) -> None:
        ended = delete(_TABLE).where(which).returning(_TABLE.c.device_id, _TABLE.c.module_id)
        with self._write.begin() as session:
            connection = session.connection()
            if keys := sorted((device, module) for device, module in connection.execute(ended)):
                connection.execute(_MARK, _bound(keys, ""))


def _bound(keys: Iterable[tuple[str, str]], gateway: str) -> list[dict[str, str]]:
    """Parameters of the statements above, one set an identity."""
    return [{"device": device, "module": module, "holder": gateway} for device, module in keys]
