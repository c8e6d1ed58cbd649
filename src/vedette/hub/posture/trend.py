"""The secure score of the fleet, hour by hour."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import case, delete, func, select
from sqlalchemy.orm import Session

from vedette.hub.detect.schema import AssessmentRow, Database, ScoreRow
from vedette.hub.detect.taxonomy import Observed
from vedette.hub.posture.recommendations import WEIGHTS
from vedette.hub.registry.upserts import upsert

HOUR_S = 3600
KEPT_HOURS = 90 * 24
"""A quarter of a year: what work on a fleet's posture is reported by."""

PERIOD_S = 60.0
"""Between two looks at least."""

SHARE = 0.02
"""Of detection's time that looking may take: a large fleet is looked at less often."""


class Score(msgspec.Struct, frozen=True):
    """See ScoreRow. at: Unix seconds, when the hour began."""

    at: float
    score: float
    devices: int


class Trend:
    """Writes the score down: called with each batch, inside the batch's transaction."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = float("-inf")

    def __call__(self, session: Session, events: Sequence[Observed], now: float) -> None:
        """Look if it is time."""
        begun = self._clock()
        if begun < self._next:
            return
        score, devices = _fleet(session)
        if devices:
            hour = int(now // HOUR_S)
            upsert(session, ScoreRow, {"hour": hour, "score": round(score, 1), "devices": devices})
            session.execute(delete(ScoreRow).where(ScoreRow.hour <= hour - KEPT_HOURS))
        self._next = self._clock() + max(PERIOD_S, (self._clock() - begun) / SHARE)


def history(database: Database, hours: int) -> Sequence[Score]:
    """The scores of the latest hours that have one, in the order of time."""
    rows = select(ScoreRow).order_by(ScoreRow.hour.desc()).limit(min(hours, KEPT_HOURS))
    with database.read.begin() as session:
        found = [Score(float(row.hour * HOUR_S), row.score, row.devices) for row in session.scalars(rows)]
    return found[::-1]


def _fleet(session: Session) -> tuple[float, int]:
    """The mean of the devices' scores, and how many these are; as `Recommendations.scores`."""
    weight = case(WEIGHTS, value=AssessmentRow.severity, else_=1)
    passed = func.sum(case((AssessmentRow.passed, weight), else_=0))
    each = select((100.0 * passed / func.sum(weight)).label("score")).group_by(AssessmentRow.device_id)
    scores = each.subquery()
    mean, devices = session.execute(select(func.avg(scores.c.score), func.count()).select_from(scores)).one()
    return float(mean or 0.0), devices
