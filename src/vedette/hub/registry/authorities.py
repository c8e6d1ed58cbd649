"""Certificate authorities whose devices are let in."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.records import AlreadyExists, RegistryError
from vedette.hub.registry.schema import Base
from vedette.wire.iothub import valid_id

MAX_AUTHORITIES = 25
"""The real service's limit; each is tried for every device that comes with a certificate of one."""


class UnknownAuthority(RegistryError):
    """No such authority."""


class AuthorityRow(Base):
    """One authority. certificate: PEM. created: Unix seconds."""

    __tablename__ = "authorities"

    name: Mapped[str] = mapped_column(primary_key=True)
    certificate: Mapped[str]
    created: Mapped[float]


class Authority(msgspec.Struct, frozen=True):
    """See AuthorityRow."""

    name: str
    certificate: x509.Certificate


class Authorities:
    """The registered authorities."""

    def __init__(self, read: sessionmaker[Session], write: sessionmaker[Session]) -> None:
        self._read = read
        self._write = write

    def add(self, name: str, pem: bytes) -> Authority:
        """Let in devices of an authority. Raises AlreadyExists, ValueError."""
        if not valid_id(name):
            raise ValueError("name: is empty, too long or holds a character that ids may not")
        certificate = authority_of(pem)
        text = certificate.public_bytes(serialization.Encoding.PEM).decode()
        with self._write.begin() as session:
            if session.get(AuthorityRow, name):
                raise AlreadyExists(f"{name}: there is such an authority")
            if (session.scalar(select(func.count()).select_from(AuthorityRow)) or 0) >= MAX_AUTHORITIES:
                raise ValueError(f"authorities: {MAX_AUTHORITIES} are allowed")
            session.add(AuthorityRow(name=name, certificate=text, created=time.time()))
        return Authority(name, certificate)

    def list(self) -> Sequence[Authority]:
        """All, by name."""
        with self._read.begin() as session:
            rows = session.scalars(select(AuthorityRow).order_by(AuthorityRow.name))
            return [
                Authority(row.name, x509.load_pem_x509_certificate(row.certificate.encode())) for row in rows
            ]

    def remove(self, name: str) -> None:
        """Let its devices in no more; those that are connected stay so. Raises UnknownAuthority."""
        with self._write.begin() as session:
            row = session.get(AuthorityRow, name)
            if row is None:
                raise UnknownAuthority(f"{name}: no such authority")
            session.delete(row)


def authority_of(pem: bytes) -> x509.Certificate:
    """The certificate, if it is an authority's. Raises ValueError."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound):
        raise ValueError("certificate: not the PEM text of an authority's") from None
    if not constraints.ca:
        raise ValueError("certificate: may not issue others")
    return certificate
