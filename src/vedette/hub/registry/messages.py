"""Cloud-to-device messages: they wait here until the device has acknowledged them, or has let them expire."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence

import msgspec
from sqlalchemy import ForeignKeyConstraint, Index, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.records import RegistryError
from vedette.hub.registry.rows import identity_row
from vedette.hub.registry.schema import Base, Number
from vedette.wire.iothub import Identity

MAX_WAITING = 50
"""Messages that wait for one device: the real service's limit."""

MAX_BODY_BYTES = 65_536
"""Of a message: the real service's limit."""

MAX_DELIVERIES = 10
"""Times that a message is sent before it is given up: the real service's default."""

DEFAULT_TTL_S = 3_600.0
MAX_TTL_S = 172_800.0
"""Lifetime of a message: the real service's default and limit."""


EXPIRED = "expired"
GIVEN_UP = "sent too often without an acknowledgement"


class QueueFull(RegistryError):
    """As many messages as may be wait for the device."""


class MessageRow(Base):
    """One message. properties: JSON object of text. expires: Unix seconds. deliveries: times it was sent."""

    __tablename__ = "messages"
    __table_args__ = (
        ForeignKeyConstraint(
            ["device_id", "module_id"], ["identities.device_id", "identities.module_id"], ondelete="CASCADE"
        ),
        Index("messages_device", "device_id"),
        {"sqlite_autoincrement": True},  # a number is never given twice
    )

    seq: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    device_id: Mapped[str]
    module_id: Mapped[str] = mapped_column(default="")
    properties: Mapped[str]
    body: Mapped[bytes]
    expires: Mapped[float]
    deliveries: Mapped[int] = mapped_column(default=0)


class CloudMessage(msgspec.Struct, frozen=True):
    """A message to a device. seq: its number. properties: with the system's own, such as `$.mid`.

    again: it was sent before and not acknowledged.
    """

    seq: int
    properties: dict[str, str]
    body: bytes
    again: bool


class Messages:
    """Messages that wait for devices; times are Unix seconds. lost: those that this process dropped."""

    def __init__(
        self, read: sessionmaker[Session], write: sessionmaker[Session], shared: sessionmaker[Session]
    ) -> None:
        self._read = read
        self._write = write  # numbers are given by one writer after the other: `news` misses none
        self._shared = shared
        self.lost: Counter[str] = Counter()
        self._counting = threading.Lock()

    def put(
        self, device_id: str, properties: dict[str, str], body: bytes, ttl: float = DEFAULT_TTL_S
    ) -> None:
        """Have a message wait for a device. Raises UnknownIdentity, QueueFull, ValueError."""
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"body: {MAX_BODY_BYTES} bytes are allowed")
        if not 0 < ttl <= MAX_TTL_S:
            raise ValueError(f"expiry: within {MAX_TTL_S:.0f} seconds from now")
        now = time.time()
        with self._write.begin() as session:
            identity_row(session, Identity(device_id))
            lost = _drop_dead(session, device_id, now)
            if waiting(session, device_id) >= MAX_WAITING:
                raise QueueFull(f"{device_id}: {MAX_WAITING} messages wait already")
            text = msgspec.json.encode(properties).decode()
            session.add(MessageRow(device_id=device_id, properties=text, body=body, expires=now + ttl))
        self._count(lost)

    def take(self, device_id: str, after: int = 0) -> Sequence[CloudMessage]:
        """What waits for a device behind a number, oldest first; each counts as sent once more."""
        with self._shared.begin() as session:
            lost = _drop_dead(session, device_id, time.time())
            mine = (MessageRow.device_id == device_id, MessageRow.seq > after)
            rows = session.scalars(select(MessageRow).where(*mine).order_by(MessageRow.seq)).all()
            taken = [
                CloudMessage(row.seq, msgspec.json.decode(row.properties), row.body, row.deliveries > 0)
                for row in rows
            ]
            session.execute(update(MessageRow).where(*mine).values(deliveries=MessageRow.deliveries + 1))
        self._count(lost)
        return taken

    def settle(self, seq: int) -> None:
        """The device has a message."""
        with self._shared.begin() as session:
            session.execute(delete(MessageRow).where(MessageRow.seq == seq))

    def purge(self, device_id: str) -> int:
        """Drop what waits for a device; returns how many. Raises UnknownIdentity."""
        with self._write.begin() as session:
            identity_row(session, Identity(device_id))
            count = waiting(session, device_id)
            session.execute(delete(MessageRow).where(MessageRow.device_id == device_id))
            return count

    def last(self) -> int:
        """Number of the latest message that waits, 0 if none does."""
        with self._read.begin() as session:
            return session.scalar(select(func.max(MessageRow.seq))) or 0

    def news(self, after: int) -> tuple[int, frozenset[str]]:
        """The latest number, and the devices that messages behind `after` wait for."""
        with self._read.begin() as session:
            rows = session.execute(
                select(MessageRow.seq, MessageRow.device_id).where(MessageRow.seq > after)
            ).all()
        return max((seq for seq, _ in rows), default=after), frozenset(device for _, device in rows)

    def _count(self, lost: Counter[str]) -> None:
        with self._counting:
            self.lost += lost


def waiting(session: Session, device_id: str) -> int:
    """How many messages wait for a device."""
    count = select(func.count()).select_from(MessageRow).where(MessageRow.device_id == device_id)
    return session.scalar(count) or 0


def _drop_dead(session: Session, device_id: str, now: float) -> Counter[str]:
    """How many messages of a device went, by reason."""
    lost = Counter[str]()
    for reason, dead in (
        (EXPIRED, MessageRow.expires <= now),
        (GIVEN_UP, MessageRow.deliveries >= MAX_DELIVERIES),
    ):
        gone = delete(MessageRow).where(MessageRow.device_id == device_id, dead).returning(MessageRow.seq)
        lost[reason] = len(session.scalars(gone).all())
    return lost
