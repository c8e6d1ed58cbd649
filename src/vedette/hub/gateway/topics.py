"""What an identity may publish and subscribe to: topic text in, typed request out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import quote, unquote

import msgspec

from vedette.wire.iothub import (
    METHOD_REQUEST,
    METHOD_RESPONSE,
    TWIN_DESIRED,
    TWIN_GET,
    TWIN_REPORTED,
    TWIN_RESPONSE,
    Identity,
    decode_properties,
    encode_properties,
    query_of,
)

DESIRED_FILTER = f"{TWIN_DESIRED}#"
RESPONSE_FILTER = f"{TWIN_RESPONSE}#"
METHODS_FILTER = f"{METHOD_REQUEST}#"
_COMMON_FILTERS = frozenset({DESIRED_FILTER, RESPONSE_FILTER, METHODS_FILTER})

MAX_STATUS_DIGITS = 9
"""Of a method's status: a 32-bit number that the client chooses."""


class ForbiddenTopic(Exception):
    """A topic that this identity may not publish to; the text is a fixed reason."""


class Events(msgspec.Struct, frozen=True):
    """A device-to-cloud message with its decoded property bag."""

    properties: dict[str, str]


class TwinGet(msgspec.Struct, frozen=True):
    """A request for the twin; the answer carries the same id."""

    request_id: str


class TwinReport(msgspec.Struct, frozen=True):
    """A patch of the reported properties; the answer carries the same id."""

    request_id: str


class MethodAnswer(msgspec.Struct, frozen=True):
    """The client's answer to a direct method. status: the client's own number."""

    request_id: str
    status: int


Request: TypeAlias = Events | TwinGet | TwinReport | MethodAnswer


def read_topic(topic: str, identity: Identity) -> Request:
    """What a PUBLISH of an identity asks for. Raises ForbiddenTopic."""
    if topic.startswith(events := identity.events_topic):  # as nearly all clients write it
        return Events(decode_properties(topic[len(events) :]))
    if topic.startswith(TWIN_GET):
        return TwinGet(_request_id(topic))
    if topic.startswith(TWIN_REPORTED):
        return TwinReport(_request_id(topic))
    if topic.startswith(METHOD_RESPONSE):
        return MethodAnswer(_request_id(topic), _status(topic))
    bag = _below(topic, identity, ["messages", "events"])
    if bag is None:
        raise ForbiddenTopic("topic: may not be published to")
    return Events(decode_properties(bag))


def may_subscribe(text: str, identity: Identity) -> bool:
    """True for the filters of the dialect, and of these only the identity's own."""
    own = ["inputs"] if identity.module_id else ["messages", "devicebound"]
    return text in _COMMON_FILTERS or _below(text, identity, own) == "#"


def hears_messages(filters: frozenset[str], identity: Identity) -> bool:
    """True if one of the filters is for cloud-to-device messages."""
    return any(_below(text, identity, ["messages", "devicebound"]) == "#" for text in filters)


def devicebound_topic(identity: Identity, properties: Mapping[str, str]) -> str:
    """Topic of a cloud-to-device message, with its property bag."""
    path = f"{identity.resource}/messages/devicebound"
    return f"devices/{identity.device_id}/messages/devicebound/" + encode_properties(
        [("$.to", f"/{path}"), *properties.items()]
    )


def method_topic(name: str, request_id: str) -> str:
    """Topic of a direct method."""
    return f"{METHOD_REQUEST}{quote(name, safe='')}/?$rid={request_id}"


def response_topic(status: int, request_id: str, version: int | None = None) -> str:
    """Topic of an answer to a twin request."""
    tail = "" if version is None else f"&$version={version}"
    return f"{TWIN_RESPONSE}{status}/?$rid={quote(request_id, safe='')}{tail}"


def desired_topic(version: int) -> str:
    """Topic of a change of the desired properties."""
    return f"{TWIN_DESIRED}?$version={version}"


def _request_id(topic: str) -> str:
    request_id = query_of(topic).get("$rid")
    if not request_id:
        raise ForbiddenTopic("request: no $rid")
    return request_id


def _status(topic: str) -> int:
    """The number in `$iothub/methods/res/{status}/?…`; it may be negative."""
    text = topic.removeprefix(METHOD_RESPONSE).partition("/")[0]
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_STATUS_DIGITS):
        raise ForbiddenTopic("method answer: status is not a number")
    return int(text)


def path_of(identity: Identity) -> list[str]:
    """`devices/d[/modules/m]` in segments, ids as they are."""
    module = ["modules", identity.module_id] if identity.module_id else []
    return ["devices", identity.device_id, *module]


def same(wanted: str, segment: str) -> bool:
    """True if a path segment is the wanted text: clients differ in whether they percent-encode it."""
    return wanted in (segment, unquote(segment))


def _below(topic: str, identity: Identity, leaf: list[str]) -> str | None:
    """What follows `devices/d[/modules/m]/leaf/`; None if the topic begins otherwise."""
    wanted = path_of(identity) + leaf
    *path, rest = topic.split("/", len(wanted))
    return rest if len(path) == len(wanted) and all(map(same, wanted, path)) else None
