"""The registry's tables, and engines that open them: SQLite embedded, PostgreSQL for a fleet."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ForeignKeyConstraint,
    Index,
    create_engine,
    event,
    make_url,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from vedette.hub.registry.records import RegistryError

SCHEMA_VERSION = 1

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits for another process. A write takes milliseconds, most of them fsync."""


class Base(DeclarativeBase):
    """Declarative base of the tables below."""


class Meta(Base):
    """One row: which version of this schema the database holds."""

    __tablename__ = "meta"

    schema_version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class IdentityRow(Base):
    """A device (module_id empty) or a module.

    gateway: name of the gateway that holds its connection, empty if none does. last_activity: Unix seconds.
    subscriptions: JSON array of topic filters.
    """

    __tablename__ = "identities"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    module_id: Mapped[str] = mapped_column(primary_key=True)
    primary_key: Mapped[str]
    secondary_key: Mapped[str]
    enabled: Mapped[bool]
    etag: Mapped[str]
    created: Mapped[float]
    gateway: Mapped[str] = mapped_column(default="", index=True)
    last_activity: Mapped[float | None]
    subscriptions: Mapped[str] = mapped_column(default="[]")


class TwinRow(Base):
    """The twin of an identity, apart from it because it is large. Sections are JSON text."""

    __tablename__ = "twins"
    __table_args__ = (
        ForeignKeyConstraint(
            ["device_id", "module_id"], ["identities.device_id", "identities.module_id"], ondelete="CASCADE"
        ),
    )

    device_id: Mapped[str] = mapped_column(primary_key=True)
    module_id: Mapped[str] = mapped_column(primary_key=True)
    desired: Mapped[str] = mapped_column(default="{}")
    desired_version: Mapped[int] = mapped_column(default=1)
    reported: Mapped[str] = mapped_column(default="{}")
    reported_version: Mapped[int] = mapped_column(default=1)


class ChangeRow(Base):
    """What gateways have to act on. patch: JSON; null where the identity itself changed."""

    __tablename__ = "changes"
    __table_args__ = (
        Index("changes_identity", "device_id", "module_id"),
        {"sqlite_autoincrement": True},  # a number is never given twice, even after a trim
    )

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    device_id: Mapped[str]
    module_id: Mapped[str]
    version: Mapped[int]
    patch: Mapped[str | None]


BEGIN = "begin"
"""Execution option: the statement that opens a transaction on SQLite; empty for none (autocommit)."""


def open_engine(url: str) -> Engine:
    """Connect, and create what is missing. Raises RegistryError if a newer version wrote the database."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite:
        _create_private(parsed)
    # Parameters hold keys; errors are logged.
    engine = create_engine(parsed, hide_parameters=True)
    if sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    with Session(engine.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})) as session, session.begin():
        Base.metadata.create_all(session.connection())
        version = session.scalar(select(Meta.schema_version))
        if version is None:
            session.add(Meta(schema_version=SCHEMA_VERSION))
        elif version != SCHEMA_VERSION:
            raise RegistryError(
                f"registry: schema version {version}, this program knows {SCHEMA_VERSION}; use the newer one"
            )
    return engine


def _create_private(url: URL) -> None:
    """Make the file its owner's alone before there is a key in it; SQLite's other files take its mode."""
    if not url.database or url.database == ":memory:":
        raise RegistryError("registry: SQLite needs a file, several connections share it")
    # Never opened where it exists: closing any descriptor of it drops all locks that SQLite holds on it in
    # this process (POSIX), and another process would then take the log of its writes away.
    with suppress(FileExistsError):
        os.close(os.open(url.database, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _prepare_sqlite(connection: Any, record: Any) -> None:
    # The driver would open transactions at moments of its own; `_begin_sqlite` does it instead.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # a key that was handed out survives power loss
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock first (IMMEDIATE): what it then reads cannot be outdated when it writes.
    statement = connection.get_execution_options().get(BEGIN, "BEGIN")
    if statement:
        connection.exec_driver_sql(statement)
