"""The registry: devices, modules, keys, twins, and the changes that gateways pick up.

Every call is one transaction and blocks; call it from a thread. Several processes may use one database.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine, func, select, tuple_, update
from sqlalchemy.orm import sessionmaker

from vedette.hub.registry import history, metadata
from vedette.hub.registry.audit import watch
from vedette.hub.registry.authorities import Authorities
from vedette.hub.registry.calls import Calls
from vedette.hub.registry.connections import Connections
from vedette.hub.registry.enrollments import Enrollment, Enrollments, Registration
from vedette.hub.registry.feed import ChangeFeed
from vedette.hub.registry.fleet import Fleet, TwinChange
from vedette.hub.registry.hubs import Hubs
from vedette.hub.registry.lease import Lease
from vedette.hub.registry.messages import Messages
from vedette.hub.registry.policies import Policies
from vedette.hub.registry.profiles import Draft
from vedette.hub.registry.records import (
    CHANGES_PAGE,
    AlreadyExists,
    Change,
    ChangesLost,
    Device,
    UnknownIdentity,
)
from vedette.hub.registry.rows import (
    announce,
    change_of,
    check_identity,
    checked_key,
    device_of,
    family,
    forget,
    identity_row,
    is_identity,
    key_of,
    log_change,
    new_etag,
    new_key,
    twin_of,
    twin_row,
)
from vedette.hub.registry.schema import (
    BEGIN,
    SHARED,
    WRITE,
    ChangeRow,
    IdentityRow,
    TwinRow,
    open_engine,
)
from vedette.hub.registry.tokens import Tokens
from vedette.hub.registry.twins import Twin, checked, encode_section, merge
from vedette.hub.registry.upserts import insert_new
from vedette.hub.registry.usage import Usages
from vedette.hub.registry.users import Users
from vedette.wire.iothub import Identity

MAX_PAGE = 1_000
"""Identities of one `list`."""


class Registry:
    """The registry at a database URL, such as `sqlite:////var/lib/vedette/registry.db`.

    key_file: seals the keys in it; None for the one beside a SQLite database. Raises RegistryError if the
    database cannot be reached, was written by a newer version, or is sealed with another key file.
    """

    def __init__(self, url: str, key_file: Path | None = None) -> None:
        self._engine = open_engine(url, key_file)
        self._read = sessionmaker(_steady(self._engine))
        self._write = sessionmaker(self._engine.execution_options(**{BEGIN: WRITE}))
        self._shared = sessionmaker(self._engine.execution_options(**{BEGIN: SHARED}))
        watch(self._write)
        history.watch(self._write)
        for maker in (self._write, self._shared):
            metadata.watch(maker)
        self.tokens = Tokens(self._read, self._write)
        self.fleet = Fleet(self._read, self._write)
        self.messages = Messages(self._read, self._write, self._shared)
        self.connections = Connections(self._read, self._write)
        self.calls = Calls(self._read, self._write)
        self.hubs = Hubs(self._read, self._shared)
        self.authorities = Authorities(self._read, self._write)
        self.enrollments = Enrollments(self._read, self._write)
        self.policies = Policies(self._read, self._write)
        self.usage = Usages(self._read, self._shared)
        self.users = Users(self._read, self._write)

    def lease(self, name: str) -> Lease:
        """A claim to work that one process on this registry does at a time."""
        return Lease(name, self._read, self._write)

    def close(self) -> None:
        """Close every connection to the database."""
        self._engine.dispose()

    def add(self, identity: Identity, *, keys: tuple[str, str] | None = None) -> Device:
        """Register a device, or a module of a registered device, with new keys or the given base64 ones.

        Raises AlreadyExists, UnknownIdentity (the device of a module), ValueError (an id or a key is wrong).
        """
        check_identity(identity)
        primary, secondary = map(checked_key, keys) if keys else (new_key(), new_key())
        with self._write.begin() as session:
            if session.get(IdentityRow, key_of(identity)):
                raise AlreadyExists(f"{identity.client_id}: is registered")
            if identity.module_id and not session.get(IdentityRow, (identity.device_id, "")):
                raise UnknownIdentity(f"{identity.device_id}: no such device")
            row = IdentityRow(
                device_id=identity.device_id,
                module_id=identity.module_id,
                primary_key=primary,
                secondary_key=secondary,
                enabled=True,
                etag=new_etag(),
                created=time.time(),
            )
            session.add(row)
            session.flush()
            session.add(TwinRow(device_id=identity.device_id, module_id=identity.module_id))
            return device_of(row)

    def add_devices(self, keys: Mapping[str, str]) -> None:
        """Register devices, each with a base64 key, in one transaction; those that exist stay as they are.

        For thousands at once: 1,000 take as long as a few single ones. Raises ValueError.
        """
        now, rows = time.time(), []
        for device_id, key in keys.items():
            check_identity(Identity(device_id))
            secrets = {"primary_key": checked_key(key), "secondary_key": new_key()}
            record = {"device_id": device_id, "module_id": "", "enabled": True, "created": now}
            rows.append(record | secrets | {"etag": new_etag()})
        with self._write.begin() as session:
            insert_new(session, IdentityRow, rows)
            insert_new(session, TwinRow, [{"device_id": name, "module_id": ""} for name in keys])

    def enrol(self, enrollment: Enrollment, registration_id: str, thumbprint: str = "") -> Registration:
        """Make the device that an enrollment is for; one that is there gets the keys and keeps its twin.

        thumbprint: of the certificate that it showed, and will have to show from now on, if it has no key.
        Raises AlreadyExists if it did not come by registration: a group's key is no key to others' devices.
        """
        identity = Identity(enrollment.device_id or registration_id)
        if thumbprint:
            draft = Draft(identity, authentication="selfSigned", thumbprints=(thumbprint, ""))
        else:
            draft = Draft(identity, enrollment.device_keys(registration_id))
        first = TwinChange(enrollment.tags or None, enrollment.desired or None)
        try:
            self.fleet.create(draft, first)
        except AlreadyExists:
            if enrollment.grouped and self.enrollments.registration(registration_id) is None:
                raise
            self.fleet.rekey(draft)
        return self.enrollments.registered(registration_id, identity.device_id)

    def get(self, identity: Identity) -> Device | None:
        """The record of an identity; None if there is none."""
        with self._read.begin() as session:
            row = session.get(IdentityRow, key_of(identity))
            if row is None:
                return None
            parent = session.get_one(IdentityRow, (identity.device_id, "")) if identity.module_id else row
            return device_of(row, enabled=row.enabled and parent.enabled)

    def set_enabled(self, identity: Identity, enabled: bool) -> Device:
        """Let an identity connect, or not; a device speaks for its modules. Raises UnknownIdentity."""
        with self._write.begin() as session:
            row = identity_row(session, identity)
            row.enabled, row.etag = enabled, new_etag()
            if not enabled:
                announce(session, family(session, identity))
            return device_of(row)

    def remove(self, identity: Identity) -> None:
        """Forget an identity; of a device also its modules. Raises UnknownIdentity."""
        with self._write.begin() as session:
            identity_row(session, identity)
            forget(session, identity)

    def list(self, limit: int = 100, after: Identity | None = None) -> Sequence[Device]:
        """A page of identities in the order of their ids, starting behind `after`. At most MAX_PAGE."""
        rows = select(IdentityRow).order_by(IdentityRow.device_id, IdentityRow.module_id)
        if after is not None:
            rows = rows.where(tuple_(IdentityRow.device_id, IdentityRow.module_id) > tuple_(*key_of(after)))
        with self._read.begin() as session:
            return [device_of(row) for row in session.scalars(rows.limit(min(limit, MAX_PAGE)))]

    def twin(self, identity: Identity) -> Twin:
        """The twin of an identity. Raises UnknownIdentity."""
        with self._read.begin() as session:
            return twin_of(twin_row(session, identity))

    def patch_desired(self, identity: Identity, patch: Mapping[str, Any]) -> Twin:
        """Merge a patch into the desired properties; gateways push it. Raises TwinError, UnknownIdentity."""
        kept = checked(patch)
        with self._write.begin() as session:
            row = twin_row(session, identity)
            row.desired = encode_section(merge(msgspec.json.decode(row.desired), kept))
            row.desired_version += 1
            log_change(session, identity, row.desired_version, encode_section(kept))
            return twin_of(row)

    def patch_reported(self, identity: Identity, patch: Mapping[str, Any]) -> Twin:
        """Merge a patch into the reported properties. Raises TwinError, UnknownIdentity."""
        kept = checked(patch)
        with self._shared.begin() as session:
            row = twin_row(session, identity)
            row.reported = encode_section(merge(msgspec.json.decode(row.reported), kept))
            row.reported_version += 1
            return twin_of(row)

    def subscriptions(self, identity: Identity) -> frozenset[str]:
        """Topic filters that an identity keeps between connections; none if it is unknown."""
        with self._read.begin() as session:
            row = session.get(IdentityRow, key_of(identity))
            return frozenset(msgspec.json.decode(row.subscriptions)) if row else frozenset()

    def set_subscriptions(self, identity: Identity, filters: Collection[str]) -> None:
        """Replace the kept topic filters. Raises UnknownIdentity."""
        with self._shared.begin() as session:
            identity_row(session, identity).subscriptions = msgspec.json.encode(sorted(filters)).decode()

    def record(self, heard: Mapping[Identity, float]) -> None:
        """Write down, in one go, when identities were last heard of. Those that are gone are passed over."""
        with self._shared.begin() as session:
            for identity, at in sorted(heard.items()):  # as all writers: no two wait for each other
                row = update(IdentityRow).where(is_identity(identity))
                session.execute(row.values(last_activity=at))

    def last_change(self) -> int:
        """Number of the latest change, 0 if there was none."""
        with self._read.begin() as session:
            return session.scalar(select(func.max(ChangeRow.seq))) or 0

    def changes(self, after_seq: int) -> Sequence[Change]:
        """The first CHANGES_PAGE changes behind a number. Raises ChangesLost if the log begins later."""
        with self._read.begin() as session:
            first = session.scalar(select(func.min(ChangeRow.seq)))
            if first is not None and after_seq < first - 1:
                raise ChangesLost(f"changes after {after_seq}: the log begins at {first}")
            rows = select(ChangeRow).where(ChangeRow.seq > after_seq).order_by(ChangeRow.seq)
            return [change_of(row) for row in session.scalars(rows.limit(CHANGES_PAGE))]

    def feed(self) -> ChangeFeed:
        """The changes from now on."""
        return ChangeFeed(self._engine, self.changes, self.last_change)


def _steady(engine: Engine) -> Engine:
    """Readers that see one state throughout a transaction, as SQLite's always do."""
    return (
        engine
        if engine.dialect.name == "sqlite"
        else engine.execution_options(isolation_level="REPEATABLE READ")
    )
