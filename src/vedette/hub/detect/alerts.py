"""Alerts: how findings become them, and what becomes of them.

Findings of one type on one entity within a day are one alert with a growing count. An alert that was
dismissed takes its day's findings in and stays dismissed; after one was resolved, the next finding is a new
alert. An event counts once for a type, however often it is read.
"""

from __future__ import annotations

import fnmatch
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from vedette.hub.detect.rules import Rule
from vedette.hub.detect.schema import AlertChangeRow, AlertEventRow, AlertRow, Database, SuppressionRow
from vedette.hub.errors import DomainError
from vedette.hub.registry.profiles import ProfileRow
from vedette.hub.registry.upserts import insert_new

PERIOD_S = 24 * 3600
"""What one alert covers, from its first finding to its last (seeds: "a 24-hour period")."""

EVIDENCE = 10
"""Findings whose facts an alert shows: the first of them. The others are in the lake."""

REMEMBERED_DAYS = 30
"""How long it is known which events were taken in. A device repeats itself for its message timeout, two days
unless its owner has set more."""

_KEYS_AT_ONCE = 500
"""Values of one IN list: below what the oldest SQLite takes as parameters."""


class Status(StrEnum):
    """What an alert is taken to be."""

    ACTIVE = "Active"
    IN_PROGRESS = "InProgress"
    DISMISSED = "Dismissed"
    RESOLVED = "Resolved"


class AlertError(DomainError, ValueError):
    """What was asked of an alert is not possible; the text says why."""


class Finding(NamedTuple):
    """A rule was satisfied. events: (id, hits). evidence: what was seen. Times are the device's clock's."""

    rule: Rule
    device: str
    module: str
    entity: str
    start: float
    end: float
    events: tuple[tuple[str, int], ...]
    evidence: Mapping[str, Any]


