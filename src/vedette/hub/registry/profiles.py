"""What the service API keeps of an identity beside its record: how it authenticates, and its tags."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import ForeignKeyConstraint
from sqlalchemy.orm import Mapped, Session, mapped_column

from vedette.hub.registry.metadata import Metadata
from vedette.hub.registry.records import Device, Veiled
from vedette.hub.registry.rows import key_of
from vedette.hub.registry.schema import Base
from vedette.hub.registry.twins import Twin
from vedette.wire.iothub import Identity

MAX_TAGS_BYTES = 8_192
"""The tags as compact JSON: the real service's limit."""

MAX_STATUS_REASON = 128
"""Characters of a status reason: the real service's limit."""

Authentication: TypeAlias = Literal["sas", "selfSigned", "certificateAuthority", "none"]


class ProfileRow(Base):
    """One row an identity; none while everything in it has its default. tags: JSON."""

    __tablename__ = "profiles"
    __table_args__ = (
        ForeignKeyConstraint(
            ["device_id", "module_id"], ["identities.device_id", "identities.module_id"], ondelete="CASCADE"
        ),
    )

    device_id: Mapped[str] = mapped_column(primary_key=True)
    module_id: Mapped[str] = mapped_column(primary_key=True)
    authentication: Mapped[str] = mapped_column(default="sas")
    primary_thumbprint: Mapped[str] = mapped_column(default="")
    secondary_thumbprint: Mapped[str] = mapped_column(default="")
    status_reason: Mapped[str] = mapped_column(default="")
    tags: Mapped[str] = mapped_column(default="{}")
    tags_version: Mapped[int] = mapped_column(default=1)


class Profile(msgspec.Struct, frozen=True):
    """See ProfileRow. Thumbprints: SHA-1 or SHA-256 of a DER certificate, upper-case hexadecimal."""

    authentication: Authentication = "sas"
    primary_thumbprint: str = ""
    secondary_thumbprint: str = ""
    status_reason: str = ""
    tags: dict[str, Any] = {}
    tags_version: int = 1


class Entry(msgspec.Struct, frozen=True):
    """Everything that is registered of one identity. waiting: cloud-to-device messages that wait for it.

    metadata: when its twin's properties were changed.
    """

    device: Device
    profile: Profile
    twin: Twin
    waiting: int = 0
    metadata: Metadata = Metadata()

    @property
    def twin_etag(self) -> str:
        """Changes with the tags and the desired properties: what the owner writes."""
        return f"t{self.profile.tags_version}d{self.twin.desired_version}"

    @property
    def twin_version(self) -> int:
        """Grows with every change of the twin."""
        return self.profile.tags_version + self.twin.desired_version + self.twin.reported_version - 2


class Draft(Veiled, frozen=True):
    """What an identity is to become. keys: None for new ones (or, of one that exists, those it has)."""

    SHOWN = ("identity", "enabled", "authentication")

    identity: Identity
    keys: tuple[str, str] | None = None
    enabled: bool = True
    authentication: Authentication = "sas"
    thumbprints: tuple[str, str] = ("", "")
    status_reason: str = ""


def profile_of(row: ProfileRow | None) -> Profile:
    """The profile that a row holds."""
    if row is None:
        return Profile()
    return msgspec.convert(
        {name: getattr(row, name) for name in Profile.__struct_fields__}
        | {"tags": msgspec.json.decode(row.tags)},
        Profile,
    )


def profile_row(session: Session, identity: Identity) -> ProfileRow:
    """The row of an identity, made when there is none. The caller holds the identity's record."""
    row = session.get(ProfileRow, key_of(identity))
    if row is None:
        row = ProfileRow(
            device_id=identity.device_id, module_id=identity.module_id, tags="{}", tags_version=1
        )
        session.add(row)
        session.flush()  # fills in the defaults
    return row
