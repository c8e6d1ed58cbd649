"""Rows as the registry's parts share them: finding them, turning them into records, noting their changes."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, and_, delete, func, insert, inspect, select
from sqlalchemy.orm import Session

from vedette.hub.registry.records import Change, Device, UnknownIdentity
from vedette.hub.registry.schema import BEGIN, WRITE, ChangeRow, IdentityRow, OfDevice, TwinRow
from vedette.hub.registry.twins import Twin
from vedette.wire.iothub import Identity, valid_id

KEY_BYTES = 32
"""Length of a generated key, as the real service's."""

MIN_KEY_BYTES, MAX_KEY_BYTES = 16, 64
"""Lengths that the real service accepts for a key given by the owner."""

CHANGES_KEPT = 10_000
"""Length of the change log. A gateway reads it four times a second; one that was away for longer than this
many changes drops its connections, and devices read their twin anew."""


def key_of(identity: Identity) -> tuple[str, str]:
    """Primary key of its rows."""
    return identity.device_id, identity.module_id


def is_identity(identity: Identity) -> ColumnElement[bool]:
    """Condition: the row is this identity's."""
    return and_(IdentityRow.device_id == identity.device_id, IdentityRow.module_id == identity.module_id)


def identity_row(session: Session, identity: Identity) -> IdentityRow:
    """Its record, locked if the session writes and the database locks rows. Raises UnknownIdentity."""
    row = session.get(IdentityRow, key_of(identity), with_for_update=_writes(session))
    if row is None:
        raise UnknownIdentity(f"{identity.client_id}: no such device or module")
    return row


def twin_row(session: Session, identity: Identity) -> TwinRow:
    """Its twin, locked likewise. Raises UnknownIdentity."""
    row = session.get(TwinRow, key_of(identity), with_for_update=_writes(session))
    if row is None:
        raise UnknownIdentity(f"{identity.client_id}: no such device or module")
    return row


def _writes(session: Session) -> bool:
    """True if the session's transaction is for writing."""
    return BEGIN in session.connection().get_execution_options()


def family(session: Session, identity: Identity) -> Sequence[Identity]:
    """A module alone, or a device with its modules."""
    if identity.module_id:
        return [identity]
    modules = session.scalars(
        select(IdentityRow.module_id)
        .where(IdentityRow.device_id == identity.device_id)
        .order_by(IdentityRow.module_id)
    )
    return [Identity(identity.device_id, module) for module in modules]


def announce(session: Session, identities: Sequence[Identity]) -> None:
    """Have gateways end the connections of these identities."""
    for identity in identities:
        log_change(session, identity, 0, None)


def forget(session: Session, identity: Identity) -> None:
    """Drop an identity; of a device also its modules, and what was made of its reports. Alerts stay."""
    members = family(session, identity)
    announce(session, members)
    for member in members:
        session.execute(delete(IdentityRow).where(is_identity(member)))  # twins and the like go with it
    if not identity.module_id:
        for table in OfDevice.__subclasses__():
            session.execute(delete(table).where(inspect(table).c.device_id == identity.device_id))


def log_change(session: Session, identity: Identity, version: int, patch: str | None) -> None:
    """Note what gateways have to act on; the log keeps its length."""
    how = session.connection().get_execution_options().get(BEGIN)
    assert how == WRITE, "changes are numbered by one writer after the other"
    seq = (session.scalar(select(func.max(ChangeRow.seq))) or 0) + 1
    session.execute(
        insert(ChangeRow).values(
            seq=seq, device_id=identity.device_id, module_id=identity.module_id, version=version, patch=patch
        )
    )
    session.execute(delete(ChangeRow).where(ChangeRow.seq <= seq - CHANGES_KEPT))


def device_of(row: IdentityRow, *, enabled: bool | None = None) -> Device:
    """The record that a row holds; `enabled` replaces the row's own."""
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


def twin_of(row: TwinRow) -> Twin:
    """The twin that a row holds."""
    return Twin(
        Identity(row.device_id, row.module_id),
        msgspec.json.decode(row.desired),
        row.desired_version,
        msgspec.json.decode(row.reported),
        row.reported_version,
    )


def change_of(row: ChangeRow) -> Change:
    """The change that a row holds."""
    patch = None if row.patch is None else msgspec.json.decode(row.patch)
    return Change(row.seq, Identity(row.device_id, row.module_id), row.version, patch)


def check_identity(identity: Identity) -> None:
    """Raise ValueError unless both ids may be used."""
    if not valid_id(identity.device_id) or (identity.module_id and not valid_id(identity.module_id)):
        raise ValueError("identity: an id is empty, too long or holds a character that ids may not")


def new_key() -> str:
    """A random key, base64."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def checked_key(key: str) -> str:
    """A given key. Raises ValueError without showing it."""
    try:
        raw = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("key: not base64") from None
    if not MIN_KEY_BYTES <= len(raw) <= MAX_KEY_BYTES:
        raise ValueError(f"key: {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes are needed")
    return key


def new_etag() -> str:
    """A random ETag."""
    return secrets.token_urlsafe(9)
