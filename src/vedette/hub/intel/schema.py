"""What was imported, in the registry's database. Times are Unix seconds, UTC.

The entries of a list lie in compressed parts, which a revision holds together: a new import writes its parts
beside the old ones, and becomes the list when its row names its revision. So an import of any size is seen
whole or not at all, and never holds up other writers.
"""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from vedette.hub.registry.schema import Base, OfDevice


class IntelListRow(Base):
    """A list. kind: what its entries are; entries: how many. refused: JSON object, reason → count."""

    __tablename__ = "intel_lists"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    source: Mapped[str]
    imported: Mapped[float]
    entries: Mapped[int]
    refused: Mapped[str]
    revision: Mapped[str]


class IntelPartRow(Base):
    """Entries of one revision. key: number of the part, or what the entries are about."""

    __tablename__ = "intel_parts"

    revision: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    written: Mapped[float]
    data: Mapped[bytes]


class InventoryRow(OfDevice, Base):
    """The software of a device, as it last told. data: compressed; taken: by the device's clock.

    judged: the advisories that it was last compared with; empty if it was not.
    """

    __tablename__ = "software_inventories"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    snapshot_id: Mapped[str]
    taken: Mapped[float]
    data: Mapped[bytes]
    judged: Mapped[str] = mapped_column(index=True)


class VulnerabilitiesRow(OfDevice, Base):
    """What is known about the software of a device. count: all of it; data: compressed, the worst first."""

    __tablename__ = "software_vulnerabilities"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    found: Mapped[float]
    count: Mapped[int]
    data: Mapped[bytes]
