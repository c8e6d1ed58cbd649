"""What waits in the outbox becomes messages, and what becomes of each message.

A route's findings gather for its window, then become one message. While a message of a route waits to be
sent, no further one is made: what comes meanwhile gathers, too, so that a receiver that is away is not met by
a flood when it comes back. A worker claims a message for a time before it sends it, so several hubs share the
work, and one that dies in between is followed by another: at least once, always with the same id.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from enum import StrEnum

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from vedette.hub.detect.alerts import alert_of
from vedette.hub.detect.schema import AlertRow, Database, RecommendationRow
from vedette.hub.formats import Notable
from vedette.hub.notify.message import SHOWN, Item, Message, compose
from vedette.hub.notify.routes import Route, grade, route_of
from vedette.hub.notify.schema import NotifyDeliveryRow, NotifyItemRow, NotifyRouteRow
from vedette.hub.notify.target import Unknown
from vedette.hub.posture.recommendations import recommendation_of

PACKED = 10_000
"""Findings of one message; more become a second one."""

CLAIM_S = 120.0
"""How long a worker has for a message it took: twice what the slowest way may take (see `notifier`)."""

MAX_ATTEMPTS = 10
RETRY_S = 5.0
RETRY_FACTOR = 4.0
LONGEST_RETRY_S = 3600.0
"""5 s, 20 s, 80 s … an hour, four times: four and a half hours until a message is dead."""

ABANDONED = "the hub ended each time while it was being sent"

KEPT_S = 30 * 86_400.0
KEPT = 10_000
"""Finished messages that are remembered: for a month, and so many at most."""

MAX_ERROR = 500
"""Characters of a reason that are kept."""

LISTED = 1_000


class State(StrEnum):
    """What became of a message. DEAD: given up; it can be sent again by command."""

    PENDING = "pending"
    SENT = "sent"
    DEAD = "dead"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message and what became of it; see `schema.NotifyDeliveryRow`."""

    id: str
    route: str
    state: str
    attempts: int
    due: float
    created: float
    finished: float | None
    error: str
    findings: int
    title: str
    severity: str


class Claimed(msgspec.Struct, frozen=True):
    """A message that this worker is to send now. attempt: tells this claim from a later one."""

    route: Route
    message: Message
    attempt: int


