"""Alerts and recommendations as the documented tables `SecurityAlert` and `SecurityRecommendation`.

They live in the registry database, as do devices and twins (`inventory`) and what is known about software
(`intel.vulnerabilities`); a query that names one of the tables gets its rows as they are then. The columns
themselves are declared in `lake.views`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from vedette.hub import inventory
from vedette.hub.detect.alerts import alert_of
from vedette.hub.detect.schema import AlertRow, Database, RecommendationRow
from vedette.hub.formats.sentinel import security_alert, security_recommendation
from vedette.hub.intel import vulnerabilities
from vedette.hub.posture.recommendations import recommendation_of

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 100_000
"""Rows of each table that a query sees, the newest: 100 MB while it runs."""

Findings = Mapping[str, Callable[[], "pa.Table"]]
"""Table name → its rows now."""


def findings(database: Database) -> Findings:
    """The tables over a registry database."""
    return {
        "SecurityAlert": partial(_table, database, _alerts),
        "SecurityRecommendation": partial(_table, database, _recommendations),
        "SoftwareVulnerability": partial(_table, database, vulnerabilities.rows),
        "Devices": partial(_table, database, inventory.devices),
        "Twins": partial(_table, database, inventory.twins),
    }


def _table(database: Database, rows: Callable[[Database], list[dict[str, Any]]]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows(database))


def _alerts(database: Database) -> list[dict[str, Any]]:
    with database.read.begin() as session:
        newest = select(AlertRow).order_by(AlertRow.created.desc()).limit(MAX_ROWS)
        return [security_alert(alert_of(row)) for row in session.scalars(newest)]


def _recommendations(database: Database) -> list[dict[str, Any]]:
    with database.read.begin() as session:
        newest = select(RecommendationRow).order_by(RecommendationRow.changed.desc()).limit(MAX_ROWS)
        return [security_recommendation(recommendation_of(row)) for row in session.scalars(newest)]
