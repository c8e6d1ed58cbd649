"""Enrollments: which devices may register themselves, singly or as a group, and what they become.

A device of a group with a symmetric key proves that it knows base64(HMAC-SHA256(group key, registration id));
one of a group with certificates, that the group's authority issued its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sqlalchemy import ForeignKeyConstraint, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship, sessionmaker

from vedette.hub.registry.authorities import authority_of
from vedette.hub.registry.profiles import MAX_TAGS_BYTES
from vedette.hub.registry.records import AlreadyExists, RegistryError, Veiled
from vedette.hub.registry.rows import checked_key, new_etag, new_key
from vedette.hub.registry.schema import Base, Secret
from vedette.hub.registry.twins import checked, encode_section
from vedette.wire.dps import device_key
from vedette.wire.iothub import valid_id

MAX_ENROLLMENTS = 1_000
"""Of one listing."""


MAX_CERTIFICATES = 2
"""Of one enrollment, as in the real service: one in use, and the next."""


class UnknownEnrollment(RegistryError):
    """No such enrollment."""


class EnrollmentRow(Base):
    """One enrollment. name: of the group, or the registration id. tags, desired: JSON of the first twin.

    device_id: of an individual one, empty for the registration id. created: Unix seconds.
    """

    __tablename__ = "enrollments"

    grouped: Mapped[bool] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    primary_key: Mapped[Secret]
    secondary_key: Mapped[Secret]
    device_id: Mapped[str] = mapped_column(default="")
    enabled: Mapped[bool] = mapped_column(default=True)
    tags: Mapped[str] = mapped_column(default="{}")
    desired: Mapped[str] = mapped_column(default="{}")
    etag: Mapped[str]
    created: Mapped[float]
    certificates: Mapped[list[EnrollmentCertificateRow]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by="EnrollmentCertificateRow.position"
    )


class EnrollmentCertificateRow(Base):
    """A certificate instead of keys, as PEM text. position: 0, 1."""

    __tablename__ = "enrollment_certificates"
    __table_args__ = (
        ForeignKeyConstraint(
            ["grouped", "name"], ["enrollments.grouped", "enrollments.name"], ondelete="CASCADE"
        ),
    )

    grouped: Mapped[bool] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    certificate: Mapped[str]


class RegistrationRow(Base):
    """What a device became that registered itself. created, updated: Unix seconds."""

    __tablename__ = "registrations"

    registration_id: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str]
    etag: Mapped[str]
    created: Mapped[float]
    updated: Mapped[float]


class Enrollment(Veiled, frozen=True):
    """See EnrollmentRow.

    certificates: PEM, one or two: the device's own, or those of the authorities that issue a group's. With
    them there are no keys.
    """

    SHOWN = ("name", "grouped", "enabled")

    name: str
    grouped: bool
    primary_key: str = ""
    secondary_key: str = ""
    device_id: str = ""
    enabled: bool = True
    tags: dict[str, Any] = msgspec.field(default_factory=dict)
    desired: dict[str, Any] = msgspec.field(default_factory=dict)
    certificates: tuple[str, ...] = ()

    def device_keys(self, registration_id: str) -> tuple[str, str]:
        """The keys that a device with this registration id has to know."""
        if not self.grouped:
            return self.primary_key, self.secondary_key
        return device_key(self.primary_key, registration_id), device_key(self.secondary_key, registration_id)


class Registration(msgspec.Struct, frozen=True):
    """See RegistrationRow."""

    registration_id: str
    device_id: str
    etag: str
    created: float
    updated: float


class Enrollments:
    """The enrollments of a hub, and the registrations that came of them."""

    def __init__(self, read: sessionmaker[Session], write: sessionmaker[Session]) -> None:
        self._read = read
        self._write = write

    def add(self, wanted: Enrollment) -> Enrollment:
        """Keep an enrollment, with new keys unless it has its own. Raises AlreadyExists, ValueError."""
        if not valid_id(wanted.name) or (wanted.device_id and not valid_id(wanted.device_id)):
            raise ValueError("enrollment: an id is empty, too long or holds a character that ids may not")
        if wanted.grouped and wanted.device_id:
            raise ValueError("enrollment: a group has no device id")
        certificates = _checked_certificates(wanted)
        primary, secondary = ("", "") if certificates else _keys(wanted)
        row = EnrollmentRow(
            grouped=wanted.grouped,
            name=wanted.name,
            primary_key=primary,
            secondary_key=secondary,
            device_id=wanted.device_id,
            enabled=wanted.enabled,
            tags=encode_section(checked(wanted.tags, MAX_TAGS_BYTES), MAX_TAGS_BYTES),
            desired=encode_section(checked(wanted.desired)),
            etag=new_etag(),
            created=time.time(),
            certificates=[
                EnrollmentCertificateRow(position=position, certificate=pem)
                for position, pem in enumerate(certificates)
            ],
        )
        with self._write.begin() as session:
            if session.get(EnrollmentRow, (wanted.grouped, wanted.name)):
                raise AlreadyExists(f"{wanted.name}: there is such an enrollment")
            session.add(row)
            session.flush()
            return _enrollment(row)

    def get(self, name: str, *, grouped: bool) -> Enrollment:
        """Raises UnknownEnrollment."""
        with self._read.begin() as session:
            return _enrollment(_row(session, name, grouped=grouped))

    def list(self, limit: int = MAX_ENROLLMENTS) -> Sequence[Enrollment]:
        """Individual ones, then groups, by name; at most MAX_ENROLLMENTS."""
        rows = select(EnrollmentRow).order_by(EnrollmentRow.grouped, EnrollmentRow.name)
        with self._read.begin() as session:
            return [_enrollment(row) for row in session.scalars(rows.limit(min(limit, MAX_ENROLLMENTS)))]

    def remove(self, name: str, *, grouped: bool) -> None:
        """Forget one; the devices that came of it stay. Raises UnknownEnrollment."""
        with self._write.begin() as session:
            session.delete(_row(session, name, grouped=grouped))

    def candidates(self, registration_id: str) -> Sequence[Enrollment]:
        """The enrollments that a registration id may belong to: its own if there is one, else every group."""
        with self._read.begin() as session:
            own = session.get(EnrollmentRow, (False, registration_id))
            if own is not None:
                return [_enrollment(own)]
            groups = select(EnrollmentRow).where(EnrollmentRow.grouped).order_by(EnrollmentRow.name)
            return [_enrollment(row) for row in session.scalars(groups.limit(MAX_ENROLLMENTS))]

    def registered(self, registration_id: str, device_id: str) -> Registration:
        """Write down what a device became, or that it registered again."""
        now = time.time()
        with self._write.begin() as session:
            row = session.get(RegistrationRow, registration_id)
            if row is None:
                row = RegistrationRow(registration_id=registration_id, created=now)
                session.add(row)
            row.device_id, row.updated, row.etag = device_id, now, new_etag()
            session.flush()
            return _registration(row)

    def registration(self, registration_id: str) -> Registration | None:
        """What a device became; None if it has not registered."""
        with self._read.begin() as session:
            row = session.get(RegistrationRow, registration_id)
            return _registration(row) if row else None

    def registrations(self, since: float, limit: int = MAX_ENROLLMENTS) -> Sequence[Registration]:
        """Devices that registered, or did so again, since a time (Unix seconds); the latest first."""
        rows = (
            select(RegistrationRow)
            .where(RegistrationRow.updated >= since)
            .order_by(RegistrationRow.updated.desc())
            .limit(min(limit, MAX_ENROLLMENTS))
        )
        with self._read.begin() as session:
            return [_registration(row) for row in session.scalars(rows)]

    def forget(self, registration_id: str) -> None:
        """Drop a registration; the device stays."""
        with self._write.begin() as session:
            session.execute(delete(RegistrationRow).where(RegistrationRow.registration_id == registration_id))


def _keys(wanted: Enrollment) -> tuple[str, str]:
    """Its own, or new ones. Raises ValueError."""
    return checked_key(wanted.primary_key or new_key()), checked_key(wanted.secondary_key or new_key())


def _checked_certificates(wanted: Enrollment) -> list[str]:
    """Each one's PEM text and nothing else. Raises ValueError."""
    if not wanted.certificates:
        return []
    if wanted.primary_key or wanted.secondary_key:
        raise ValueError("enrollment: has either keys or certificates")
    if len(wanted.certificates) > MAX_CERTIFICATES:
        raise ValueError(f"certificates: {MAX_CERTIFICATES} are allowed")
    read = authority_of if wanted.grouped else _certificate
    found = [read(pem.encode()) for pem in wanted.certificates]
    return [one.public_bytes(serialization.Encoding.PEM).decode() for one in found]


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise ValueError("certificate: not the PEM text of one") from None


def _row(session: Session, name: str, *, grouped: bool) -> EnrollmentRow:
    row = session.get(EnrollmentRow, (grouped, name))
    if row is None:
        raise UnknownEnrollment(f"{name}: no such {'group' if grouped else 'individual'} enrollment")
    return row


def _enrollment(row: EnrollmentRow) -> Enrollment:
    return Enrollment(
        row.name,
        row.grouped,
        row.primary_key,
        row.secondary_key,
        row.device_id,
        row.enabled,
        msgspec.json.decode(row.tags),
        msgspec.json.decode(row.desired),
        tuple(one.certificate for one in row.certificates),
    )


def _registration(row: RegistrationRow) -> Registration:
    return Registration(row.registration_id, row.device_id, row.etag, row.created, row.updated)
