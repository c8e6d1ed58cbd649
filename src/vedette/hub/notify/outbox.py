"""The outbox: what a transaction raises or decides is put down for each route in that same transaction.

So an alert and the word of it are committed together or not at all. Changes are noticed where they pass, in
the session that writes them, as the audit log does: no caller can forget to tell. They are noticed as rows: a
bulk UPDATE of alerts or recommendations would pass by unseen, so there is none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import event, func, insert, inspect, select
from sqlalchemy.orm import Session, sessionmaker

from vedette.hub.notify.routes import MAX_ROUTES, Wanted
from vedette.hub.notify.schema import NotifyItemRow, NotifyRouteRow
from vedette.hub.notify.target import NotifyError
from vedette.hub.registry.profiles import ProfileRow

log = logging.getLogger(__name__)

RAISED = "raised"

MAX_WAITING = 100_000
"""Findings that wait for one route, 200 bytes each; what is beyond them is counted at the route."""

_STATUS = {"alerts": "status", "recommendations": "state"}
"""Table → the column whose change people want to hear of."""

_ACTIVE = "Active"
_NOTED = "notify"


class Noted(NamedTuple):
    """A row that was raised or given a status."""

    row: Any
    change: str

    @property
    def kind(self) -> str:
        """Its table."""
        return str(type(self.row).__tablename__)

    @property
    def type(self) -> str:
        """Alert type, or name of the recommendation."""
        return str(self.row.type if self.kind == "alerts" else self.row.name)

    @property
    def names(self) -> tuple[str, ...]:
        """What a route may call it by."""
        return (self.type, self.row.rule_id) if self.kind == "alerts" else (self.type,)


def watch(maker: sessionmaker[Session]) -> None:
    """Have what this maker's sessions change told."""
    event.listen(maker, "before_flush", _flushing)
    event.listen(maker, "before_commit", _committing)


def _flushing(session: Session, context: Any, instances: Any) -> None:
    noted: list[Noted] = session.info.setdefault(_NOTED, [])
    noted += [Noted(row, RAISED) for row in session.new if row.__tablename__ in _STATUS]
    for row in session.dirty:
        column = _STATUS.get(row.__tablename__)
        if column and inspect(row).attrs[column].history.has_changes():
            status = getattr(row, column)
            raised = status == _ACTIVE and row.__tablename__ == "recommendations"
            noted.append(Noted(row, RAISED if raised else status))


def _committing(session: Session) -> None:
    session.flush()
    noted: list[Noted] = session.info.pop(_NOTED, [])
    if not noted:
        return

    @cache
    def tags(device_id: str) -> dict[str, Any]:
        text = session.scalar(
            select(ProfileRow.tags).where(ProfileRow.device_id == device_id, ProfileRow.module_id == "")
        )
        return msgspec.json.decode(text) if text else {}

    for route in session.scalars(select(NotifyRouteRow).where(NotifyRouteRow.enabled)):
        try:
            _put(session, route, [one for one in noted if _wanted(route.wanted, one, tags)])
        except (NotifyError, msgspec.ValidationError) as error:  # a route that another release wrote
            log.error("notifications: route %s cannot be told: %s", route.name, error)
            route.dropped += len(noted)


def _wanted(text: str, one: Noted, tags: Callable[[str], dict[str, Any]]) -> bool:
    wanted = _decoded(text)
    return (
        (one.change == RAISED or wanted.changes)
        and wanted.admits(one.kind, one.row.severity, one.names)
        and (not wanted.where or wanted.concerns(one.row.device_id, tags(one.row.device_id)))
    )


@lru_cache(maxsize=MAX_ROUTES)
def _decoded(text: str) -> Wanted:
    return msgspec.json.decode(text, type=Wanted)


def _put(session: Session, route: NotifyRouteRow, noted: list[Noted]) -> None:
    """Put findings down for a route, as many as it may have waiting."""
    if not noted:
        return
    waiting = select(func.count()).select_from(NotifyItemRow).where(NotifyItemRow.route == route.name)
    room = max(0, MAX_WAITING - (session.scalar(waiting) or 0))
    route.dropped += max(0, len(noted) - room)
    now = time.time()
    rows = [
        {
            "route": route.name,
            "kind": one.kind,
            "subject": msgspec.json.encode(_key(one.row)).decode(),
            "change": one.change,
            "severity": one.row.severity,
            "type": one.type,
            "device_id": one.row.device_id,
            "at": now,
        }
        for one in noted[:room]
    ]
    if rows:
        session.execute(insert(NotifyItemRow), rows)


def _key(row: Any) -> tuple[Any, ...]:
    return tuple(inspect(row).mapper.primary_key_from_instance(row))
