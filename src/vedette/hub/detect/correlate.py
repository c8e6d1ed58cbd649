"""Matches against correlations, ranges and silences, and what these remember in the registry database.

Everything here happens inside the transaction that also moves the position: it is called with a session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, and_, delete, func, or_, select
from sqlalchemy.orm import Session

from vedette.hub.detect.alerts import Finding
from vedette.hub.detect.judge import Match
from vedette.hub.detect.rules import Correlation, Rule, RuleSet
from vedette.hub.detect.schema import CountRow, EntryRow, HeardRow, PositionRow
from vedette.hub.detect.taxonomy import Observed
from vedette.hub.detect.windows import Entry, firing_id, firings
from vedette.hub.registry.schema import IdentityRow
from vedette.hub.registry.upserts import insert_new, upsert_newer, upsert_sums

LATE_S = 24 * 3600.0
"""How long after its window an entry is still kept, so that what comes late finds it: a device that was
offline sends what it has within hours of its return."""

GROUP_ENTRIES = 10_000
"""Entries of one group that are looked at, the newest: a password list tried over night at one a second has
more, and is found by the first of them."""

GROUPS_AT_ONCE = 32
"""Groups that one statement asks for: a statement each took a third of the time of detection, and all at once
could be GROUP_ENTRIES of every device of a fleet."""

RANGE_GRACE_S = 60.0
"""How long after a window of a range it is judged: a message that came at its end has been committed then."""

RETURN_S = 3 * 3600.0
"""How long a hub that was away waits before it takes devices for silent: they report every two hours."""

KNOWN_S = 7 * 86400.0
"""For how long a device that was heard of is expected to keep a range's minimum."""


class Group(NamedTuple):
    """What a correlation groups by: the device (empty across the fleet) and the values of its fields."""

    device: str
    module: str
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """As the key of a row."""
        return msgspec.json.encode(self).decode()


_Groups = Mapping[Group, Sequence[tuple[Entry, Match]]]
"""What is new in groups."""