class Deliveries:
    """The messages of a hub. Every call is one transaction and blocks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pack(self, now: float) -> int:
        """Make messages of what has gathered for long enough; how many."""
        with self._database.read.begin() as session:
            ready = _ready(session, now)
        if not ready:
            return 0
        with self._database.write.begin() as session:
            return sum(_pack(session, name, now) for name in _ready(session, now))

    def claim(self, now: float, limit: int) -> Sequence[Claimed]:
        """Take messages that are due, the oldest first."""
        due = (
            select(NotifyDeliveryRow)
            .join(NotifyRouteRow, NotifyRouteRow.name == NotifyDeliveryRow.route)
            .where(NotifyRouteRow.enabled)
            .where(NotifyDeliveryRow.state == State.PENDING, NotifyDeliveryRow.due <= now)
            .order_by(NotifyDeliveryRow.due)
            .limit(limit)
        )
        with self._database.read.begin() as session:
            if session.scalars(due.limit(1)).first() is None:
                return []
        with self._database.write.begin() as session:
            rows = session.scalars(due).all()
            for row in [row for row in rows if row.attempts >= MAX_ATTEMPTS]:
                row.state, row.finished, row.error = State.DEAD, now, ABANDONED
            return [_claim(session, row, now) for row in rows if row.state == State.PENDING]

    def sent(self, claimed: Claimed, now: float) -> None:
        """A message got there."""
        self._finish(claimed, {"state": State.SENT, "finished": now, "error": "", "body": ""})

    def failed(self, claimed: Claimed, now: float, reason: str, *, final: bool) -> None:
        """A message did not get there. final: trying again is of no use."""
        dead = final or claimed.attempt >= MAX_ATTEMPTS
        state = {"state": State.DEAD, "finished": now} if dead else {"due": now + pause(claimed.attempt)}
        self._finish(claimed, {**state, "error": reason[:MAX_ERROR]})

    def _finish(self, claimed: Claimed, columns: dict[str, object]) -> None:
        """Write down what became of a claim, unless another worker has taken the message since."""
        mine = (NotifyDeliveryRow.id == claimed.message.id, NotifyDeliveryRow.attempts == claimed.attempt)
        with self._database.write.begin() as session:
            session.execute(update(NotifyDeliveryRow).where(*mine).values(**columns))

    def list(self, route: str = "", state: str = "", limit: int = 100) -> Sequence[Delivery]:
        """The newest messages; an empty argument means all."""
        rows = select(NotifyDeliveryRow).order_by(NotifyDeliveryRow.created.desc()).limit(min(limit, LISTED))
        if route:
            rows = rows.where(NotifyDeliveryRow.route == route)
        if state:
            rows = rows.where(NotifyDeliveryRow.state == state)
        with self._database.read.begin() as session:
            return [_delivery(row) for row in session.scalars(rows)]

    def again(self, identifier: str = "", route: str = "") -> int:
        """Send dead messages again: one, by the beginning of its id, or all of a route; how many.

        Raises Unknown if there is none.
        """
        dead = select(NotifyDeliveryRow).where(NotifyDeliveryRow.state == State.DEAD)
        if identifier:
            dead = dead.where(NotifyDeliveryRow.id.startswith(identifier, autoescape=True))
        if route:
            dead = dead.where(NotifyDeliveryRow.route == route)
        with self._database.write.begin() as session:
            rows = session.scalars(dead).all()
            if not rows or (identifier and len(rows) > 1):
                what = "several dead messages begin so" if rows else "no such dead message"
                raise Unknown(f"{identifier or route}: {what}")
            for row in rows:
                row.state, row.attempts, row.due, row.finished = State.PENDING, 0, 0.0, None
            return len(rows)

    def forget(self, now: float) -> None:
        """Drop finished messages that are old, or too many."""
        finished = NotifyDeliveryRow.finished
        with self._database.write.begin() as session:
            surplus = session.scalar(
                select(finished).where(finished.is_not(None)).order_by(finished.desc()).offset(KEPT).limit(1)
            )
            oldest = max(now - KEPT_S, surplus or 0.0)
            session.execute(delete(NotifyDeliveryRow).where(finished <= oldest))


def pause(attempt: int) -> float:
    """Seconds until the next attempt: longer each time, and not for all at once."""
    longest = min(LONGEST_RETRY_S, RETRY_S * RETRY_FACTOR ** (attempt - 1))
    return longest * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load


def _ready(session: Session, now: float) -> list[str]:
    """Enabled routes whose window is over, without those that have a message to send."""
    pending = select(NotifyDeliveryRow.route).where(NotifyDeliveryRow.state == State.PENDING)
    routes = (
        select(NotifyRouteRow.name)
        .join(NotifyItemRow, NotifyItemRow.route == NotifyRouteRow.name)
        .where(NotifyRouteRow.enabled, NotifyRouteRow.name.not_in(pending))
        .group_by(NotifyRouteRow.name, NotifyRouteRow.window)
        .having(func.min(NotifyItemRow.at) + NotifyRouteRow.window <= now)
    )
    return list(session.scalars(routes))


def _pack(session: Session, name: str, now: float) -> int:
    """One message of a route's oldest findings."""
    route = route_of(session.get_one(NotifyRouteRow, name))
    rows = session.scalars(
        select(NotifyItemRow)
        .where(NotifyItemRow.route == name)
        .order_by(NotifyItemRow.seq)
        .limit(PACKED if route.window else 1)
    ).all()
    items = [Item(row.severity, row.type, row.device_id, row.at) for row in rows]
    message = compose(route, uuid.uuid4().hex, items, _found(session, rows))
    session.add(
        NotifyDeliveryRow(
            **msgspec.structs.asdict(message),
            route=name,
            state=State.PENDING,
            attempts=0,
            due=now,
            created=now,
            finished=None,
            error="",
            findings=len(items),
        )
    )
    session.execute(
        delete(NotifyItemRow).where(NotifyItemRow.route == name, NotifyItemRow.seq <= rows[-1].seq)
    )
    return 1


def _found(session: Session, rows: Sequence[NotifyItemRow]) -> list[Notable]:
    """The gravest findings as they are now, each once; what is gone is left out."""
    gravest = sorted(rows, key=lambda row: -grade(row.severity))
    subjects = dict.fromkeys((row.kind, row.subject) for row in gravest)
    found: list[Notable] = []
    for kind, subject in list(subjects)[:SHOWN]:
        key = msgspec.json.decode(subject)
        if kind == "alerts" and (alert := session.get(AlertRow, key)):
            found.append(alert_of(alert))
        elif kind == "recommendations" and (advice := session.get(RecommendationRow, key)):
            found.append(recommendation_of(advice))
    return found


def _claim(session: Session, row: NotifyDeliveryRow, now: float) -> Claimed:
    row.attempts += 1
    row.due = now + CLAIM_S
    message = Message(row.id, row.title, row.severity, row.body)
    return Claimed(route_of(session.get_one(NotifyRouteRow, row.route)), message, row.attempts)


def _delivery(row: NotifyDeliveryRow) -> Delivery:
    return Delivery(**{name: getattr(row, name) for name in Delivery.__struct_fields__})
