"""The posture of devices: what is weak about them, as recommendations that come and go with their cause.

Every assessment is of one thing on one device and either passes or fails. The first failure makes a
recommendation Active, the next pass makes it Resolved, a further failure Active again; the evidence of the
latest is kept. Time is that of the device: what arrives late does not undo what was found since.

The secure score of a device is the weight of what passes in percent of the weight of all that was assessed
(High 10, Medium 5, Low 1); that of the fleet is the mean of its devices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import case, delete, func, select
from sqlalchemy.orm import Session

from vedette.hub.detect.schema import (
    AssessmentRow,
    Database,
    RecommendationRow,
    SnapshotPartRow,
    insert_new,
    upsert_newer,
)
from vedette.hub.detect.taxonomy import Observed
from vedette.hub.registry.schema import IdentityRow, TwinRow

log = logging.getLogger(__name__)

WEIGHTS = {"High": 10, "Medium": 5, "Low": 1}
"""What a failure costs: one High outweighs nine Low ones."""

ACTIVE, RESOLVED = "Active", "Resolved"

REGISTRY_PERIOD_S = 3600.0
"""How often identities and twins are looked through."""

PARTS_KEPT_S = 24 * 3600.0
"""How long parts of a snapshot wait for the others: they are sent in one go, or within the hour."""

SMALL_SHARE = 0.10
"""Share of a device's messages below one metered unit from which they are worth a recommendation."""

LISTED = 100
"""Findings shown of one assessment."""

_BASELINE_SEVERITIES = {"Critical": "High", "Important": "High", "Warning": "Medium", "Informational": "Low"}


class Weakness(msgspec.Struct, frozen=True):
    """A kind of recommendation that is not a baseline check: its name, severity and texts."""

    name: str
    severity: str
    title: str
    description: str
    remediation: str


OPEN_PORTS = Weakness(
    "IoT_OpenPorts",
    "Medium",
    "Open ports on the device",
    "The device waits for connections on addresses that others can reach.",
    "Stop services that are not needed, and bind the others to the loopback or to one interface.",
)
PERMISSIVE_POLICY = Weakness(
    "IoT_PermissiveFirewallPolicy",
    "Medium",
    "The packet filter accepts what no rule decides on",
    "A chain for incoming packets has the policy accept, or there is no packet filter at all.",
    "Set the policy to drop, and allow what is needed by rules.",
)
PERMISSIVE_INPUT = Weakness(
    "IoT_PermissiveInputFirewallRules",
    "Medium",
    "A rule for incoming packets accepts everything",
    "A rule accepts incoming packets from anywhere to any port.",
    "Limit the rule to the addresses, protocols and ports that are needed.",
)
PERMISSIVE_OUTPUT = Weakness(
    "IoT_PermissiveOutputFirewallRules",
    "Medium",
    "A rule for outgoing packets accepts everything",
    "A rule accepts outgoing packets to anywhere and any port.",
    "Limit the rule to the addresses, protocols and ports that are needed.",
)
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
SMALL_MESSAGES = Weakness(
    "IoT_SmallMessages",
    "Low",
    "Many messages are smaller than a metered unit",
    "A tenth or more of the messages of a day were below 4 KB, each of which is billed as 4 KB.",
    "Lengthen the send intervals (CollectorsCore_PriorityIntervals), or lower the priority of collectors.",
)

NEEDED_COLLECTORS = ("Process", "NetworkActivity", "Login", "Baseline")
"""Collectors without which TWIN_NOT_OPTIMAL fails."""


class Assessment(msgspec.Struct, frozen=True):
    """One thing on one device, found to pass or to fail. evaluated: Unix seconds by the device's clock."""

    weakness: Weakness
    device: str
    module: str
    passed: bool
    evaluated: float
    data: Mapping[str, Any]


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
    """One recommendation over all devices: how many have it, and since when (Unix seconds)."""

    name: str
    title: str
    severity: str
    devices: int
    since: float


