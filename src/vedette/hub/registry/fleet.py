"""The registry as the service API sees it: create, update and delete with ETags, tags, whole twins, counts.

A condition (`if_match`) is an ETag, `*` for "whatever it is, but it must be there", or None for no condition.
Every call is one transaction and blocks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, and_, case, func, null, select, text, tuple_
from sqlalchemy.orm import Session, sessionmaker

from vedette.hub.registry.conditions import ALWAYS, Condition, Path
from vedette.hub.registry.messages import waiting
from vedette.hub.registry.metadata import MetadataRow, metadata_of
from vedette.hub.registry.patience import limited
from vedette.hub.registry.profiles import (
    MAX_TAGS_BYTES,
    Draft,
    Entry,
    Profile,
    ProfileRow,
    profile_of,
    profile_row,
)
from vedette.hub.registry.query import QueryError
from vedette.hub.registry.records import AlreadyExists, Outdated, UnknownIdentity
from vedette.hub.registry.rows import (
    announce,
    check_identity,
    checked_key,
    device_of,
    family,
    forget,
    identity_row,
    key_of,
    log_change,
    new_etag,
    new_key,
    twin_of,
    twin_row,
)
from vedette.hub.registry.schema import IdentityRow, TwinRow
from vedette.hub.registry.sql import WAITING, Translation
from vedette.hub.registry.twins import checked, difference, encode_section, merge
from vedette.wire.iothub import Identity

MAX_MODULES = 50
"""Modules of one device: the real service's limit."""

MAX_ENTRIES = 1_000
"""Entries of one page."""


class TwinChange(msgspec.Struct, frozen=True):
    """Changes of a twin by its owner; None leaves a section alone."""

    tags: dict[str, Any] | None = None
    desired: dict[str, Any] | None = None


class Counts(msgspec.Struct, frozen=True):
    """Devices (modules do not count): all, those that may connect, those that are connected."""

    devices: int
    enabled: int
    connected: int


