"""The examples inside rules, run as the hub would: as events of a device, through the whole of detection.

docs/rules.md tells their form. Each runs in a transaction that is rolled back, so that none sees another's.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from vedette.hub.detect import alerts
from vedette.hub.detect.correlate import Correlator
from vedette.hub.detect.history import identity, scratch
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.rules import Rule, RuleError, RuleSet, seconds
from vedette.hub.detect.schema import Database
from vedette.hub.detect.taxonomy import Observed, details_of
from vedette.hub.intel.indicators import Refused, indicator
from vedette.hub.intel.lookup import Lookup
from vedette.wire.events import EVENT_TYPES, EventType, pascal

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()
"""When every example begins: a whole hour, so that windows of ranges begin with it."""

DEVICE = "example"
MAX_REPEAT = 10_000
LAST_WAIT_S = 120.0
"""How long the hub's clock runs on after the last event: past the grace of ranges, short of anything else."""

_STEP_KEYS = frozenset(("repeat", "every", "at", "device", "hits", "wait"))


class Outcome(NamedTuple):
    """What came of one example. kind: `fires` or `quiet`, which is what was expected."""

    rule: Rule
    kind: str
    number: int
    fired: bool
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether it came as expected."""
        return not self.reason and self.fired == (self.kind == "fires")


class Step(NamedTuple):
    """An event of an example, or a moment at which only the hub's clock has moved."""

    at: float
    event: Observed | None


def run(rules: RuleSet, chosen: Iterable[Rule]) -> Iterator[Outcome]:
    """The outcome of each example of the chosen rules, disabled ones included."""
    with scratch() as database:
        for rule in chosen:
            alone = only(rules, rule)
            for kind in ("fires", "quiet"):
                for number, example in enumerate(getattr(rule.examples, kind), 1):
                    try:
                        yield Outcome(
                            rule, kind, number, _fires(database, alone, steps(example), lookup(rule))
                        )
                    except RuleError as error:
                        yield Outcome(rule, kind, number, False, str(error))


def only(rules: RuleSet, rule: Rule) -> RuleSet:
    """A rule set with one rule, enabled and for every device, and what it stands on."""
    enabled = msgspec.structs.replace(rule, enabled=True, devices=())
    return msgspec.structs.replace(rules, rules=(enabled,)).running()


def lookup(rule: Rule) -> Lookup:
    """What the lists hold while examples of a rule run. Raises RuleError."""
    try:
        return Lookup(map(indicator, rule.examples.listed))
    except Refused as error:
        raise RuleError(f"examples: listed: {error}") from None


def _fires(database: Database, rules: RuleSet, story: Sequence[Step], listed: Lookup) -> bool:
    """Whether the steps lead to an alert."""
    judge, correlator = Judge(rules.selections.values(), listed), Correlator(rules)
    raised: list[str] = []
    with database.write() as session:
        session.add_all(identity(device) for device in {step.event.device for step in story if step.event})
        for at, steps_then in groupby(story, attrgetter("at")):
            matches = judge.judge([step.event for step in steps_then if step.event])
            findings = correlator.take(session, matches, now=at, fresh_after=0.0)
            findings += correlator.due(session, at, up_since=0.0)
            raised += alerts.record(session, findings, at)
        session.rollback()
    judge.close()
    return bool(raised)


def steps(example: Any) -> list[Step]:
    """An example as steps in time. Raises RuleError naming what is wrong."""
    story: list[Step] = []
    clock = NOON
    for number, part in enumerate(example if isinstance(example, list) else [example]):
        if not isinstance(part, dict):
            raise RuleError(f"example: {part!r} is not a mapping")
        names = sorted(part.keys() - _STEP_KEYS)
        if "wait" in part and not names:
            clock += seconds(str(part["wait"]))
            story.append(Step(clock, None))
            continue
        if len(names) != 1:
            raise RuleError(f"example: one event is needed, not {', '.join(names) or 'none'}")
        clock = NOON + _number(part, "at", clock - NOON + bool(number))
        for again in range(int(_number(part, "repeat", 1))):
            clock += _number(part, "every", 1) if again else 0.0
            story.append(Step(clock, _event(names[0], part, clock, len(story))))
    return [*story, Step(clock + LAST_WAIT_S, None)]


def _number(part: dict[str, Any], key: str, default: float) -> float:
    value = part.get(key, default)
    if not isinstance(value, int | float) or value < 0 or (key == "repeat" and value > MAX_REPEAT):
        raise RuleError(f"example: {key}: {value!r} is not a number that can be used")
    return value


def _event(name: str, part: dict[str, Any], at: float, serial: int) -> Observed:
    if not details_of(name):
        raise RuleError(f"example: there is no event {name}")
    given = part[name] or {}
    if isinstance(given, str):
        given = {"commandline": given}
    hits = int(_number(part, "hits", 1))
    return Observed(
        id=f"example-{serial}",
        device=str(part.get("device", DEVICE)),
        module="",
        name=name,
        details=details(name, given) | {"HitCount": hits},
        first=at,
        end=at,
        received=at,
        hits=hits,
        message=f"message-{serial}",
    )


def details(name: str, given: Any) -> dict[str, Any]:
    """EventDetails as given, checked as the intake checks them; what is left out has a default or is null."""
    declared = EVENT_TYPES.get(name)
    if declared:
        return dict.fromkeys(declared.details) | _payload(declared, given)
    known = details_of(name)
    if not isinstance(given, dict) or not set(given) <= set(known):
        raise RuleError(f"example: {name} has the fields {', '.join(known)}")
    return dict.fromkeys(known) | given


def _payload(declared: EventType, given: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(declared.payload, include_extras=True)
    required = [field for field in msgspec.structs.fields(declared.payload) if field.required]
    defaults = {field.name: _default(hints[field.name]) for field in required}
    if declared.name == "Process":
        defaults["event_type"] = "EXEC"
    try:
        if unknown := sorted(set(given) - set(declared.payload.__struct_fields__)):
            raise RuleError(f"example: {declared.name} has no field {', '.join(unknown)}")
        payload = msgspec.convert(defaults | dict(given), declared.payload)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise RuleError(f"example: {declared.name}: {error}") from None
    known: dict[str, Any] = _plain(payload)
    return known


def _plain(value: Any) -> Any:
    """A payload as plain values, with the names that EventDetails uses."""
    if isinstance(value, msgspec.Struct):
        return {pascal(field): _plain(getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _default(hint: Any) -> Any:
    """A value for a required field that an example does not mention."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _default(typing.get_args(hint)[0])
    if origin is Literal:
        return typing.get_args(hint)[0]
    return {str: "", int: 0, float: 0.0, bool: False}.get(hint, ())
