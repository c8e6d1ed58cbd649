"""Who changed what: one entry for every change of the registry, in the transaction that made it.

Changes are noticed where they pass, in the session that writes them, so that no caller can forget to tell.
What devices and gateways do by themselves (reported properties, connections, subscriptions) is no change in
this sense. No key, token or thumbprint is written down: of those only that they changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec
from sqlalchemy import Delete, delete, event, func, inspect, select
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker

from vedette.hub.registry.schema import AuditRow

AUDIT_KEPT = 500_000
"""Entries kept, the newest; one takes about 200 bytes."""

MAX_ENTRIES = 1_000
"""Entries of one page."""

DETAIL_KEYS = 100
"""Names of twin properties that one entry lists."""

HUB = "hub"
"""The actor where nobody else is: the hub by itself."""

_actor: ContextVar[str] = ContextVar("actor", default=HUB)

_KEYS = {"primary_key": False, "secondary_key": False}
_WATCHED: dict[str, dict[str, bool]] = {
    "identities": {"enabled": True, **_KEYS},
    "twins": {"desired": True},
    "profiles": {
        **dict.fromkeys(("authentication", "status_reason", "tags"), True),
        **dict.fromkeys(("primary_thumbprint", "secondary_thumbprint"), False),
    },
    "policies": _KEYS,
    "enrollments": {"enabled": True, **_KEYS},
    "authorities": {},
    "users": {"role": True, "digest": False},
    "tokens": {},
    "intel_lists": {"revision": False},
    "own_rules": {"text": False},
    "rule_switches": {"enabled": True},
    "suppressions": {},
    "device_groups": {"condition": True},
    "saved_queries": {"text": False, "shared": True},
    "notify_routes": {"enabled": True},
}
"""Table → columns whose change is told of, and whether with the value. Of these tables it is told, too, when
a row comes or goes; twins and profiles do so with their identity."""

_WITH_IDENTITY = frozenset({"twins", "profiles"})


class AuditEntry(msgspec.Struct, frozen=True):
    """One change. time: Unix seconds. subject: the table and its key. detail: what changed of it."""

    seq: int
    time: float
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


@contextmanager
def acting_as(who: str) -> Iterator[None]:
    """Put down the changes that are made within to somebody, as in `token:backup` or `policy:service`."""
    token = _actor.set(who)
    try:
        yield
    finally:
        _actor.reset(token)


def actor() -> str:
    """Whom changes are put down to at the moment."""
    return _actor.get()


def watch(maker: sessionmaker[Session]) -> None:
    """Have the changes of this maker's sessions put down."""
    event.listen(maker, "before_flush", _flushing)
    event.listen(maker, "do_orm_execute", _executing)


def entries(session: Session, limit: int, before: int | None) -> Sequence[AuditEntry]:
    """The newest entries, or the newest of those before a number."""
    rows = select(AuditRow).order_by(AuditRow.seq.desc()).limit(min(limit, MAX_ENTRIES))
    if before is not None:
        rows = rows.where(AuditRow.seq < before)
    return [
        AuditEntry(row.seq, row.time, row.actor, row.action, row.subject, msgspec.json.decode(row.detail))
        for row in session.scalars(rows)
    ]


def _flushing(session: Session, context: Any, instances: Any) -> None:
    for action, rows in (("create", session.new), ("delete", session.deleted)):
        for row in [row for row in rows if _table(row) in _WATCHED.keys() - _WITH_IDENTITY]:
            _note(session, action, row, {})
    for row in list(session.dirty):
        if changed := _changed(row):
            _note(session, "update", row, changed)


def _executing(state: ORMExecuteState) -> None:
    """Rows that a statement deletes by their key; what belongs to an identity goes by itself."""
    if not isinstance(state.statement, Delete) or state.bind_mapper is None:
        return
    table = str(state.bind_mapper.local_table)
    if table in _WATCHED.keys() - _WITH_IDENTITY:
        key = [str(value) for value in state.statement.compile().params.values()]
        _write(state.session, "delete", f"{table}/{'/'.join(filter(None, key))}", {})


def _table(row: Any) -> str:
    return str(type(row).__tablename__)


def _changed(row: Any) -> dict[str, Any]:
    """Changed columns: new values where they may be shown, of JSON texts the names of what changed."""
    attributes = inspect(row).attrs
    changed = {}
    for name, shown in _WATCHED.get(_table(row), {}).items():
        history = attributes[name].history if name in attributes else None
        if history and history.has_changes():
            old, new = (history.deleted or [None])[0], history.added[0]
            changed[name] = _told(old, new) if shown else "changed"
    return changed


def _told(old: Any, new: Any) -> Any:
    if not (isinstance(new, str) and new.startswith("{")):
        return new
    before, after = msgspec.json.decode(old or "{}"), msgspec.json.decode(new)
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))[
        :DETAIL_KEYS
    ]


def _note(session: Session, action: str, row: Any, detail: dict[str, Any]) -> None:
    key = [str(value) for value in inspect(row).mapper.primary_key_from_instance(row) if value]
    _write(session, action, f"{_table(row)}/{'/'.join(key)}", detail)


def _write(session: Session, action: str, subject: str, detail: dict[str, Any]) -> None:
    session.add(
        AuditRow(
            time=time.time(),
            actor=actor(),
            action=action,
            subject=subject,
            detail=msgspec.json.encode(detail).decode(),
        )
    )
    newest = session.scalar(select(func.max(AuditRow.seq)), execution_options={"autoflush": False}) or 0
    if newest > AUDIT_KEPT:
        session.execute(delete(AuditRow).where(AuditRow.seq <= newest - AUDIT_KEPT))