class Fleet:
    """Identities with everything that is registered of them."""

    def __init__(self, read: sessionmaker[Session], write: sessionmaker[Session]) -> None:
        self._read = read
        self._write = write

    def get(self, identity: Identity) -> Entry:
        """Raises UnknownIdentity."""
        with self._read.begin() as session:
            return _entry(session, identity)

    def profile(self, identity: Identity) -> Profile:
        """How an identity authenticates, and its tags; the default one if it is unknown."""
        with self._read.begin() as session:
            return profile_of(session.get(ProfileRow, key_of(identity)))

    def modules(self, device_id: str) -> Sequence[Entry]:
        """The modules of a device. Raises UnknownIdentity (the device)."""
        with self._read.begin() as session:
            identity_row(session, Identity(device_id))
            return [_entry(session, who) for who in family(session, Identity(device_id)) if who.module_id]

    def page(
        self,
        limit: int,
        after: Identity | None = None,
        *,
        modules: bool = False,
        condition: Condition = ALWAYS,
    ) -> Sequence[Entry]:
        """Devices, or modules, in the order of their ids, starting behind `after`. At most MAX_ENTRIES.

        condition: of those alone that it holds for. Raises QueryError if that takes too long.
        """
        columns = (IdentityRow, TwinRow, ProfileRow, WAITING, MetadataRow)
        with self._read.begin() as session, limited(session):
            rows = (
                _chosen(select(*columns), session, condition, modules=modules)
                .order_by(IdentityRow.device_id, IdentityRow.module_id)
                .limit(min(limit, MAX_ENTRIES))
            )
            if after is not None:
                place = tuple_(IdentityRow.device_id, IdentityRow.module_id)
                rows = rows.where(place > tuple_(*key_of(after)))
            return [
                Entry(device_of(row), profile_of(profile), twin_of(twin), count, metadata_of(kept))
                for row, twin, profile, count, kept in session.execute(rows)
            ]

    def groups(
        self, path: Path, *, modules: bool = False, condition: Condition = ALWAYS, limit: int
    ) -> Counter[str]:
        """How many devices, or modules, have which value (JSON) at a path of their twin.

        path: empty for the number of all. Raises QueryError for more than `limit` values, or if it takes too
        long.
        """
        with self._read.begin() as session, limited(session):
            translation = Translation(session.get_bind().dialect.name, modules=modules)
            value = translation.group(path) if path else null()
            rows = _chosen(select(value, func.count()), session, condition, modules=modules)
            found = session.execute((rows.group_by(text("1")) if path else rows).limit(limit + 1)).all()
        if len(found) > limit:
            raise QueryError(f"query: more than {limit} groups")
        counted: Counter[str] = Counter()
        for key, number in found:
            counted[translation.grouped(path, key) if path else "null"] += number
        return counted

    def counts(self) -> Counts:
        """How many devices there are."""
        sums = select(
            func.count(),
            func.coalesce(func.sum(case((IdentityRow.enabled, 1), else_=0)), 0),
            func.coalesce(func.sum(case((IdentityRow.gateway != "", 1), else_=0)), 0),
        ).where(IdentityRow.module_id == "")
        with self._read.begin() as session:
            return Counts(*session.execute(sums).one())

    def create(self, draft: Draft, change: TwinChange | None = None) -> Entry:
        """Register an identity. Raises AlreadyExists, UnknownIdentity (a module's device), ValueError."""
        identity = draft.identity
        check_identity(identity)
        with self._write.begin() as session:
            if session.get(IdentityRow, key_of(identity)):
                raise AlreadyExists(f"{identity.client_id}: is registered")
            if identity.module_id:
                _check_room_for_module(session, identity.device_id)
            keys = draft.keys or (new_key(), new_key())
            row = IdentityRow(device_id=identity.device_id, module_id=identity.module_id, created=time.time())
            _assign(row, draft, keys)
            session.add(row)
            session.flush()
            session.add(TwinRow(device_id=identity.device_id, module_id=identity.module_id))
            _describe(session, draft)
            session.flush()
            if change:
                _change_twin(session, identity, change, merge)
            return _entry(session, identity)

    def update(self, draft: Draft, if_match: str | None) -> Entry:
        """Change a record. Raises UnknownIdentity, Outdated, ValueError.

        A connection of an identity that may not connect any more, or has other credentials, ends.
        """
        identity = draft.identity
        with self._write.begin() as session:
            row = identity_row(session, identity)
            _check_etag(if_match, row.etag)
            before = _credentials(session, row)
            _assign(row, draft, draft.keys or (row.primary_key, row.secondary_key))
            _describe(session, draft)
            session.flush()
            if not row.enabled:
                announce(session, family(session, identity))
            elif before != _credentials(session, row):
                announce(session, [identity])
            return _entry(session, identity)

    def rekey(self, draft: Draft) -> None:
        """Have an identity prove itself as drafted; nothing else of it changes. Raises UnknownIdentity."""
        with self._write.begin() as session:
            row = identity_row(session, draft.identity)
            before = _credentials(session, row)
            if draft.keys:
                row.primary_key, row.secondary_key = map(checked_key, draft.keys)
            profile = profile_row(session, draft.identity)
            profile.authentication = draft.authentication
            profile.primary_thumbprint, profile.secondary_thumbprint = draft.thumbprints
            if before != _credentials(session, row):
                row.etag = new_etag()
                announce(session, [draft.identity])

    def delete(self, identity: Identity, if_match: str | None = None) -> None:
        """Forget an identity; of a device also its modules. Raises UnknownIdentity, Outdated."""
        with self._write.begin() as session:
            _check_etag(if_match, identity_row(session, identity).etag)
            forget(session, identity)

    def patch_twin(self, identity: Identity, change: TwinChange, if_match: str | None = None) -> Entry:
        """Merge into tags and desired properties. Raises UnknownIdentity, Outdated, TwinError."""
        return self._write_twin(identity, change, if_match, merge)

    def replace_twin(self, identity: Identity, change: TwinChange, if_match: str | None = None) -> Entry:
        """Replace tags and desired properties. Raises UnknownIdentity, Outdated, TwinError."""
        return self._write_twin(identity, change, if_match, lambda _, new: merge({}, new))

    def _write_twin(
        self, identity: Identity, change: TwinChange, if_match: str | None, how: _Combine
    ) -> Entry:
        with self._write.begin() as session:
            identity_row(session, identity)
            _check_etag(if_match, _entry(session, identity).twin_etag)
            _change_twin(session, identity, change, how)
            return _entry(session, identity)


