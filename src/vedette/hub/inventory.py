"""Registered devices and their twins as the tables `Devices` and `Twins`; keys are not among the columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, func, select

from vedette.hub.detect.schema import Database
from vedette.hub.registry.profiles import ProfileRow
from vedette.hub.registry.schema import IdentityRow, TwinRow

MAX_ROWS = 100_000
"""Rows of each table that a query sees, in the order of their names: a twin has up to 72 KB, most have 2."""

_profile = and_(ProfileRow.device_id == IdentityRow.device_id, ProfileRow.module_id == IdentityRow.module_id)


def devices(database: Database) -> list[dict[str, Any]]:
    """The rows of `Devices`."""
    modules = (
        select(IdentityRow.device_id, func.count().label("count"))
        .where(IdentityRow.module_id != "")
        .group_by(IdentityRow.device_id)
        .subquery()
    )
    found = (
        select(IdentityRow, ProfileRow, modules.c.count)
        .select_from(IdentityRow)
        .outerjoin(ProfileRow, _profile)
        .outerjoin(modules, modules.c.device_id == IdentityRow.device_id)
        .where(IdentityRow.module_id == "")
        .order_by(IdentityRow.device_id)
        .limit(MAX_ROWS)
    )
    with database.read.begin() as session:
        return [
            {
                "DeviceId": row.device_id,
                "Modules": count or 0,
                "Enabled": row.enabled,
                "Connected": bool(row.gateway),
                "Gateway": row.gateway,
                "Authentication": profile.authentication if profile else "sas",
                "Created": _time(row.created),
                "LastActivity": None if row.last_activity is None else _time(row.last_activity),
                "Tags": profile.tags if profile else "{}",
            }
            for row, profile, count in session.execute(found)
        ]


def twins(database: Database) -> list[dict[str, Any]]:
    """The rows of `Twins`."""
    found = (
        select(TwinRow, ProfileRow.tags)
        .select_from(TwinRow)
        .join(IdentityRow)
        .outerjoin(ProfileRow, _profile)
        .order_by(TwinRow.device_id, TwinRow.module_id)
        .limit(MAX_ROWS)
    )
    with database.read.begin() as session:
        return [
            {
                "DeviceId": twin.device_id,
                "ModuleId": twin.module_id,
                "Tags": tags or "{}",
                "Desired": twin.desired,
                "DesiredVersion": twin.desired_version,
                "Reported": twin.reported,
                "ReportedVersion": twin.reported_version,
            }
            for twin, tags in session.execute(found)
        ]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
