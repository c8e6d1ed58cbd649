"""Detection's tables in the registry database: alerts, recommendations, and what has been judged so far.

Times are Unix seconds, UTC.
"""

from __future__ import annotations

from sqlalchemy import Engine, Index
from sqlalchemy.orm import Mapped, mapped_column, sessionmaker

from vedette.hub.notify import outbox
from vedette.hub.registry.audit import watch
from vedette.hub.registry.schema import BEGIN, WRITE, Base, OfDevice, open_engine


class AlertRow(Base):
    """An alert: hits of one type on one entity within a day.

    start, end: first and last hit by the device's clock; created, updated: by the hub's. count: events;
    hits: observations that they stand for. The text of the rule is kept as it was. evidence: JSON array.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        Index("alerts_kind", "type", "device_id", "entity", "start"),
        Index("alerts_created", "created"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    rule_id: Mapped[str]
    title: Mapped[str]
    severity: Mapped[str]
    description: Mapped[str]
    remediation: Mapped[str]
    tactics: Mapped[str]
    techniques: Mapped[str]
    subtechniques: Mapped[str]
    device_id: Mapped[str]
    module_id: Mapped[str]
    entity: Mapped[str]
    status: Mapped[str]
    start: Mapped[float]
    end: Mapped[float]
    created: Mapped[float]
    updated: Mapped[float]
    closed: Mapped[float | None]
    count: Mapped[int]
    hits: Mapped[int]
    evidence: Mapped[str]


class AlertChangeRow(Base):
    """Who gave an alert which status, when and why."""

    __tablename__ = "alert_changes"
    __table_args__ = (Index("alert_changes_alert", "alert_id"),)

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    alert_id: Mapped[str]
    at: Mapped[float]
    who: Mapped[str]
    status: Mapped[str]
    why: Mapped[str]


class AlertEventRow(Base):
    """An event that an alert type has taken in, so that it counts once however often it is read."""

    __tablename__ = "alert_events"
    __table_args__ = (Index("alert_events_received", "received"),)

    type: Mapped[str] = mapped_column(primary_key=True)
    event: Mapped[str] = mapped_column(primary_key=True)
    received: Mapped[float]


class SuppressionRow(Base):
    """What shall raise no alert. device: name pattern; type: alert type; expression: `Field=pattern`."""

    __tablename__ = "suppressions"

    id: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str]
    group: Mapped[str]
    type: Mapped[str]
    expression: Mapped[str]
    until: Mapped[float]
    created: Mapped[float]
    who: Mapped[str]
    why: Mapped[str]
    hits: Mapped[int] = mapped_column(default=0)


class PositionRow(Base):
    """How far a table of the lake has been judged.

    version: of the table; -1 while rows are read by time. watermark: latest receipt among what was judged.
    """

    __tablename__ = "detection_position"

    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    watermark: Mapped[float]


class EntryRow(Base):
    """What a correlation has in its window, by group."""

    __tablename__ = "window_entries"
    __table_args__ = (Index("window_entries_received", "received"),)

    correlation: Mapped[str] = mapped_column(primary_key=True)
    group: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    event: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[float]
    hits: Mapped[int]
    value: Mapped[str]
    received: Mapped[float]


class HeardRow(OfDevice, Base):
    """When something that a rule matches was received from a device: since, and at last.

    fired: its silence was reported.
    """

    __tablename__ = "last_heard"

    rule_id: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str] = mapped_column(primary_key=True)
    module_id: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[float]
    at: Mapped[float]
    fired: Mapped[bool] = mapped_column(default=False)


class CountRow(OfDevice, Base):
    """How much a rule of range has counted in a window, which begins at `start`."""

    __tablename__ = "range_counts"

    rule_id: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str] = mapped_column(primary_key=True)
    module_id: Mapped[str] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int]


class RecommendationRow(OfDevice, Base):
    """A weakness of a device. data: JSON object with evidence. evaluated: by the device's clock."""

    __tablename__ = "recommendations"
    __table_args__ = (Index("recommendations_device", "device_id"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str] = mapped_column(primary_key=True)
    module_id: Mapped[str]
    title: Mapped[str]
    severity: Mapped[str]
    description: Mapped[str]
    remediation: Mapped[str]
    state: Mapped[str]
    first: Mapped[float]
    discovered: Mapped[float]
    changed: Mapped[float]
    resolved: Mapped[float | None]
    evaluated: Mapped[float]
    updated: Mapped[float]
    data: Mapped[str]


class AssessmentRow(OfDevice, Base):
    """How something that may become a recommendation was last found: what the secure score is made of."""

    __tablename__ = "assessments"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    severity: Mapped[str]
    passed: Mapped[bool]
    evaluated: Mapped[float]


class SnapshotPartRow(OfDevice, Base):
    """Findings of one part of a snapshot whose other parts have not come yet. data: JSON."""

    __tablename__ = "snapshot_parts"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    snapshot: Mapped[str] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[str]
    received: Mapped[float]


class OwnRuleRow(Base):
    """A rule of the registry. text: YAML as in a file. changed: Unix seconds."""

    __tablename__ = "own_rules"

    name: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    who: Mapped[str]
    changed: Mapped[float]


class RuleSwitchRow(Base):
    """A rule that somebody has switched on or off, whatever its text says."""

    __tablename__ = "rule_switches"

    rule_id: Mapped[str] = mapped_column(primary_key=True)
    enabled: Mapped[bool]
    who: Mapped[str]
    changed: Mapped[float]


class MessageSizesRow(OfDevice, Base):
    """Messages of an identity in an hour (Unix time / 3600), and how many of them were below a unit."""

    __tablename__ = "message_sizes"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    module_id: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[int] = mapped_column(primary_key=True)
    messages: Mapped[int]
    small: Mapped[int]


class ScoreRow(Base):
    """The score at the end of an hour, or so far. hour: Unix seconds / 3600. devices: that have a score."""

    __tablename__ = "score_history"

    hour: Mapped[int] = mapped_column(primary_key=True)
    score: Mapped[float]
    devices: Mapped[int]


class Database:
    """Sessions on the registry database. Raises RegistryError if a newer version wrote it."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = open_engine(url)
        self.read = sessionmaker(self.engine)
        self.write = sessionmaker(self.engine.execution_options(**{BEGIN: WRITE}))
        watch(self.write)
        outbox.watch(self.write)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
