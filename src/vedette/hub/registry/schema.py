"""The registry's tables, and engines that open them: SQLite embedded, PostgreSQL for a fleet."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Engine,
    ForeignKeyConstraint,
    Index,
    Integer,
    create_engine,
    event,
    insert,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from vedette.hub.registry.migrate import SEALED_SINCE, migrate, revision
from vedette.hub.registry.records import RegistryError
from vedette.hub.registry.vault import PROBE, Sealed, Vault

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits for another process. A write takes milliseconds, most of them fsync."""

CONNECT_S = 5.0
"""How long PostgreSQL may take to let us in: a host that is gone does not even refuse."""

SILENCE_S = 20
"""How long PostgreSQL's host may leave our packets, or questions whether it is there, without a reply. The
kernel alone would go on for a quarter of an hour, and for two hours while we wait for an answer."""

PROBE_S = 5
"""Seconds between such questions on a connection where nothing else goes."""

WRITERS_LOCK = 0x7665_6465_7474_65
"""PostgreSQL's advisory lock that writers take one after the other: "vedette" as a number."""

Secret = Annotated[str, mapped_column(Sealed)]
"""A column's type for what has to be unreadable in the database."""

Number = BigInteger().with_variant(Integer(), "sqlite")
"""A row number that lasts; SQLite counts only plain integers up by itself."""


class Base(DeclarativeBase):
    """Declarative base of the tables. A new table is only declared; for a new column see `migrate`."""


class OfDevice:
    """A table of what was made of a device's reports, by `device_id`: its rows go with the device."""


class SealingRow(Base):
    """One row: a known text, sealed, that tells whether the key file at hand is the right one."""

    __tablename__ = "sealing"

    probe: Mapped[str] = mapped_column(Sealed, primary_key=True)


class IdentityRow(Base):
    """A device (module_id empty) or a module.

    gateway: name of the gateway that holds its connection, empty if none does. last_activity: Unix seconds.
    subscriptions: JSON array of topic filters.
    """

    __tablename__ = "identities"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    module_id: Mapped[str] = mapped_column(primary_key=True)
    primary_key: Mapped[Secret]
    secondary_key: Mapped[Secret]
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
    """What gateways have to act on. patch: JSON; null where the identity itself changed.

    seq: without gaps, in the order of the commits, so that a reader that has seen one has seen all before.
    """

    __tablename__ = "changes"
    __table_args__ = (
        Index("changes_identity", "device_id", "module_id"),
        {"sqlite_autoincrement": True},  # a number is never given twice, even after a trim
    )

    seq: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    device_id: Mapped[str]
    module_id: Mapped[str]
    version: Mapped[int]
    patch: Mapped[str | None]


class TokenRow(Base):
    """An API token. digest: SHA-256 of its secret, hexadecimal. created, expires: Unix seconds."""

    __tablename__ = "tokens"

    token_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[int]
    digest: Mapped[str]
    created: Mapped[float]
    expires: Mapped[float | None]


class AuditRow(Base):
    """One change of the registry and who made it. time: Unix seconds. detail: JSON."""

    __tablename__ = "audit"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's way

    seq: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    time: Mapped[float]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[str]


BEGIN = "begin"
"""Execution option: how a transaction opens. Absent: for reading; WRITE: one writer after the other; SHARED:
for writing rows that no other writer depends on; NONE: no transaction (autocommit)."""

WRITE, SHARED, NONE = "write", "shared", "none"


KEY_FILE = "key_file"
"""Parameter of a registry's URL; it is ours and goes no further."""


def open_engine(url: str, key_file: Path | None = None) -> Engine:
    """Connect, bring the schema up to date, and unlock the keys.

    key_file: None for the one that the URL names (`?key_file=…`) or that lies beside a SQLite database.
    Raises RegistryError if the database cannot be reached, a newer version wrote it, or its keys are sealed
    with another file.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise RegistryError("registry: the URL cannot be read") from None
    if named := parsed.query.get(KEY_FILE):
        key_file, parsed = Path(str(named)), parsed.difference_update_query([KEY_FILE])
    # Parameters hold keys; errors are logged.
    if parsed.get_backend_name() == "sqlite":
        _create_private(parsed)
        engine = create_engine(parsed, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        key_file = key_file or Path(str(parsed.database)).with_suffix(".key")
    elif parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+pg8000")
        # The driver takes one bound for connecting and for every answer after it.
        bound = {"timeout": CONNECT_S}
        engine = create_engine(parsed, hide_parameters=True, pool_pre_ping=True, connect_args=bound)
        event.listen(engine, "connect", _unbound)
        event.listen(engine, "begin", _begin_postgresql)
    else:
        raise RegistryError(f"registry: {parsed.get_backend_name()} is not known; sqlite and postgresql are")
    if key_file is None:
        raise RegistryError("registry: PostgreSQL needs a key file, the same on every host")
    try:
        _prepare(engine, key_file)
    except (OperationalError, InterfaceError) as error:
        engine.dispose()
        raise RegistryError(f"registry: the database cannot be used: {error.orig}") from None
    except TimeoutError:
        engine.dispose()
        raise RegistryError(f"registry: the database does not answer within {CONNECT_S:g} s") from None
    except RegistryError:
        engine.dispose()
        raise
    return engine


def _prepare(engine: Engine, key_file: Path) -> None:
    """Migrate in one transaction, which waits for another hub's that is at it."""
    import vedette.hub.tables  # noqa: F401 - declares every table; they import this module

    with engine.execution_options(**{BEGIN: WRITE}).connect() as connection, connection.begin():
        before = revision(connection)
        vault = Vault.load(key_file, create=before < SEALED_SINCE)
        vault.attach(engine.dialect)
        migrate(connection, Base.metadata)
        if not before:
            connection.execute(insert(SealingRow).values(probe=PROBE))
        connection.execute(select(SealingRow.probe)).all()  # opens the probe
    if "" < before < SEALED_SINCE and engine.dialect.name == "sqlite":
        with engine.execution_options(**{BEGIN: NONE}).connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")  # plain keys are in the old log


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
        "secure_delete = ON",  # what was a key is overwritten
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock first (IMMEDIATE): what it then reads cannot be outdated when it writes.
    how = connection.get_execution_options().get(BEGIN)
    if how != NONE:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if how else "BEGIN")


def _unbound(connection: Any, record: Any) -> None:
    # Answers take what they take, a search has a bound of its own, a migration none; as long as the host is
    # there, which the kernel finds out.
    link = connection._usock
    link.settimeout(None)
    if link.family != socket.AF_UNIX:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1_000)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_S)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_S)


def _begin_postgresql(connection: Connection) -> None:
    # Writers commit in the order in which they got this lock: so numbers of changes, given under it, never
    # come to a reader out of order, which a sequence's would; and no two wait for each other's rows.
    if connection.get_execution_options().get(BEGIN) == WRITE:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": WRITERS_LOCK})
