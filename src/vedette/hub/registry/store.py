"""The registry: devices, modules, keys, twins, and the changes that gateways pick up.

Every call is one transaction and blocks; call it from a thread. Several processes may use one database.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, delete, func, insert, select, tuple_, update
from sqlalchemy.orm import Session, sessionmaker

from vedette.hub.registry.feed import ChangeFeed
from vedette.hub.registry.records import (
    CHANGES_PAGE,
    Activity,
    AlreadyExists,
    Change,
    ChangesLost,
    Device,
    UnknownIdentity,
)
from vedette.hub.registry.schema import BEGIN, ChangeRow, IdentityRow, TwinRow, open_engine
from vedette.hub.registry.twins import Twin, checked, encode_section, merge
from vedette.wire.iothub import Identity, valid_id

KEY_BYTES = 32
"""Length of a generated key, as the real service's."""

MIN_KEY_BYTES, MAX_KEY_BYTES = 16, 64
"""Lengths that the real service accepts for a key given by the owner."""

CHANGES_KEPT = 10_000
"""Length of the change log. A gateway reads it four times a second; one that was away for longer than this
many changes drops its connections, and devices read their twin anew."""

MAX_PAGE = 1_000
"""Identities of one `list`."""


class Registry:
    """The registry at a database URL, such as `sqlite:////var/lib/vedette/registry.db`.

    Raises RegistryError if the database was written by a newer version.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)
        self._read = sessionmaker(self._engine)
        self._write = sessionmaker(self._engine.execution_options(**{BEGIN: "BEGIN IMMEDIATE"}))

    def close(self) -> None:
        """Close every connection to the database."""
        self._engine.dispose()

    def add(self, identity: Identity, *, keys: tuple[str, str] | None = None) -> Device:
        """Register a device, or a module of a registered device, with new keys or the given base64 ones.

        Raises AlreadyExists, UnknownIdentity (the device of a module), ValueError (an id or a key is wrong).
        """
        _check_identity(identity)
        primary, secondary = map(_checked_key, keys) if keys else (_new_key(), _new_key())
        with self._write.begin() as session:
            if session.get(IdentityRow, _key(identity)):
                raise AlreadyExists(f"{identity.client_id}: is registered")
            if identity.module_id and not session.get(IdentityRow, (identity.device_id, "")):
                raise UnknownIdentity(f"{identity.device_id}: no such device")
            row = IdentityRow(
                device_id=identity.device_id,
                module_id=identity.module_id,
                primary_key=primary,
                secondary_key=secondary,
                enabled=True,
                etag=_new_etag(),
                created=time.time(),
            )
            session.add(row)
            session.flush()
            session.add(TwinRow(device_id=identity.device_id, module_id=identity.module_id))
            return _device(row)

    def get(self, identity: Identity) -> Device | None:
        """The record of an identity; None if there is none."""
        with self._read.begin() as session:
            row = session.get(IdentityRow, _key(identity))
            if row is None:
                return None
            parent = session.get_one(IdentityRow, (identity.device_id, "")) if identity.module_id else row
            return _device(row, enabled=row.enabled and parent.enabled)

    def set_enabled(self, identity: Identity, enabled: bool) -> Device:
        """Let an identity connect, or not; a device speaks for its modules. Raises UnknownIdentity."""
        with self._write.begin() as session:
            row = _row(session, identity)
            row.enabled, row.etag = enabled, _new_etag()
            if not enabled:
                _announce(session, _family(session, identity))
            return _device(row)

    def remove(self, identity: Identity) -> None:
        """Forget an identity; of a device also its modules. Raises UnknownIdentity."""
        with self._write.begin() as session:
            _row(session, identity)
            family = _family(session, identity)
            _announce(session, family)
            for member in family:
                session.execute(delete(IdentityRow).where(_is(member)))  # its twin goes with it

    def list(self, limit: int = 100, after: Identity | None = None) -> Sequence[Device]:
        """A page of identities in the order of their ids, starting behind `after`. At most MAX_PAGE."""
        rows = select(IdentityRow).order_by(IdentityRow.device_id, IdentityRow.module_id)
        if after is not None:
            rows = rows.where(tuple_(IdentityRow.device_id, IdentityRow.module_id) > tuple_(*_key(after)))
        with self._read.begin() as session:
            return [_device(row) for row in session.scalars(rows.limit(min(limit, MAX_PAGE)))]

    def twin(self, identity: Identity) -> Twin:
        """The twin of an identity. Raises UnknownIdentity."""
        with self._read.begin() as session:
            return _twin(_twin_row(session, identity))

    def patch_desired(self, identity: Identity, patch: Mapping[str, Any]) -> Twin:
        """Merge a patch into the desired properties; gateways push it. Raises TwinError, UnknownIdentity."""
        kept = checked(patch)
        with self._write.begin() as session:
            row = _twin_row(session, identity)
            row.desired = encode_section(merge(msgspec.json.decode(row.desired), kept))
            row.desired_version += 1
            _log_change(session, identity, row.desired_version, encode_section(kept))
            return _twin(row)

    def patch_reported(self, identity: Identity, patch: Mapping[str, Any]) -> Twin:
        """Merge a patch into the reported properties. Raises TwinError, UnknownIdentity."""
        kept = checked(patch)
        with self._write.begin() as session:
            row = _twin_row(session, identity)
            row.reported = encode_section(merge(msgspec.json.decode(row.reported), kept))
            row.reported_version += 1
            return _twin(row)

    def subscriptions(self, identity: Identity) -> frozenset[str]:
        """Topic filters that an identity keeps between connections; none if it is unknown."""
        with self._read.begin() as session:
            row = session.get(IdentityRow, _key(identity))
            return frozenset(msgspec.json.decode(row.subscriptions)) if row else frozenset()

    def set_subscriptions(self, identity: Identity, filters: Collection[str]) -> None:
        """Replace the kept topic filters. Raises UnknownIdentity."""
        with self._write.begin() as session:
            _row(session, identity).subscriptions = msgspec.json.encode(sorted(filters)).decode()

    def record(self, gateway: str, activity: Mapping[Identity, Activity]) -> None:
        """Write down, in one go, what a gateway saw. Identities that are gone are passed over.

        A gateway says "not connected" only of identities that it held itself: a device may have moved on.
        """
        with self._write.begin() as session:
            for identity, seen in activity.items():
                where = [_is(identity)]
                if not seen.connected:
                    where.append(IdentityRow.gateway == gateway)
                session.execute(
                    update(IdentityRow)
                    .where(*where)
                    .values(gateway=gateway if seen.connected else "", last_activity=seen.seen)
                )

    def release(self, gateway: str) -> None:
        """Forget the connections of a gateway: it starts anew, or has ended."""
        with self._write.begin() as session:
            session.execute(update(IdentityRow).where(IdentityRow.gateway == gateway).values(gateway=""))

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
            return [_change(row) for row in session.scalars(rows.limit(CHANGES_PAGE))]

    def feed(self) -> ChangeFeed:
        """The changes from now on."""
        return ChangeFeed(self._engine, self.changes, self.last_change)


def _key(identity: Identity) -> tuple[str, str]:
    return identity.device_id, identity.module_id


def _is(identity: Identity) -> ColumnElement[bool]:
    return and_(IdentityRow.device_id == identity.device_id, IdentityRow.module_id == identity.module_id)


def _row(session: Session, identity: Identity) -> IdentityRow:
    row = session.get(IdentityRow, _key(identity), with_for_update=True)
    if row is None:
        raise UnknownIdentity(f"{identity.client_id}: no such device or module")
    return row


def _twin_row(session: Session, identity: Identity) -> TwinRow:
    row = session.get(TwinRow, _key(identity), with_for_update=True)
    if row is None:
        raise UnknownIdentity(f"{identity.client_id}: no such device or module")
    return row


def _family(session: Session, identity: Identity) -> Sequence[Identity]:
    """A module alone, or a device with its modules."""
    if identity.module_id:
        return [identity]
    modules = session.scalars(
        select(IdentityRow.module_id).where(IdentityRow.device_id == identity.device_id)
    )
    return [Identity(identity.device_id, module) for module in modules]


def _announce(session: Session, identities: Sequence[Identity]) -> None:
    """Have gateways end the connections of these identities."""
    for identity in identities:
        _log_change(session, identity, 0, None)


def _log_change(session: Session, identity: Identity, version: int, patch: str | None) -> None:
    seq = session.scalar(
        insert(ChangeRow)
        .values(device_id=identity.device_id, module_id=identity.module_id, version=version, patch=patch)
        .returning(ChangeRow.seq)
    )
    session.execute(delete(ChangeRow).where(ChangeRow.seq <= (seq or 0) - CHANGES_KEPT))


def _device(row: IdentityRow, *, enabled: bool | None = None) -> Device:
    return Device(
        Identity(row.device_id, row.module_id),
        row.primary_key,
        row.secondary_key,
        row.enabled if enabled is None else enabled,
        row.etag,
        row.created,
        row.gateway or "",
        row.last_activity,
    )


def _twin(row: TwinRow) -> Twin:
    return Twin(
        Identity(row.device_id, row.module_id),
        msgspec.json.decode(row.desired),
        row.desired_version,
        msgspec.json.decode(row.reported),
        row.reported_version,
    )


def _change(row: ChangeRow) -> Change:
    patch = None if row.patch is None else msgspec.json.decode(row.patch)
    return Change(row.seq, Identity(row.device_id, row.module_id), row.version, patch)


def _check_identity(identity: Identity) -> None:
    if not valid_id(identity.device_id) or (identity.module_id and not valid_id(identity.module_id)):
        raise ValueError("identity: an id is empty, too long or holds a character that ids may not")


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _checked_key(key: str) -> str:
    """A given key. Raises ValueError without showing it."""
    try:
        raw = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("key: not base64") from None
    if not MIN_KEY_BYTES <= len(raw) <= MAX_KEY_BYTES:
        raise ValueError(f"key: {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes are needed")
    return key


def _new_etag() -> str:
    return secrets.token_urlsafe(9)
