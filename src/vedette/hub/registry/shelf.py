"""What people keep under a name: groups of devices, and questions to the lake."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec
from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.query import Query, QueryError, parse
from vedette.hub.registry.records import RegistryError
from vedette.hub.registry.schema import Base

MAX_GROUPS = 500
"""Groups of a hub: they are offered in one list."""

MAX_QUERIES = 200
"""Questions of one person."""

MAX_QUERY_CHARACTERS = 65_536
"""As long as one that the lake answers (lake.query)."""

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")

Language: TypeAlias = Literal["kql", "sql"]


class DeviceGroupRow(Base):
    """Devices that a condition on twins holds for, as in `tags.site = 'north'`. created: Unix seconds."""

    __tablename__ = "device_groups"

    name: Mapped[str] = mapped_column(primary_key=True)
    condition: Mapped[str]
    who: Mapped[str]
    created: Mapped[float]


class SavedQueryRow(Base):
    """A question that somebody keeps. shared: everybody is offered it. changed: Unix seconds."""

    __tablename__ = "saved_queries"

    owner: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    language: Mapped[str]
    text: Mapped[str]
    shared: Mapped[bool]
    changed: Mapped[float]


class Group(msgspec.Struct, frozen=True):
    """See DeviceGroupRow."""

    name: str
    condition: str
    who: str = ""


class SavedQuery(msgspec.Struct, frozen=True):
    """See SavedQueryRow."""

    owner: str
    name: str
    language: Language
    text: str
    shared: bool = False


def selecting(condition: str, columns: str = "deviceId") -> Query:
    """The question for the devices that a condition holds for. Raises QueryError."""
    return parse(f"SELECT {columns} FROM devices WHERE {condition}")  # noqa: S608 - it is no SQL


class Shelf:
    """Named groups and questions. Every call is one transaction and blocks."""

    def __init__(self, read: sessionmaker[Session], write: sessionmaker[Session]) -> None:
        self._read = read
        self._write = write

    def groups(self) -> Sequence[Group]:
        """All groups, by name."""
        with self._read.begin() as session:
            rows = session.scalars(select(DeviceGroupRow).order_by(DeviceGroupRow.name).limit(MAX_GROUPS))
            return [Group(row.name, row.condition, row.who) for row in rows]

    def keep_group(self, group: Group) -> None:
        """Keep a group, in place of one of this name. Raises RegistryError."""
        try:
            selecting(group.condition)
        except QueryError as error:
            raise RegistryError(f"condition: {error}") from None
        row = DeviceGroupRow(
            name=_name(group.name), condition=group.condition, who=group.who, created=time.time()
        )
        with self._write.begin() as session:
            others = select(func.count()).where(DeviceGroupRow.name != row.name)
            if (session.scalar(others) or 0) >= MAX_GROUPS:
                raise RegistryError(f"groups: {MAX_GROUPS} are allowed")
            session.merge(row)

    def drop_group(self, name: str) -> None:
        """Forget a group; its devices stay."""
        with self._write.begin() as session:
            session.execute(delete(DeviceGroupRow).where(DeviceGroupRow.name == name))

    def queries(self, user: str) -> Sequence[SavedQuery]:
        """What a user is offered: the own ones, then what others share."""
        rows = (
            select(SavedQueryRow)
            .where(or_(SavedQueryRow.owner == user, SavedQueryRow.shared))
            .order_by(SavedQueryRow.owner != user, SavedQueryRow.name, SavedQueryRow.owner)
            .limit(2 * MAX_QUERIES)
        )
        with self._read.begin() as session:
            return [
                SavedQuery(row.owner, row.name, row.language, row.text, row.shared)  # type: ignore[arg-type]
                for row in session.scalars(rows)
            ]

    def keep_query(self, query: SavedQuery) -> None:
        """Keep a question, in place of the owner's of this name. Raises RegistryError."""
        if not query.text.strip() or len(query.text) > MAX_QUERY_CHARACTERS:
            raise RegistryError(f"query: 1 to {MAX_QUERY_CHARACTERS} characters are allowed")
        row = SavedQueryRow(
            owner=query.owner,
            name=_name(query.name),
            language=query.language,
            text=query.text,
            shared=query.shared,
            changed=time.time(),
        )
        with self._write.begin() as session:
            others = select(func.count()).where(
                SavedQueryRow.owner == row.owner, SavedQueryRow.name != row.name
            )
            if (session.scalar(others) or 0) >= MAX_QUERIES:
                raise RegistryError(f"queries: {MAX_QUERIES} a user are allowed")
            session.merge(row)

    def drop_query(self, owner: str, name: str) -> None:
        """Forget a question."""
        with self._write.begin() as session:
            session.execute(
                delete(SavedQueryRow).where(SavedQueryRow.owner == owner, SavedQueryRow.name == name)
            )


def _name(text: str) -> str:
    name = text.strip()
    if not _NAME.fullmatch(name):
        raise RegistryError("name: 1 to 64 characters are needed, without control characters")
    return name