def _chosen(
    rows: Select[*tuple[Any, ...]], session: Session, condition: Condition, *, modules: bool
) -> Select[*tuple[Any, ...]]:
    """Of the devices, or modules, with their twins and profiles, those that a condition holds for."""
    translation = Translation(session.get_bind().dialect.name, modules=modules)
    return (
        rows.select_from(IdentityRow)
        .join(TwinRow, _same(TwinRow))
        .outerjoin(ProfileRow, _same(ProfileRow))
        .outerjoin(MetadataRow, _same(MetadataRow))
        .where(IdentityRow.module_id != "" if modules else IdentityRow.module_id == "")
        .where(translation.condition(condition))
    )


def _same(table: type[TwinRow | ProfileRow | MetadataRow]) -> ColumnElement[bool]:
    return and_(table.device_id == IdentityRow.device_id, table.module_id == IdentityRow.module_id)


_Combine = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


def _entry(session: Session, identity: Identity) -> Entry:
    row = session.get(IdentityRow, key_of(identity))
    if row is None:
        raise UnknownIdentity(f"{identity.client_id}: no such device or module")
    profile = profile_of(session.get(ProfileRow, key_of(identity)))
    count = 0 if identity.module_id else waiting(session, identity.device_id)
    kept = metadata_of(session.get(MetadataRow, key_of(identity)))
    return Entry(device_of(row), profile, twin_of(twin_row(session, identity)), count, kept)


def _check_etag(if_match: str | None, etag: str) -> None:
    if if_match not in (None, "*", etag):
        raise Outdated("ETag: it has changed meanwhile; read it again")


def _check_room_for_module(session: Session, device_id: str) -> None:
    identity_row(session, Identity(device_id))
    if len(family(session, Identity(device_id))) > MAX_MODULES:
        raise ValueError(f"moduleId: {MAX_MODULES} modules a device are allowed")


def _assign(row: IdentityRow, draft: Draft, keys: tuple[str, str]) -> None:
    row.primary_key, row.secondary_key = map(checked_key, keys)
    row.enabled, row.etag = draft.enabled, new_etag()


def _describe(session: Session, draft: Draft) -> None:
    profile = profile_row(session, draft.identity)
    profile.authentication, profile.status_reason = draft.authentication, draft.status_reason
    profile.primary_thumbprint, profile.secondary_thumbprint = draft.thumbprints


def _credentials(session: Session, row: IdentityRow) -> tuple[object, ...]:
    profile = profile_of(session.get(ProfileRow, (row.device_id, row.module_id)))
    thumbprints = profile.primary_thumbprint, profile.secondary_thumbprint
    return row.primary_key, row.secondary_key, profile.authentication, *thumbprints


def _change_twin(session: Session, identity: Identity, change: TwinChange, how: _Combine) -> None:
    if change.tags is not None:
        profile = profile_row(session, identity)
        tags = how(msgspec.json.decode(profile.tags), checked(change.tags, MAX_TAGS_BYTES))
        profile.tags, profile.tags_version = encode_section(tags, MAX_TAGS_BYTES), profile.tags_version + 1
    if change.desired is not None:
        row = twin_row(session, identity)
        before = msgspec.json.decode(row.desired)
        given = checked(change.desired)
        after = how(before, given)
        row.desired, row.desired_version = encode_section(after), row.desired_version + 1
        # A merge is pushed as it was given; of a replacement, what leads from the old to the new.
        patch = given if how is merge else difference(before, after)
        log_change(session, identity, row.desired_version, msgspec.json.encode(patch).decode())
    session.flush()
