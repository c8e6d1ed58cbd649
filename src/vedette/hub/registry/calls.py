"""Direct methods for devices that another gateway holds: asked here, answered here, within seconds.

A row is a question to one gateway and, later, its answer. Nothing in it outlives the caller's patience.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

from vedette.hub.registry.records import RegistryError
from vedette.hub.registry.schema import Base, Number
from vedette.wire.iothub import Identity

MAX_WAITING = 256
"""Questions that wait in a registry: 32 MB of the largest."""


class CallsFull(RegistryError):
    """As many questions as may be are under way between gateways."""


class CallRow(Base):
    """One direct method. gateway: whom it is put to. Times in seconds; expires: Unix seconds.

    outcome: empty until it has one; `answered`, or why it was not.
    """

    __tablename__ = "calls"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's way

    seq: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    gateway: Mapped[str]
    device_id: Mapped[str]
    module_id: Mapped[str]
    method: Mapped[str]
    payload: Mapped[bytes]
    timeout: Mapped[float]
    connect_timeout: Mapped[float]
    expires: Mapped[float]
    outcome: Mapped[str] = mapped_column(default="")
    text: Mapped[str] = mapped_column(default="")
    status: Mapped[int] = mapped_column(default=0)
    answer: Mapped[bytes] = mapped_column(default=b"")


class Call(msgspec.Struct, frozen=True):
    """A direct method to run: see `Gateway.call`."""

    identity: Identity
    method: str
    payload: bytes
    timeout: float
    connect_timeout: float = 0.0


class Outcome(msgspec.Struct, frozen=True):
    """What became of a call. kind: `answered`, or the name of a failure that `text` explains."""

    kind: str
    text: str = ""
    status: int = 0
    answer: bytes = b""


class Calls:
    """Questions between gateways."""

    def __init__(self, read: sessionmaker[Session], write: sessionmaker[Session]) -> None:
        self._read = read
        self._write = write  # numbers are given by one writer after the other: `waiting` misses none

    def ask(self, gateway: str, call: Call, patience: float) -> int:
        """Put a call to a gateway; its number. After `patience` seconds it is void. Raises CallsFull."""
        now = time.time()
        with self._write.begin() as session:
            session.execute(delete(CallRow).where(CallRow.expires <= now))
            if (session.scalar(select(func.count()).select_from(CallRow)) or 0) >= MAX_WAITING:
                raise CallsFull(f"{MAX_WAITING} direct methods are under way between gateways")
            row = CallRow(
                gateway=gateway,
                device_id=call.identity.device_id,
                module_id=call.identity.module_id,
                method=call.method,
                payload=call.payload,
                timeout=call.timeout,
                connect_timeout=call.connect_timeout,
                expires=now + patience,
            )
            session.add(row)
            session.flush()
            return row.seq

    def last(self) -> int:
        """Number of the latest question, 0 if there is none."""
        with self._read.begin() as session:
            return session.scalar(select(func.max(CallRow.seq))) or 0

    def waiting(self, gateway: str, after: int) -> Sequence[tuple[int, Call]]:
        """Questions to a gateway behind a number, with their numbers."""
        mine = CallRow.gateway == gateway, CallRow.seq > after
        with self._read.begin() as session:
            return [
                (row.seq, _call(row))
                for row in session.scalars(select(CallRow).where(*mine).order_by(CallRow.seq))
            ]

    def answer(self, seq: int, outcome: Outcome) -> None:
        """Tell the asker; nobody may wait for it any more."""
        with self._write.begin() as session:
            if row := session.get(CallRow, seq):
                row.outcome, row.text = outcome.kind, outcome.text
                row.status, row.answer = outcome.status, outcome.answer

    def answers(self, asked: Collection[int]) -> Mapping[int, Outcome]:
        """What has been answered of these questions, which are forgotten with it."""
        answered = CallRow.seq.in_(asked), CallRow.outcome != ""
        with self._read.begin() as session:
            found = {
                row.seq: Outcome(row.outcome, row.text, row.status, row.answer)
                for row in session.scalars(select(CallRow).where(*answered))
            }
        if found:
            with self._write.begin() as session:
                session.execute(delete(CallRow).where(CallRow.seq.in_(found)))
        return found


def _call(row: CallRow) -> Call:
    identity = Identity(row.device_id, row.module_id)
    return Call(identity, row.method, row.payload, row.timeout, row.connect_timeout)
