"""How event types are declared: fields with unit and meaning, identity, category, table.

The declarations themselves are in `wire.events`; import them from there.
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
