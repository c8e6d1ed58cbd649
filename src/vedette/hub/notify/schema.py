"""The tables of notifications, in the registry database. Times are Unix seconds, UTC."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from vedette.hub.registry.schema import Base, Number, Secret


class NotifyRouteRow(Base):
    """Who is told of what; see `routes.Route`. dropped: findings that did not fit into the outbox."""

    __tablename__ = "notify_routes"

    name: Mapped[str] = mapped_column(primary_key=True)
    enabled: Mapped[bool]
    url: Mapped[Secret]
    secret: Mapped[Secret]
    authority: Mapped[str]
    form: Mapped[str]
    wanted: Mapped[str]
    window: Mapped[float]
    allow_private: Mapped[bool]
    created: Mapped[float]
    dropped: Mapped[int] = mapped_column(default=0)


class NotifyItemRow(Base):
    """The outbox: one finding that a route shall be told of.

    kind: table of the finding; subject: its key as JSON; change: `raised`, or the status that it was given.
    """

    __tablename__ = "notify_outbox"
    __table_args__ = (Index("notify_outbox_route", "route", "seq"), {"sqlite_autoincrement": True})

    seq: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    route: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str]
    change: Mapped[str]
    severity: Mapped[str]
    type: Mapped[str]
    device_id: Mapped[str]
    at: Mapped[float]


class NotifyDeliveryRow(Base):
    """A message of a route. state: see `deliveries.State`. findings: how many it tells of.

    due: when it is tried next, or while it is sent, when another worker may take it. body: empty once sent.
    """

    __tablename__ = "notify_deliveries"
    __table_args__ = (
        Index("notify_deliveries_due", "state", "due"),
        Index("notify_deliveries_route", "route", "created"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str]
    state: Mapped[str]
    attempts: Mapped[int]
    due: Mapped[float]
    created: Mapped[float]
    finished: Mapped[float | None]
    error: Mapped[str]
    findings: Mapped[int]
    title: Mapped[str]
    severity: Mapped[str]
    body: Mapped[str]
