"""Messages of this project's agent: JSON, each event of a declared type (`wire.message`)."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from vedette.hub.decode.reading import Decoded, Reading, Unreadable, instant, moment
from vedette.wire import message
from vedette.wire.events import pascal, type_of
from vedette.wire.message import MessageError, WireEvent

PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types of nearly all fields: they are as they should be."""


def decode(body: bytes, source: str) -> Decoded:
    """Read a body. Raises MessageError if nothing of it can be understood."""
    envelope = message.decode(body)
    decoded = Decoded(envelope.security_module_version, source, [], [])
    for index, event in enumerate(envelope.events):
        try:
            decoded.readings.append(_reading(index, event))
        except MessageError as error:
            decoded.unreadable.append(Unreadable(index, str(error), msgspec.json.encode(event)))
    return decoded


def _reading(index: int, event: WireEvent) -> Reading:
    """One event. Raises MessageError naming the field that is wrong."""
    payload = event.decode()
    declared = type_of(payload)
    return Reading(
        index=index,
        id=event.id,
        name=declared.name,
        category=declared.category,
        kind=declared.kind,
        facts=_pascal_keys(payload),
        keys=declared.details,
        first_seen=moment("timestamp", event.timestamp),
        window_end=instant("time", event.time),
        window_start=instant("collection_interval", event.time - event.collection_interval),
        hits=event.hit_count,
    )


def _pascal_keys(value: Any) -> Any:
    """A payload as plain values, with the field names that EventDetails uses."""
    if isinstance(value, msgspec.Struct):
        found = [(key, getattr(value, field)) for field, key in _keys(type(value))]
        return {key: part if type(part) in PLAIN else _pascal_keys(part) for key, part in found}
    if isinstance(value, tuple | list):
        return [_pascal_keys(item) for item in value]
    return value


@cache
def _keys(struct: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    """(field, EventDetails key) of a structure; there are as many as are declared."""
    return tuple((field, pascal(field)) for field in struct.__struct_fields__)
