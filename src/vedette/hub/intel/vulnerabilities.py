"""What is known about the software of devices, as the table `SoftwareVulnerability` and for one device."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import select

from vedette.hub.detect.schema import Database
from vedette.hub.intel.matching import Vulnerability
from vedette.hub.intel.schema import VulnerabilitiesRow
from vedette.hub.intel.store import unpacked

MAX_ROWS = 100_000
"""Rows that a query sees: devices whose software was judged last come first."""


def rows(database: Database) -> list[dict[str, Any]]:
    """The rows of `SoftwareVulnerability`."""
    found: list[dict[str, Any]] = []
    newest = select(VulnerabilitiesRow).where(VulnerabilitiesRow.count > 0)
    with database.read.begin() as session:
        ordered = newest.order_by(VulnerabilitiesRow.found.desc(), VulnerabilitiesRow.device_id)
        for row in session.scalars(ordered.execution_options(yield_per=10)):
            at = datetime.fromtimestamp(row.found, UTC).replace(tzinfo=None)
            some = unpacked(row.data, list[Vulnerability])
            found += [_row(row.device_id, one, at) for one in some[: MAX_ROWS - len(found)]]
            if len(found) >= MAX_ROWS:
                break
    return found


def of_device(database: Database, device: str) -> Sequence[Vulnerability]:
    """What is known about a device's software, the worst first."""
    with database.read.begin() as session:
        row = session.get(VulnerabilitiesRow, device)
        return unpacked(row.data, list[Vulnerability]) if row else ()


def _row(device: str, one: Vulnerability, at: datetime) -> dict[str, Any]:
    return {
        "DeviceId": device,
        "Advisory": one.advisory,
        "Cves": msgspec.json.encode(one.cves).decode(),
        "Package": one.package,
        "Version": one.version,
        "FixedVersion": one.fixed,
        "Severity": one.severity,
        "Score": one.score,
        "Summary": one.summary,
        "PackageUrl": one.purl,
        "TimeGenerated": at,
    }
