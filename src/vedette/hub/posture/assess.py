"""From assessments to recommendations: what fails is Active, and Resolved when it passes.

Time is that of the device: what arrives late does not undo what was found since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from vedette.hub.detect.schema import AssessmentRow, RecommendationRow
from vedette.hub.detect.taxonomy import Observed
from vedette.hub.registry.upserts import upsert_newer

ACTIVE, RESOLVED = "Active", "Resolved"

LISTED = 100
"""Findings shown of one assessment."""


class Weakness(msgspec.Struct, frozen=True):
    """A kind of recommendation that is not a baseline check: its name, severity and texts."""

    name: str
    severity: str
    title: str
    description: str
    remediation: str


class Assessment(msgspec.Struct, frozen=True):
    """One thing on one device, found to pass or to fail. evaluated: Unix seconds by the device's clock."""

    weakness: Weakness
    device: str
    module: str
    passed: bool
    evaluated: float
    data: Mapping[str, Any]


def record(session: Session, found: Iterable[Assessment], now: float) -> None:
    """Store assessments and let recommendations follow."""
    latest: dict[tuple[str, str], Assessment] = {}
    for one in found:
        key = (one.weakness.name, one.device)
        if key not in latest or latest[key].evaluated <= one.evaluated:
            latest[key] = one
    if not latest:
        return
    upsert_newer(
        session,
        AssessmentRow,
        [
            {
                "device_id": one.device,
                "name": one.weakness.name,
                "severity": one.weakness.severity,
                "passed": one.passed,
                "evaluated": one.evaluated,
            }
            for one in latest.values()
        ],
        "evaluated",
    )
    devices = {one.device for one in latest.values()}
    known = {
        (row.name, row.device_id): row
        for row in session.scalars(select(RecommendationRow).where(RecommendationRow.device_id.in_(devices)))
    }
    for key, one in latest.items():
        row = known.get(key)
        if row is None and not one.passed:
            session.add(_new(one, now))
        elif row is not None and row.evaluated <= one.evaluated:
            _follow(row, one, now)


def _new(one: Assessment, now: float) -> RecommendationRow:
    weakness = one.weakness
    return RecommendationRow(
        name=weakness.name,
        device_id=one.device,
        module_id=one.module,
        title=weakness.title,
        severity=weakness.severity,
        description=weakness.description,
        remediation=weakness.remediation,
        state=ACTIVE,
        first=now,
        discovered=now,
        changed=now,
        resolved=None,
        evaluated=one.evaluated,
        updated=now,
        data=encoded(one.data),
    )


def _follow(row: RecommendationRow, one: Assessment, now: float) -> None:
    """Let a recommendation that exists follow what was found."""
    state = RESOLVED if one.passed else ACTIVE
    if state != row.state:
        row.state, row.changed = state, now
        row.resolved = now if one.passed else None
        if not one.passed:
            row.discovered = now
    if not one.passed:
        row.title, row.severity = one.weakness.title, one.weakness.severity
        row.description, row.remediation = one.weakness.description, one.weakness.remediation
        row.data = encoded(one.data)
    row.evaluated, row.updated, row.module_id = one.evaluated, now, one.module


def encoded(value: Any) -> str:
    """A value as JSON text."""
    return msgspec.json.encode(value).decode()


def of_event(weakness: Weakness, event: Observed, key: str, findings: list[Any]) -> Assessment:
    """An assessment that fails by what an event shows; `key` names the findings in the evidence."""
    data = {key: findings[:LISTED], "Count": len(findings)}
    return Assessment(weakness, event.device, event.module, not findings, event.first, data)
