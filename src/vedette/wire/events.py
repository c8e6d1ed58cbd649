"""Event types, each declared once: fields with unit and meaning, identity, category, table.

Everything else is derived from these declarations: the message schema (`wire.message`), the generated
reference page, the aggregation identity (`agent.aggregate`) and the hub's tables (`hub.lake`). How an
event is collected does not live here; how one is declared is in `wire.declare`.

To add an event type, declare a `Payload` subclass under `@event_type`; nothing else has to change for
it to travel from a collector to a query.

Sources of the facts: the documentation of the retired micro agent (field names, identities) and the
public RTOS agent schema (field types); see docs/reference/events.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from vedette.wire.declare import (
    COMMON_DETAILS,
    EVENT_TYPES,
    Category,
    Event,
    EventType,
    Kind,
    Payload,
    UInt,
    describe,
    doc,
    event_type,
    pascal,
    type_of,
    utc_text,
)

__all__ = [
    "COMMON_DETAILS",
    "EVENT_TYPES",
    "Category",
    "Event",
    "EventType",
    "Kind",
    "Outcome",
    "Payload",
    "Process",
    "Statistics",
    "UInt",
    "describe",
    "doc",
    "event_type",
    "pascal",
    "type_of",
    "utc_text",
]


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
