"""What the registry tells: keys that devices share, twins that a device refuses or that blind it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from vedette.hub.posture.assess import LISTED, Assessment, Weakness
from vedette.hub.registry.schema import IdentityRow, TwinRow
from vedette.wire.classic import MESSAGE_SIZE, OBJECT, Level
from vedette.wire.message import METERING_UNIT
from vedette.wire.twin import InvalidSettings, settings_from

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
    "The configuration sees too little, or costs too much",
    "The twin disables a collector that most detection rules depend on, or wastes messages.",
    "Enable the collectors again, or accept that what they saw is not seen. Make each send interval a"
    " multiple of the one before, so that they share messages, and the message size one of 4096 bytes.",
)

INTERVALS = "CollectorsCore_PriorityIntervals"

NEEDED_COLLECTORS = ("Process", "NetworkActivity", "Login", "Baseline")
"""Collectors without which TWIN_NOT_OPTIMAL fails."""

NEEDED_EVENTS = ("ProcessCreate", "ConnectionCreate", "Login", "OSBaseline")
"""The same, as the classic agent calls them."""


class Owners:
    """Which devices have which key. Read in slices, all of them before the first is assessed."""

    def __init__(self) -> None:
        self._of: dict[str, set[str]] = {}

    def read(self, session: Session, devices: Collection[str]) -> None:
        """Add the keys of these devices."""
        keys = select(IdentityRow.device_id, IdentityRow.primary_key, IdentityRow.secondary_key)
        for device, *pair in session.execute(keys.where(IdentityRow.device_id.in_(devices))):
            for key in filter(None, pair):
                self._of.setdefault(key, set()).add(device)

    def groups(self) -> dict[str, list[tuple[str, ...]]]:
        """Device → the groups, sorted, that share a key with it. The keys are forgotten."""
        shared: dict[str, list[tuple[str, ...]]] = {}
        for devices in self._of.values():
            group = tuple(sorted(devices)) if len(devices) > 1 else ()
            for device in devices:
                groups = shared.setdefault(device, [])
                if group:
                    groups.append(group)
        self._of.clear()
        return shared


def credentials(device: str, groups: Sequence[tuple[str, ...]], now: float) -> Assessment:
    """Whether another device has a key of this one. A key that thousands have is not read whole for each."""
    listed = sorted({other for group in groups for other in group[: LISTED + 1]} - {device})[:LISTED]
    count = len(groups[0]) - 1 if len(groups) == 1 else len(set().union(*groups) - {device})
    return Assessment(SHARED_CREDENTIALS, device, "", not groups, now, {"Devices": listed, "Count": count})


def twins(session: Session, devices: Collection[str], now: float) -> Iterator[Assessment]:
    """What the twins of these devices tell."""
    rows = select(TwinRow.device_id, TwinRow.module_id, TwinRow.desired, TwinRow.reported)
    chosen = rows.where(TwinRow.device_id.in_(devices), TwinRow.reported != "{}")
    for device, module, desired, reported in session.execute(chosen):
        yield from _twin(device, module, msgspec.json.decode(desired), msgspec.json.decode(reported), now)


def _twin(
    device: str, module: str, desired: Mapping[str, Any], reported: Mapping[str, Any], now: float
) -> Iterator[Assessment]:
    """What the micro agent says of its twin; the classic one only reports the settings that are in force."""
    if "latest_state" in reported:
        refused = reported["latest_state"] == "failed"
        wrong = reported.get("latest_invalid_fields") or []
        off = [name for name in NEEDED_COLLECTORS if desired.get(f"{name}_Disabled") is True]
        wasteful = [INTERVALS] if _share_nothing(reported.get(INTERVALS)) else []
    elif isinstance(in_force := reported.get(OBJECT), dict):
        wanted = desired.get(OBJECT)
        wanted = wanted if isinstance(wanted, dict) else {}
        wrong = sorted(key for key, value in wanted.items() if in_force.get(key) != value)
        refused = bool(wrong)
        off = [name for name in NEEDED_EVENTS if in_force.get(f"eventPriority{name}") == {"value": Level.OFF}]
        wasteful = [MESSAGE_SIZE] if _cannot_be_filled(in_force.get(MESSAGE_SIZE)) else []
    else:
        return
    yield Assessment(TWIN_CONFLICT, device, module, not refused, now, {"Fields": wrong})
    found = {"Disabled": off, "Wasteful": wasteful}
    yield Assessment(TWIN_NOT_OPTIMAL, device, module, not any(found.values()), now, found)


def _share_nothing(intervals: object) -> bool:
    """Whether send intervals in force are no multiples of each other; what cannot be read is no news here."""
    try:
        high, medium, low = settings_from({INTERVALS: intervals}).intervals.values()
    except InvalidSettings:
        return False
    return any(abs(ratio - round(ratio)) > 1e-6 for ratio in (medium / high, low / medium))


def _cannot_be_filled(size: object) -> bool:
    """Whether the largest message that the classic agent makes ends within a metered unit."""
    match size:
        case {"value": int(number)}:
            return number % METERING_UNIT != 0
    return False