class Posture:
    """Keeps the recommendations: called with the events of each batch, inside the batch's transaction."""

    def __init__(self) -> None:
        self._looked = float("-inf")

    def __call__(self, session: Session, events: Sequence[Observed], now: float) -> None:
        """Assess what the events tell, and now and then what the registry tells."""
        found: list[Assessment] = []
        for event in events:
            assess = _BY_EVENT.get(event.name)
            if assess is not None:
                found += assess(session, event, now)
        if now - self._looked >= REGISTRY_PERIOD_S:
            self._looked = now
            found += _registry(session, now)
            old = now - PARTS_KEPT_S
            session.execute(delete(SnapshotPartRow).where(SnapshotPartRow.received < old))
        record(session, found, now)


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
        data=_json(one.data),
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
        row.data = _json(one.data)
    row.evaluated, row.updated, row.module_id = one.evaluated, now, one.module


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# -- what events tell


def _baseline(session: Session, event: Observed, now: float) -> Iterator[Assessment]:
    """A check that fails or passes; SKIP passes (there is nothing to check any more), ERROR tells nothing."""
    details = event.details
    result = str(details.get("BaselineCheckResult") or details.get("Result") or "").upper()
    check = str(details.get("BaselineCheckId") or details.get("CceId") or "")
    if result not in ("PASS", "FAIL", "SKIP") or not check:
        return
    stated = str(details.get("BaselineCheckSeverity") or details.get("Severity") or "").capitalize()
    title = str(details.get("BaselineCheckDescription") or details.get("Description") or "")
    weakness = Weakness(
        f"IoT_CISBenchmarks_{check.rpartition('-')[2] if check.startswith('CIS-') else check}",
        _BASELINE_SEVERITIES.get(stated, "Medium"),
        title.partition(". ")[0],
        title,
        str(details.get("BaselineCheckRemediation") or ""),
    )
    data = {
        "BaselineCheckId": check,
        "Group": details.get("BaselineCheckGroup") or "",
        "Evidence": list(details.get("BaselineCheckEvidence") or ()),
    }
    yield Assessment(weakness, event.device, event.module, result != "FAIL", event.first, data)


_LOOPBACK = ("127.", "::1", "::ffff:127.")


def _ports(session: Session, event: Observed, now: float) -> Iterator[Assessment]:
    ports = event.details.get("Ports") or ()
    reachable = [
        {name: port.get(name) for name in ("Protocol", "LocalAddress", "LocalPort", "Executable")}
        for port in ports
        if not str(port.get("LocalAddress", "")).startswith(_LOOPBACK)
    ]
    whole = _whole(session, event, {"ports": reachable}, now)
    if whole is not None:
        yield _assessment(OPEN_PORTS, event, "Ports", [port for part in whole for port in part["ports"]])


def _firewall(session: Session, event: Observed, now: float) -> Iterator[Assessment]:
    rules = event.details.get("Rules") or ()
    own = {
        "rules": len(rules),
        "policy": [rule for rule in rules if rule.get("Policy") and _accepts(rule, "In")],
        "input": [rule for rule in rules if _accepts_all(rule, "In")],
        "output": [rule for rule in rules if _accepts_all(rule, "Out")],
    }
    whole = _whole(session, event, own, now)
    if whole is None:
        return
    policies = [rule for part in whole for rule in part["policy"]]
    if not sum(part["rules"] for part in whole):
        policies = [{"Chain": "", "Action": "no packet filter"}]
    yield _assessment(PERMISSIVE_POLICY, event, "Chains", policies)
    yield _assessment(PERMISSIVE_INPUT, event, "Rules", [rule for part in whole for rule in part["input"]])
    yield _assessment(PERMISSIVE_OUTPUT, event, "Rules", [rule for part in whole for rule in part["output"]])


def _accepts(rule: Mapping[str, Any], direction: str) -> bool:
    return rule.get("Direction") == direction and rule.get("Action") == "accept"


_MATCHES = (*("Protocol", "SourceAddress", "SourcePort", "DestinationAddress", "DestinationPort"), "Text")


def _accepts_all(rule: Mapping[str, Any], direction: str) -> bool:
    """Whether a rule (no policy) accepts whatever there is: it has nothing to match."""
    return (
        not rule.get("Policy")
        and _accepts(rule, direction)
        and all(rule.get(name) in (None, "", "any", "all", "0.0.0.0/0", "::/0") for name in _MATCHES)
    )


