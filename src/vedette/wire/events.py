"""Event types, each declared once: fields with unit and meaning, identity, category, table.

Everything else is derived from these declarations: the message schema (`wire.message`), the generated
reference page, the aggregation identity (`agent.aggregate`) and the hub's tables (`hub.lake`). How an
event is collected does not live here.

To add an event type, declare a `Payload` subclass under `@event_type`; nothing else has to change for
it to travel from a collector to a query.

Sources of the facts: the documentation of the retired micro agent (field names, identities) and the
public RTOS agent schema (field types); see docs/reference/events.md.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Hashable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeVar

import msgspec

UInt = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Category(StrEnum):
    """When an event is made: by something that happened, or by the clock."""

    TRIGGERED = "Triggered"
    PERIODIC = "Periodic"


class Kind(StrEnum):
    """What an event speaks of: the device's security, its operation, or the agent itself."""

    SECURITY = "Security"
    OPERATIONAL = "Operational"
    DIAGNOSTIC = "Diagnostic"


class Payload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of one event. Subclasses repeat the struct options and are declared with `event_type`."""


class EventType(msgspec.Struct, frozen=True):
    """What the project knows about one type of event.

    `identity` names the fields that make two events the same; an empty identity means that no two are.
    `sums` names the fields that are added up when events merge; all others keep the first value.
    `details` is the key order of EventDetails.
    """

    name: str
    payload: type[Payload]
    category: Category
    kind: Kind
    identity: tuple[str, ...]
    sums: tuple[str, ...]
    details: tuple[str, ...]
    key: Callable[[Payload], Hashable]

    @property
    def table(self) -> str:
        """Name of the hub's table (a view over the raw events) of this type."""
        return self.name


EVENT_TYPES: dict[str, EventType] = {}
_BY_PAYLOAD: dict[type[Payload], EventType] = {}
_P = TypeVar("_P", bound=type[Payload])

COMMON_DETAILS = ("MessageSource", "OriginalEventId", "EventId", "HitCount", "TimestampUTC")
"""Keys of EventDetails that every event has, in this order, before its own fields."""


def event_type(
    name: str,
    *,
    category: Category,
    kind: Kind = Kind.SECURITY,
    identity: tuple[str, ...] = (),
    sums: tuple[str, ...] = (),
    details: tuple[str, ...] | None = None,
) -> Callable[[_P], _P]:
    """Register a payload class under `name`. Raises ValueError if the declaration contradicts itself."""

    def register(cls: _P) -> _P:
        fields = cls.__struct_fields__
        if name in EVENT_TYPES:
            raise ValueError(f"event type {name} is declared twice")
        for field in (*identity, *sums):
            if field not in fields:
                raise ValueError(f"event type {name} has no field {field}")
        order = details or (*COMMON_DETAILS, *(pascal(field) for field in fields))
        key: Callable[[Payload], Hashable] = attrgetter(*identity) if identity else id
        declared = EventType(name, cls, category, kind, identity, sums, order, key)
        EVENT_TYPES[name] = _BY_PAYLOAD[cls] = declared
        return cls

    return register


def type_of(payload: Payload | type[Payload]) -> EventType:
    """The declaration that a payload (or its class) belongs to."""
    return _BY_PAYLOAD[payload if isinstance(payload, type) else type(payload)]


class Event(msgspec.Struct, frozen=True):
    """Some number of identical observations on a device, as collectors hand them on.

    first_seen: when the first of them was observed, seconds since the Unix epoch (UTC).
    hits: how many there were.
    """

    payload: Payload
    first_seen: float
    hits: int = 1


_WORDS = {"utc": "UTC"}


def pascal(field: str) -> str:
    """`parent_process_id` → `ParentProcessId`: the spelling of EventDetails keys."""
    return "".join(_WORDS.get(word, word[:1].upper() + word[1:]) for word in field.split("_"))


def describe(cls: type[msgspec.Struct]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (field, type, unit, meaning) for every field of a declared structure."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for info in msgspec.structs.fields(cls):
        unit = text = ""
        for part in getattr(hints[info.name], "__metadata__", ()):
            if isinstance(part, msgspec.Meta):
                text = part.description or text
                unit = (part.extra or {}).get("unit", unit)
        yield info.encode_name, type_name(hints[info.name]), unit, text


def type_name(hint: Any) -> str:
    """A type hint in words, for reference pages."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return type_name(typing.get_args(hint)[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(hint))
    if origin is tuple:
        return f"list of {type_name(typing.get_args(hint)[0])}"
    if origin is not None:
        return " or ".join("null" if a is type(None) else type_name(a) for a in typing.get_args(hint))
    return getattr(hint, "__name__", str(hint))


def utc_text(seconds: float) -> str:
    """A time as every message writes it: ISO 8601, UTC, milliseconds, `Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def doc(text: str, unit: str = "") -> msgspec.Meta:
    """The annotation of a declared field: its meaning and its unit."""
    return msgspec.Meta(description=text, extra={"unit": unit} if unit else None)


@event_type("Process", category=Category.TRIGGERED, identity=("event_type", "commandline", "user_id"))
class Process(Payload, frozen=True, kw_only=True):
    """A command line that a user ran, and how often.

    Counted once an execution (`EXEC`), or once a child that never executed anything (`FORK`).
    """

    event_type: Annotated[
        Literal["FORK", "EXEC", "EXIT"],
        doc("EXEC: a program was executed. FORK: a child ran on under the command line it inherited."),
    ]
    process_id: Annotated[UInt, doc("Process id of the first observation, in the initial namespace.")]
    parent_process_id: Annotated[UInt, doc("Its parent; 0 where it is not known.")]
    commandline: Annotated[
        str,
        doc("The arguments, quoted as a POSIX shell would need them; bytes that are not UTF-8 as \\xNN."),
    ]
    executable: Annotated[str, doc("Path as given to execve; empty where it could not be read.")] = ""
    user_name: Annotated[str, doc("Name of user_id in the device's passwd; empty if it has none.")] = ""
    user_id: Annotated[UInt, doc("Real user id of the caller, as the initial namespace sees it.")]
    commandline_length: Annotated[
        UInt | None,
        doc("Real length where commandline had to be truncated (at 4,096), else null.", "bytes"),
    ] = None


class Outcome(msgspec.Struct, frozen=True):
    """How many events met one outcome, and how many observations they stood for."""

    description: Annotated[str, doc("`sent`, or `dropped: ` and the reason.")]
    hit_count: Annotated[UInt, doc("Observations concerned.")]
    events: Annotated[UInt, doc("Aggregated events concerned.")] = 0


@event_type("Statistics", category=Category.PERIODIC, kind=Kind.DIAGNOSTIC)
class Statistics(Payload, frozen=True, kw_only=True):
    """What became of one collector's events in the last cycle: sent, or dropped and why."""

    name: Annotated[str, doc("The collector, or the part of the agent, that is spoken of.")]
    events: Annotated[tuple[Outcome, ...], doc("The outcomes that occurred.")]
