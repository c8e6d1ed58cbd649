"""What the registry tells: keys that devices share, twins that a device refuses or that blind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from vedette.hub.posture.assess import LISTED, Assessment, Weakness
from vedette.hub.registry.schema import IdentityRow, TwinRow
from vedette.wire.classic import OBJECT, Level

SHARED_CREDENTIALS = Weakness(
    "IoT_SharedCredentials",
    "High",
    "Several devices have the same key",
    "Another device has the same key: whoever takes one of them can speak for the other.",
    "Give each device a key of its own.",
)
TWIN_CONFLICT = Weakness(
    "IoT_TwinConfigurationConflict",
    "Medium",
    "The device refuses its configuration",
    "The agent found wrong values in the desired properties of its twin and keeps what it had before.",
    "Correct the fields that the twin's latest_invalid_fields names.",
)
TWIN_NOT_OPTIMAL = Weakness(
    "IoT_TwinConfigurationNotOptimal",
    "Low",
    "Important collectors are switched off",
    "The twin disables a collector that most detection rules depend on.",
    "Enable the collectors again, or accept that what they saw is not seen.",
)

NEEDED_COLLECTORS = ("Process", "NetworkActivity", "Login", "Baseline")
"""Collectors without which TWIN_NOT_OPTIMAL fails."""

NEEDED_EVENTS = ("ProcessCreate", "ConnectionCreate", "Login", "OSBaseline")
"""The same, as the classic agent calls them."""


def credentials_and_twins(session: Session, now: float) -> Iterator[Assessment]:
    """Assessments of every identity."""
    yield from _credentials(session, now)
    rows = select(TwinRow.device_id, TwinRow.module_id, TwinRow.desired, TwinRow.reported)
    for device, module, desired, reported in session.execute(rows.where(TwinRow.reported != "{}")):
        yield from _twin(device, module, msgspec.json.decode(desired), msgspec.json.decode(reported), now)


def _credentials(session: Session, now: float) -> Iterator[Assessment]:
    """Devices whose key another device has, too. The keys themselves stay where they are."""
    owners: dict[str, set[str]] = {}
    for device, *keys in session.execute(
        select(IdentityRow.device_id, IdentityRow.primary_key, IdentityRow.secondary_key)
    ):
        for key in filter(None, keys):
            owners.setdefault(key, set()).add(device)
    shared: dict[str, set[str]] = {}
    for devices in owners.values():
        for device in devices:
            shared.setdefault(device, set()).update(devices - {device})
    for device, others in shared.items():
        data = {"Devices": sorted(others)[:LISTED], "Count": len(others)}
        yield Assessment(SHARED_CREDENTIALS, device, "", not others, now, data)


def _twin(
    device: str, module: str, desired: Mapping[str, Any], reported: Mapping[str, Any], now: float
) -> Iterator[Assessment]:
    """What the micro agent says of its twin; the classic one only reports the settings that are in force."""
    if "latest_state" in reported:
        refused = reported["latest_state"] == "failed"
        wrong = reported.get("latest_invalid_fields") or []
        off = [name for name in NEEDED_COLLECTORS if desired.get(f"{name}_Disabled") is True]
    elif isinstance(in_force := reported.get(OBJECT), dict):
        wanted = desired.get(OBJECT)
        wanted = wanted if isinstance(wanted, dict) else {}
        wrong = sorted(key for key, value in wanted.items() if in_force.get(key) != value)
        refused = bool(wrong)
        off = [name for name in NEEDED_EVENTS if in_force.get(f"eventPriority{name}") == {"value": Level.OFF}]
    else:
        return
    yield Assessment(TWIN_CONFLICT, device, module, not refused, now, {"Fields": wrong})
    yield Assessment(TWIN_NOT_OPTIMAL, device, module, not off, now, {"Disabled": off})