def _assessment(weakness: Weakness, event: Observed, key: str, findings: list[Any]) -> Assessment:
    data = {key: findings[:LISTED], "Count": len(findings)}
    return Assessment(weakness, event.device, event.module, not findings, event.first, data)


def _whole(
    session: Session, event: Observed, own: Mapping[str, Any], now: float
) -> list[Mapping[str, Any]] | None:
    """What all parts of a snapshot told, this one's included; None while others are missing."""
    details = event.details
    parts = details.get("Parts") or 1
    if parts == 1:
        return [own]
    snapshot = f"{details.get('SnapshotId')} {event.first}"
    key = {"device_id": event.device, "name": event.name, "snapshot": snapshot}
    row = {**key, "part": details.get("Part") or 1, "data": _json(own), "received": now}
    insert_new(session, SnapshotPartRow, [row])
    held = session.scalars(select(SnapshotPartRow.data).filter_by(**key).order_by(SnapshotPartRow.part)).all()
    return [msgspec.json.decode(data) for data in held] if len(held) >= parts else None


def _message_statistics(session: Session, event: Observed, now: float) -> Iterator[Assessment]:
    """The classic agent counts its small messages itself."""
    try:
        sent = int(event.details.get("MessagesSent") or 0)
        small = int(event.details.get("MessagesUnder4KB") or 0)
    except ValueError:
        return
    if sent:
        data = {"Messages": sent, "Under4KB": small}
        passed = small < sent * SMALL_SHARE
        yield Assessment(SMALL_MESSAGES, event.device, event.module, passed, event.first, data)


_BY_EVENT: dict[str, Callable[[Session, Observed, float], Iterator[Assessment]]] = {
    "Baseline": _baseline,
    "OSBaseline": _baseline,
    "ListeningPorts": _ports,
    "FirewallConfiguration": _firewall,
    "MessageStatistics": _message_statistics,
}


# -- what the registry tells


def _registry(session: Session, now: float) -> Iterator[Assessment]:
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
    if "latest_state" not in reported:
        return
    wrong = reported.get("latest_invalid_fields") or []
    passed = reported["latest_state"] != "failed"
    yield Assessment(TWIN_CONFLICT, device, module, passed, now, {"Fields": wrong})
    off = [name for name in NEEDED_COLLECTORS if desired.get(f"{name}_Disabled") is True]
    yield Assessment(TWIN_NOT_OPTIMAL, device, module, not off, now, {"Disabled": off})


# -- what is asked


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
            return [_recommendation(row) for row in session.scalars(rows.limit(limit))]

    def fleet(self) -> Sequence[FleetRecommendation]:
        """Each active recommendation once: on how many devices, since when; the most frequent first."""
        rows = (
            select(
                RecommendationRow.name,
                func.max(RecommendationRow.title),
                func.max(RecommendationRow.severity),
                func.count(),
                func.min(RecommendationRow.discovered),
            )
            .where(RecommendationRow.state == ACTIVE)
            .group_by(RecommendationRow.name)
            .order_by(func.count().desc(), RecommendationRow.name)
        )
        with self._database.read.begin() as session:
            return [FleetRecommendation(*row) for row in session.execute(rows)]

    def scores(self) -> dict[str, float]:
        """The secure score of each device that anything was assessed of, 0 to 100."""
        weight = case(WEIGHTS, value=AssessmentRow.severity, else_=1)
        passed = func.sum(case((AssessmentRow.passed, weight), else_=0))
        rows = select(AssessmentRow.device_id, passed, func.sum(weight)).group_by(AssessmentRow.device_id)
        with self._database.read.begin() as session:
            return {device: round(100 * good / whole, 1) for device, good, whole in session.execute(rows)}


def fleet_score(scores: Mapping[str, float]) -> float | None:
    """The mean of the devices' scores; None where nothing was assessed."""
    return round(sum(scores.values()) / len(scores), 1) if scores else None


def _recommendation(row: RecommendationRow) -> Recommendation:
    columns = {name: getattr(row, name) for name in Recommendation.__struct_fields__}
    return Recommendation(**columns | {"data": msgspec.json.decode(row.data)})
