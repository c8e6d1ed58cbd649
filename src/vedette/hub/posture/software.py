"""What is known about a device's software: vulnerabilities of its packages, the end of its distribution.

Inventories are put together as they come, and compared with the imported advisories whenever either changed:
some devices at a time, so that an import that concerns a whole fleet holds nothing up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from vedette.hub.detect.taxonomy import Observed
from vedette.hub.intel.lifecycles import Lifecycles
from vedette.hub.intel.matching import Advisories, Vulnerability
from vedette.hub.intel.schema import InventoryRow, VulnerabilitiesRow
from vedette.hub.intel.store import packed, unpacked
from vedette.hub.posture.assess import LISTED, Assessment, Weakness
from vedette.hub.posture.snapshots import whole
from vedette.wire.events import Package, pascal

SLICE_S = 0.5
"""Time after which no further device is compared within a batch: its transaction holds up other writers."""

CANDIDATES = 200
"""Devices looked at within a slice: more do not fit."""

KEPT = 10_000
"""Vulnerabilities kept of a device, the worst: an old server with all its kernels has some thousand."""

NEVER = "-"
"""`judged` of an inventory that has just come."""

VULNERABLE = Weakness(
    "IoT_VulnerableSoftware",
    "High",
    "Installed software has known vulnerabilities",
    "Advisories that the hub has imported name packages in the versions that the device has.",
    "Install the versions that fix them; where there is none yet, see whether the package is needed.",
)
END_OF_LIFE = Weakness(
    "IoT_EndOfLifeDistribution",
    "High",
    "The distribution gets no security updates any more",
    "The operating system's release has reached the end of its maintenance: what is found from now on stays.",
    "Go to a release that is maintained, or subscribe to extended maintenance and import its dates.",
)

_SEVERITIES = {"Critical": "High", "High": "High", "Medium": "Medium", "Unknown": "Medium", "Low": "Low"}
"""Severity of the worst vulnerability → that of the recommendation."""


class Software:
    """Keeps inventories and what is known about them."""

    def __init__(self) -> None:
        self._advisories = Advisories()
        self._lifecycles = Lifecycles()

    def inventory(self, session: Session, event: Observed, now: float) -> Iterator[Assessment]:
        """Take a report of the software in; it is judged by `assess`."""
        details = event.details
        told = {
            "packages": [_package(entry) for entry in details.get("Packages") or ()],
            "removed": details.get("Removed") or [],
        }
        parts = whole(session, event, msgspec.to_builtins(told), now)
        row = session.get(InventoryRow, event.device)
        if parts is None or (row is not None and row.taken > event.first):
            return
        previous, snapshot = details.get("PreviousId") or "", str(details.get("SnapshotId"))
        known: dict[str, Package] = {}
        if previous:
            if row is None or row.snapshot_id != previous:
                return  # a change was lost, or came twice: the next whole report mends it
            known = {package.purl: package for package in unpacked(row.data, list[Package])}
        _apply(parts, known)
        session.merge(
            InventoryRow(
                device_id=event.device,
                snapshot_id=snapshot,
                taken=event.first,
                data=packed(list(known.values())),
                judged=NEVER,
            )
        )
        yield from ()

    def assess(self, session: Session, now: float) -> Iterator[Assessment]:
        """Compare inventories with advisories where one of them is new, as many as fit into a slice."""
        self._advisories.refresh(session)
        state, began = self._advisories.state, time.monotonic()
        rows = select(InventoryRow).where(InventoryRow.judged != state).limit(CANDIDATES)
        for row in session.scalars(rows).all():
            if time.monotonic() - began > SLICE_S:
                return
            row.judged = state
            found = self._advisories.about(session, unpacked(row.data, list[Package])) if state else ()
            if state or session.get(VulnerabilitiesRow, row.device_id) is not None:
                yield _vulnerable(session, row.device_id, found, now)

    def distribution(self, session: Session, event: Observed, now: float) -> Iterator[Assessment]:
        """Whether the device's distribution is maintained; nothing where the table does not know it."""
        self._lifecycles.refresh(session)
        name, described = (str(event.details.get(key) or "") for key in ("OsDist", "OsVersion"))
        entry = self._lifecycles.of(name, described)
        if entry is not None:
            data = msgspec.to_builtins(entry) | {"described": described}
            passed = datetime.fromtimestamp(now, UTC).date() <= entry.ends
            shown = {pascal(key): value for key, value in data.items()}
            yield Assessment(END_OF_LIFE, event.device, event.module, passed, event.first, shown)


def _package(entry: Mapping[str, Any]) -> Package:
    return msgspec.convert(
        {name: entry[pascal(name)] for name in Package.__struct_fields__ if pascal(name) in entry}, Package
    )


def _apply(parts: Sequence[Mapping[str, Any]], known: dict[str, Package]) -> None:
    for part in parts:
        for purl in part["removed"]:
            known.pop(purl, None)
    for part in parts:
        known |= {package.purl: package for package in msgspec.convert(part["packages"], list[Package])}


def _vulnerable(session: Session, device: str, found: Sequence[Vulnerability], now: float) -> Assessment:
    session.merge(
        VulnerabilitiesRow(device_id=device, found=now, count=len(found), data=packed(found[:KEPT]))
    )
    data = {
        "Count": len(found),
        "BySeverity": Counter(one.severity for one in found),
        "Vulnerabilities": [_shown(one) for one in found[:LISTED]],
    }
    worst = _SEVERITIES[found[0].severity] if found else VULNERABLE.severity
    weakness = msgspec.structs.replace(VULNERABLE, severity=worst)
    return Assessment(weakness, device, "", not found, now, data)


def _shown(one: Vulnerability) -> dict[str, Any]:
    return {pascal(key): value for key, value in msgspec.structs.asdict(one).items() if key != "summary"}