class Change(msgspec.Struct, frozen=True):
    """A change of status."""

    at: float
    who: str
    status: str
    why: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as it is shown. Times are Unix seconds; see `schema.AlertRow`."""

    id: str
    type: str
    rule_id: str
    title: str
    severity: str
    status: str
    device_id: str
    module_id: str
    entity: str
    start: float
    end: float
    created: float
    updated: float
    count: int
    hits: int
    description: str
    remediation: tuple[str, ...]
    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    subtechniques: tuple[str, ...]
    evidence: tuple[dict[str, Any], ...]
    changes: tuple[Change, ...] = ()


class Suppression(msgspec.Struct, frozen=True, kw_only=True):
    """What shall raise no alert; an empty part means all.

    device: pattern of device ids. group: security group (the twin's tag `SecurityGroup`). type: alert type.
    expression: `Field=pattern`, several separated by ` and `, on a finding's evidence. until: Unix seconds.
    """

    id: str = ""
    device: str = ""
    group: str = ""
    type: str = ""
    expression: str = ""
    until: float
    created: float = 0.0
    who: str
    why: str
    hits: int = 0


def record(session: Session, findings: Iterable[Finding], now: float) -> list[str]:
    """Take findings in; the ids of the alerts that are new."""
    pending: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in _unseen(session, list(findings), now):
        pending.setdefault((finding.rule.alert, finding.device, finding.entity), []).append(finding)
    suppressions = _unexpired(session, now) if pending else []
    raised: list[str] = []
    for (kind, device, entity), group in pending.items():
        kept = [finding for finding in group if not _suppressed(session, suppressions, finding)]
        alerts = _recent(session, kind, device, entity) if kept else []
        for finding in sorted(kept, key=lambda f: f.start):
            alert = next((alert for alert in alerts if _joins(alert, finding)), None)
            if alert is None:
                alert = _new(finding, now)
                session.add(alert)
                alerts.insert(0, alert)
                raised.append(alert.id)
            _grow(alert, finding, now)
    return raised


def _unseen(session: Session, findings: list[Finding], now: float) -> list[Finding]:
    """Findings reduced to the events that their alert type has not taken in yet; marks those as seen."""
    wanted: dict[str, set[str]] = {}
    for finding in findings:
        wanted.setdefault(finding.rule.alert, set()).update(event for event, _ in finding.events)
    seen = {kind: _seen(session, kind, sorted(events)) for kind, events in wanted.items()}
    fresh: list[Finding] = []
    rows: list[dict[str, Any]] = []
    for finding in findings:
        known = seen[finding.rule.alert]
        events = tuple((event, hits) for event, hits in finding.events if event not in known)
        if events:
            fresh.append(finding._replace(events=events))
            known.update(event for event, _ in events)
            rows += [{"type": finding.rule.alert, "event": event, "received": now} for event, _ in events]
    insert_new(session, AlertEventRow, rows)
    return fresh


def _seen(session: Session, kind: str, events: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for i in range(0, len(events), _KEYS_AT_ONCE):
        some = events[i : i + _KEYS_AT_ONCE]
        found |= set(
            session.scalars(
                select(AlertEventRow.event).where(AlertEventRow.type == kind, AlertEventRow.event.in_(some))
            )
        )
    return found


def _recent(session: Session, kind: str, device: str, entity: str) -> list[AlertRow]:
    """The latest alerts of one kind on one entity; enough for what comes late."""
    rows = select(AlertRow).where(
        AlertRow.type == kind, AlertRow.device_id == device, AlertRow.entity == entity
    )
    return list(session.scalars(rows.order_by(AlertRow.start.desc()).limit(16)))


def _joins(alert: AlertRow, finding: Finding) -> bool:
    """Whether a finding belongs to an alert: both fit into one period, and it was not resolved before.

    A finding that is long itself, of a correlation over days, moves along with its window.
    """
    longest = PERIOD_S + (finding.end - finding.start)
    if max(alert.end, finding.end) - min(alert.start, finding.start) > longest:
        return False
    return alert.status != Status.RESOLVED or finding.end <= (alert.closed or 0.0)


def _new(finding: Finding, now: float) -> AlertRow:
    rule = finding.rule
    return AlertRow(
        id=str(uuid.uuid4()),
        type=rule.alert,
        rule_id=rule.id,
        title=rule.title,
        severity=rule.severity,
        description=rule.description,
        remediation=_json(rule.remediation),
        tactics=_json(rule.tactics),
        techniques=_json(rule.techniques),
        subtechniques=_json(rule.subtechniques),
        device_id=finding.device,
        module_id=finding.module,
        entity=finding.entity,
        status=Status.ACTIVE,
        start=finding.start,
        end=finding.end,
        created=now,
        updated=now,
        closed=None,
        count=0,
        hits=0,
        evidence="[]",
    )


def _grow(alert: AlertRow, finding: Finding, now: float) -> None:
    alert.start, alert.end = min(alert.start, finding.start), max(alert.end, finding.end)
    alert.count += len(finding.events)
    alert.hits += sum(hits for _, hits in finding.events)
    alert.updated = now
    evidence = msgspec.json.decode(alert.evidence)
    if len(evidence) < EVIDENCE:
        alert.evidence = _json([*evidence, finding.evidence])


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _unexpired(session: Session, now: float) -> list[SuppressionRow]:
    return list(session.scalars(select(SuppressionRow).where(SuppressionRow.until > now)))


def _suppressed(session: Session, rules: list[SuppressionRow], finding: Finding) -> bool:
    """Whether a suppression covers the finding; counts it there."""
    for rule in rules:
        if (
            fnmatch.fnmatchcase(finding.device, rule.device or "*")
            and (not rule.group or rule.group == security_group(session, finding.device))
            and rule.type in ("", finding.rule.alert)
            and all(_holds(part, finding.evidence) for part in _parts(rule.expression))
        ):
            rule.hits += sum(hits for _, hits in finding.events)
            return True
    return False


def security_group(session: Session, device: str) -> str:
    """The device's tag `SecurityGroup`, by which the retired service grouped devices; empty without one."""
    tags = session.scalar(
        select(ProfileRow.tags).where(ProfileRow.device_id == device, ProfileRow.module_id == "")
    )
    return str(msgspec.json.decode(tags).get("SecurityGroup", "")) if tags else ""


def _parts(expression: str) -> list[tuple[str, str]]:
    """`A=x* and B=y` as pairs. Raises AlertError."""
    parts = [part.partition("=") for part in expression.split(" and ")] if expression.strip() else []
    for field, equals, _ in parts:
        if not equals or not field.strip():
            raise AlertError(f"expression: {expression!r} is not Field=pattern [and Field=pattern …]")
    return [(field.strip(), pattern.strip()) for field, _, pattern in parts]


def _holds(part: tuple[str, str], evidence: Mapping[str, Any]) -> bool:
    field, pattern = part
    value = evidence.get(field)
    return value is not None and fnmatch.fnmatch(str(value).casefold(), pattern.casefold())


class Alerts:
    """The alerts of a hub, for whoever looks at them or decides about them. Every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self,
        *,
        status: Sequence[str] = (),
        device: str = "",
        kind: str = "",
        severity: str = "",
        limit: int = 100,
        offset: int = 0,
    ) -> Sequence[Alert]:
        """The newest alerts behind the first `offset`; an empty argument means all."""
        rows = select(AlertRow).order_by(AlertRow.created.desc(), AlertRow.id).limit(limit).offset(offset)
        for column, value in (
            (AlertRow.device_id, device),
            (AlertRow.type, kind),
            (AlertRow.severity, severity),
        ):
            if value:
                rows = rows.where(column == value)
        if status:
            rows = rows.where(AlertRow.status.in_(status))
        with self._database.read.begin() as session:
            return [alert_of(row) for row in session.scalars(rows)]

    def severities(self) -> Mapping[str, int]:
        """How many open alerts there are of each severity."""
        rows = (
            select(AlertRow.severity, func.count())
            .where(AlertRow.status.in_((Status.ACTIVE, Status.IN_PROGRESS)))
            .group_by(AlertRow.severity)
        )
        with self._database.read.begin() as session:
            return dict(session.execute(rows).tuples().all())

    def raised(self, since: float, limit: int = 20_000) -> Sequence[tuple[float, str]]:
        """When the newest alerts since a time (Unix seconds) were made, and their severities."""
        rows = select(AlertRow.created, AlertRow.severity).where(AlertRow.created >= since)
        with self._database.read.begin() as session:
            found = session.execute(rows.order_by(AlertRow.created.desc()).limit(limit))
            return [(created, severity) for created, severity in found]

    def by_rule(self) -> Mapping[str, int]:
        """How many alerts there are of each rule, by its id."""
        rows = select(AlertRow.rule_id, func.count()).group_by(AlertRow.rule_id)
        with self._database.read.begin() as session:
            return dict(session.execute(rows).tuples().all())

    def get(self, alert_id: str) -> Alert:
        """One alert with its history; the beginning of an id is enough. Raises AlertError."""
        with self._database.read.begin() as session:
            row = _find(session, alert_id)
            changes = session.scalars(
                select(AlertChangeRow).where(AlertChangeRow.alert_id == row.id).order_by(AlertChangeRow.seq)
            )
            history = tuple(Change(change.at, change.who, change.status, change.why) for change in changes)
            return msgspec.structs.replace(alert_of(row), changes=history)

    def set_status(self, alert_id: str, status: Status, *, who: str, why: str = "") -> Alert:
        """Give an alert a status. Raises AlertError."""
        return self.set_statuses([alert_id], status, who=who, why=why)[0]

    def set_statuses(
        self, alert_ids: Sequence[str], status: Status, *, who: str, why: str = ""
    ) -> Sequence[Alert]:
        """Give alerts a status, all or none. Raises AlertError."""
        now = time.time()
        with self._database.write.begin() as session:
            rows = [_find(session, alert_id) for alert_id in alert_ids]
            for row in rows:
                row.status = status
                row.closed = now if status in (Status.DISMISSED, Status.RESOLVED) else None
                row.updated = now
                session.add(AlertChangeRow(alert_id=row.id, at=now, who=who, status=status, why=why))
            return [alert_of(row) for row in rows]

    def suppress(self, suppression: Suppression) -> Suppression:
        """Add a suppression. Raises AlertError."""
        _parts(suppression.expression)
        now = time.time()
        if suppression.until <= now:
            raise AlertError("until: has passed")
        if not (suppression.device or suppression.group or suppression.type or suppression.expression):
            raise AlertError("a suppression names a device, a group, a type or an expression")
        made = msgspec.structs.replace(suppression, id=uuid.uuid4().hex[:12], created=now, hits=0)
        with self._database.write.begin() as session:
            session.add(SuppressionRow(**msgspec.to_builtins(made)))
        return made

    def suppressions(self) -> Sequence[Suppression]:
        """Every suppression, expired ones included."""
        with self._database.read.begin() as session:
            rows = session.scalars(select(SuppressionRow).order_by(SuppressionRow.created))
            names = Suppression.__struct_fields__
            return [Suppression(**{name: getattr(row, name) for name in names}) for row in rows]

    def unsuppress(self, suppression_id: str) -> None:
        """Remove a suppression. Raises AlertError."""
        with self._database.write.begin() as session:
            gone = session.execute(delete(SuppressionRow).where(SuppressionRow.id == suppression_id))
            if not gone.rowcount:  # type: ignore[attr-defined]  # a DELETE has a row count
                raise AlertError(f"{suppression_id}: no such suppression")


def _find(session: Session, alert_id: str) -> AlertRow:
    found = session.scalars(
        select(AlertRow).where(AlertRow.id.startswith(alert_id, autoescape=True)).limit(2)
    ).all()
    if len(found) != 1 or not alert_id:
        raise AlertError(f"{alert_id!r}: {'several alerts begin so' if found else 'no such alert'}")
    return found[0]


def alert_of(row: AlertRow) -> Alert:
    """A row as it is shown, without its history."""
    columns = {name: getattr(row, name) for name in Alert.__struct_fields__ if name != "changes"}
    for name in ("remediation", "tactics", "techniques", "subtechniques", "evidence"):
        columns[name] = tuple(msgspec.json.decode(columns[name]))
    return Alert(**columns)


def forget(session: Session, now: float) -> None:
    """Drop what is remembered of events so old that no device repeats them."""
    session.execute(delete(AlertEventRow).where(AlertEventRow.received < now - REMEMBERED_DAYS * 86400))
