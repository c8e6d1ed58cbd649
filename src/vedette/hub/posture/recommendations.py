"""Recommendations and secure scores for whoever looks at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import InstrumentedAttribute

from vedette.hub.detect.schema import AssessmentRow, Database, RecommendationRow
from vedette.hub.posture.assess import ACTIVE

WEIGHTS = {"High": 10, "Medium": 5, "Low": 1}
"""What a failure costs: one High outweighs nine Low ones."""


_SEVERITIES = {weight: severity for severity, weight in WEIGHTS.items()}


def _weight(severity: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[int]:
    return case(WEIGHTS, value=severity, else_=WEIGHTS["Low"])


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """A recommendation as it is shown; see `detect.schema.RecommendationRow`."""

    name: str
    device_id: str
    module_id: str
    title: str
    severity: str
    description: str
    remediation: str
    state: str
    first: float
    discovered: float
    changed: float
    resolved: float | None
    evaluated: float
    updated: float
    data: dict[str, Any]


class FleetRecommendation(msgspec.Struct, frozen=True):
    """One recommendation over all devices: how many have it, how grave at worst, since when (Unix)."""

    name: str
    title: str
    severity: str
    devices: int
    since: float


class Recommendations:
    """The recommendations of a hub, for whoever looks at them. Every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self, *, device: str = "", name: str = "", state: str = "", limit: int = 1_000
    ) -> Sequence[Recommendation]:
        """Recommendations, those that changed last first; an empty argument means all."""
        rows = select(RecommendationRow).order_by(RecommendationRow.changed.desc(), RecommendationRow.name)
        for column, value in (
            (RecommendationRow.device_id, device),
            (RecommendationRow.name, name),
            (RecommendationRow.state, state),
        ):
            if value:
                rows = rows.where(column == value)
        with self._database.read.begin() as session:
            return [recommendation_of(row) for row in session.scalars(rows.limit(limit))]

    def fleet(self) -> Sequence[FleetRecommendation]:
        """Each active recommendation once: on how many devices, since when; the most frequent first."""
        rows = (
            select(
                RecommendationRow.name,
                func.max(RecommendationRow.title),
                func.max(_weight(RecommendationRow.severity)),
                func.count(),
                func.min(RecommendationRow.discovered),
            )
            .where(RecommendationRow.state == ACTIVE)
            .group_by(RecommendationRow.name)
            .order_by(func.count().desc(), RecommendationRow.name)
        )
        with self._database.read.begin() as session:
            return [
                FleetRecommendation(name, title, _SEVERITIES[weight], devices, since)
                for name, title, weight, devices, since in session.execute(rows)
            ]

    def scores(self) -> dict[str, float]:
        """The secure score of each device that anything was assessed of, 0 to 100."""
        weight = _weight(AssessmentRow.severity)
        passed = func.sum(case((AssessmentRow.passed, weight), else_=0))
        rows = select(AssessmentRow.device_id, passed, func.sum(weight)).group_by(AssessmentRow.device_id)
        with self._database.read.begin() as session:
            return {device: round(100 * good / whole, 1) for device, good, whole in session.execute(rows)}


def fleet_score(scores: Mapping[str, float]) -> float | None:
    """The mean of the devices' scores; None where nothing was assessed."""
    return round(sum(scores.values()) / len(scores), 1) if scores else None


def recommendation_of(row: RecommendationRow) -> Recommendation:
    """A row as it is shown."""
    columns = {name: getattr(row, name) for name in Recommendation.__struct_fields__}
    return Recommendation(**columns | {"data": msgspec.json.decode(row.data)})