def evidence(match: Match, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What an alert shows of an event: its fields, the window and count it stands for."""
    event = match.event
    return {
        "RawEventName": event.name,
        "IoTRawEventId": event.id,
        **{key: value for key, value in match.row.items() if value not in (None, "")},
        "StartTimeUtc": utc_text(event.first),
        "EndTimeUtc": utc_text(event.end),
        "HitCount": event.hits,
        **(extra or {}),
    }


def utc_text(at: float) -> str:
    """A time as documents show it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def single(rule: Rule, match: Match) -> Finding:
    """The finding of a rule without correlation."""
    event = match.event
    values = [str(match.row.get(name) or "") for name in rule.entity]
    return Finding(
        rule,
        event.device,
        event.module,
        " ".join(value for value in values if value),
        event.first,
        max(event.first, event.end),
        ((event.id, event.hits),),
        evidence(match),
    )


class Correlator:
    """Findings of a rule set: those of single events at once, the others by what is remembered."""

    def __init__(self, rules: RuleSet) -> None:
        self._correlations = rules.correlations
        self._users: dict[str, list[Correlation]] = {}
        for correlation in rules.correlations:
            for source in correlation.sources:
                self._users.setdefault(source, []).append(correlation)
        self._rules: dict[str, list[Rule]] = {}
        for rule in rules.rules:
            self._rules.setdefault(rule.key, []).append(rule)
        self._timed = [rule for rule in rules.rules if rule.range or rule.silence]

    def take(
        self, session: Session, matches: Sequence[Match], *, now: float, fresh_after: float
    ) -> list[Finding]:
        """Findings that a batch's matches lead to. fresh_after: what came later was not read before."""
        findings: list[Finding] = []
        timed: dict[str, tuple[Rule, list[Observed]]] = {}
        waiting: dict[str, list[tuple[Group, Entry, Match]]] = {}
        for match in matches:
            for rule in self._rules.get(match.selection, ()):
                if not rule.concerns(match.event.device):
                    continue
                if rule.range or rule.silence:
                    timed.setdefault(rule.id, (rule, []))[1].append(match.event)
                else:
                    findings.append(single(rule, match))
            for correlation in self._users.get(match.selection, ()):
                entry = Entry(
                    match.selection,
                    match.event.first,
                    match.event.id,
                    match.event.hits,
                    str(match.row.get(correlation.field, "")) if correlation.field else "",
                )
                group = _group(correlation, match)
                waiting.setdefault(correlation.key, []).append((group, entry, match))
        for rule, events in timed.values():
            _hear(session, rule, events, fresh_after)
        for correlation in self._correlations:
            if correlation.key in waiting:
                findings += self._correlate(session, correlation, waiting, now)
        return findings

    def _correlate(
        self,
        session: Session,
        correlation: Correlation,
        waiting: dict[str, list[tuple[Group, Entry, Match]]],
        now: float,
    ) -> list[Finding]:
        """Enter what is new, look at the groups concerned, hand firings on to those that refer to them."""
        findings: list[Finding] = []
        groups: dict[Group, list[tuple[Entry, Match]]] = {}
        for group, entry, match in waiting[correlation.key]:
            groups.setdefault(group, []).append((entry, match))
        _enter(session, correlation, groups, now)
        for group, entries in _held(session, correlation, groups):
            new = groups[group]
            for firing in firings(correlation, entries):
                within = [match for entry, match in new if firing.start <= entry.at <= firing.end]
                if not within:
                    continue  # all of it was judged before
                match = within[-1]
                hits = sum(entry.hits for entry in firing.entries)
                passed = Entry(correlation.key, firing.met, firing_id(correlation, group.text, firing), hits)
                for user in self._users.get(correlation.key, ()):
                    onward = _group(user, match)
                    waiting.setdefault(user.key, []).append((onward, passed, match))
                findings += [
                    _finding(rule, correlation, group, firing.entries, match)
                    for rule in self._rules.get(correlation.key, ())
                    if rule.concerns(group.device)
                ]
        return findings

    def due(self, session: Session, now: float, up_since: float) -> list[Finding]:
        """Findings that passing time leads to. Call it when everything committed has been taken.

        up_since: when the hub began to listen; nobody was heard before.
        """
        findings: list[Finding] = []
        for rule in self._timed:
            if rule.range:
                findings += _outside(session, rule, now, up_since)
            elif now - up_since >= RETURN_S:
                findings += _silent(session, rule, now)
        return findings

    def forget(self, session: Session, now: float) -> None:
        """Drop what no window needs any more, and what belongs to rules that are gone."""
        keys = [correlation.key for correlation in self._correlations]
        session.execute(delete(EntryRow).where(EntryRow.correlation.not_in(keys)))
        for correlation in self._correlations:
            old = now - correlation.seconds - LATE_S
            session.execute(
                delete(EntryRow).where(EntryRow.correlation == correlation.key, EntryRow.received < old)
            )
        timed = [rule.id for rule in self._timed]
        for table in (HeardRow, CountRow):
            session.execute(delete(table).where(table.rule_id.not_in(timed)))


def _group(correlation: Correlation, match: Match) -> Group:
    names = [name for name in correlation.group_by if name != "DeviceId"]
    row = match.row if names else {}  # is decoded anew at each look
    values = tuple(str(row.get(name) or "") for name in names)
    return (
        Group("", "", values) if correlation.fleet else Group(match.event.device, match.event.module, values)
    )


def _enter(session: Session, correlation: Correlation, groups: _Groups, now: float) -> None:
    """Add entries to the windows of their groups."""
    rows = [
        {"correlation": correlation.key, "group": group.text, "received": now, **entry._asdict()}
        for group, new in groups.items()
        for entry, _ in new
    ]
    insert_new(session, EntryRow, rows)


def _held(
    session: Session, correlation: Correlation, groups: _Groups
) -> Iterator[tuple[Group, Sequence[Entry]]]:
    """What the windows of groups hold around the entries that are new in them."""
    names = list(groups)
    for first in range(0, len(names), GROUPS_AT_ONCE):
        some = names[first : first + GROUPS_AT_ONCE]
        newest = func.row_number().over(partition_by=EntryRow.group, order_by=EntryRow.at.desc())
        numbered = (
            select(EntryRow, newest.label("number"))
            .where(
                EntryRow.correlation == correlation.key,
                or_(*(_window(correlation, group, groups[group]) for group in some)),
            )
            .subquery()
        )
        columns = [numbered.c[name] for name in ("group", *Entry._fields)]
        held: dict[str, list[Entry]] = {}
        for text, *values in session.execute(select(*columns).where(numbered.c.number <= GROUP_ENTRIES)):
            held.setdefault(text, []).append(Entry(*values))
        yield from ((group, held[group.text]) for group in some)


def _window(
    correlation: Correlation, group: Group, new: Sequence[tuple[Entry, Match]]
) -> ColumnElement[bool]:
    """Entries of a group that can be in one window with one that is new."""
    times = [entry.at for entry, _ in new]
    first, last = min(times) - correlation.seconds, max(times) + correlation.seconds
    return and_(EntryRow.group == group.text, EntryRow.at.between(first, last))


def _finding(
    rule: Rule, correlation: Correlation, group: Group, entries: Sequence[Entry], match: Match
) -> Finding:
    fields = [name for name in correlation.group_by if name != "DeviceId"]
    values = dict(zip(fields, group.values, strict=True))
    entity = " ".join(values.get(name, "") for name in (rule.entity or fields)).strip()
    shown = evidence(match, {**values, "HitCount": sum(entry.hits for entry in entries)})
    shown["StartTimeUtc"] = utc_text(entries[0].at)
    shown["EndTimeUtc"] = utc_text(entries[-1].at)
    events = tuple((entry.event, entry.hits) for entry in entries)
    return Finding(rule, group.device, group.module, entity, entries[0].at, entries[-1].at, events, shown)


def _hear(session: Session, rule: Rule, events: Iterable[Observed], fresh_after: float) -> None:
    """Note when devices were heard, and count what falls into a window."""
    heard: dict[tuple[str, str], float] = {}
    counted: dict[tuple[str, str, int], set[str] | int] = {}
    for event in events:
        who = (event.device, event.module)
        heard[who] = max(heard.get(who, 0.0), event.received)
        if rule.range and event.received > fresh_after:
            start = int(event.received // rule.range.seconds * rule.range.seconds)
            _count(counted, (*who, start), rule, event)
    hearings = [
        {"rule_id": rule.id, "device_id": device, "module_id": module, "since": at, "at": at, "fired": False}
        for (device, module), at in heard.items()
    ]
    upsert_newer(session, HeardRow, hearings, "at", kept=("since",), or_same=False)
    counts = [
        {
            "rule_id": rule.id,
            "device_id": device,
            "module_id": module,
            "start": start,
            "count": count if isinstance(count, int) else len(count),
        }
        for (device, module, start), count in counted.items()
    ]
    upsert_sums(session, CountRow, counts, ("count",))


def _count(
    counted: dict[tuple[str, str, int], set[str] | int],
    key: tuple[str, str, int],
    rule: Rule,
    event: Observed,
) -> None:
    assert rule.range is not None
    if rule.range.of == "messages":
        # A message is committed whole: its events are never in two batches.
        messages = counted.setdefault(key, set())
        assert isinstance(messages, set)
        messages.add(event.message)
    else:
        so_far = counted.get(key, 0)
        assert isinstance(so_far, int)
        counted[key] = so_far + (event.hits if rule.range.of == "hits" else 1)


def _silent(session: Session, rule: Rule, now: float) -> list[Finding]:
    """Devices of which nothing was heard for the rule's time, once for each silence."""
    findings = []
    rows = select(HeardRow).where(
        HeardRow.rule_id == rule.id, HeardRow.at <= now - rule.silence, HeardRow.fired.is_(False)
    )
    for row in session.scalars(rows):
        row.fired = True
        if _serves(session, row.device_id):
            shown = {"LastHeardUtc": utc_text(row.at), "SilentSeconds": int(now - row.at)}
            event = (f"{rule.id}/{row.device_id}/{row.module_id}/{row.at}", 1)
            findings.append(Finding(rule, row.device_id, row.module_id, "", row.at, now, (event,), shown))
    return findings


def _serves(session: Session, device: str) -> bool:
    """Whether a device is registered and enabled: others are expected to be silent."""
    row = session.get(IdentityRow, (device, ""))
    return row is not None and row.enabled


def _outside(session: Session, rule: Rule, now: float, up_since: float) -> list[Finding]:
    """Windows that are over and in which the count was outside the range, each judged once."""
    assert rule.range is not None
    length = rule.range.seconds
    over = int((now - RANGE_GRACE_S) // length * length) - length  # start of the latest window that is over
    judged = session.get(PositionRow, f"range {rule.id}")
    if judged is not None and judged.version >= over:
        return []
    session.merge(PositionRow(name=f"range {rule.id}", version=over, watermark=now))
    rows = session.scalars(select(CountRow).where(CountRow.rule_id == rule.id, CountRow.start <= over))
    counts = {(row.device_id, row.module_id, row.start): row.count for row in rows}
    session.execute(delete(CountRow).where(CountRow.rule_id == rule.id, CountRow.start <= over))
    if rule.range.min and up_since <= over:
        known = select(HeardRow).where(
            HeardRow.rule_id == rule.id, HeardRow.since < over, HeardRow.at > now - KNOWN_S
        )
        for row in session.scalars(known):
            if _serves(session, row.device_id):
                counts.setdefault((row.device_id, row.module_id, over), 0)
    return [
        _range_finding(rule, device, module, start, count)
        for (device, module, start), count in counts.items()
        if count < rule.range.min or (rule.range.max is not None and count > rule.range.max)
    ]


def _range_finding(rule: Rule, device: str, module: str, start: int, count: int) -> Finding:
    assert rule.range is not None
    allowed = rule.range
    shown: dict[str, Any] = {"Count": count, "Of": allowed.of, "Minimum": allowed.min, "Maximum": allowed.max}
    shown |= {"StartTimeUtc": utc_text(start), "EndTimeUtc": utc_text(start + allowed.seconds)}
    event = (f"{rule.id}/{device}/{module}/{start}", max(1, count))
    return Finding(rule, device, module, "", start, start + allowed.seconds, (event,), shown)
