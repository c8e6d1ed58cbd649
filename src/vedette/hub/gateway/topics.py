"""What an identity may publish and subscribe to: topic text in, typed request out. Pure."""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import quote, unquote

import msgspec

from vedette.wire.iothub import (
    METHOD_REQUEST,
    TWIN_DESIRED,
    TWIN_GET,
    TWIN_REPORTED,
    TWIN_RESPONSE,
    Identity,
    decode_properties,
    query_of,
)

DESIRED_FILTER = f"{TWIN_DESIRED}#"
RESPONSE_FILTER = f"{TWIN_RESPONSE}#"
_COMMON_FILTERS = frozenset({DESIRED_FILTER, RESPONSE_FILTER, f"{METHOD_REQUEST}#"})


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


Request: TypeAlias = Events | TwinGet | TwinReport


def read_topic(topic: str, identity: Identity) -> Request:
    """What a PUBLISH of an identity asks for. Raises ForbiddenTopic."""
    if topic.startswith(TWIN_GET):
        return TwinGet(_request_id(topic))
    if topic.startswith(TWIN_REPORTED):
        return TwinReport(_request_id(topic))
    bag = _below(topic, identity, ["messages", "events"])
    if bag is None:
        raise ForbiddenTopic("topic: may not be published to")
    return Events(decode_properties(bag))


def may_subscribe(text: str, identity: Identity) -> bool:
    """True for the filters of the dialect, and of these only the identity's own."""
    own = ["inputs"] if identity.module_id else ["messages", "devicebound"]
    return text in _COMMON_FILTERS or _below(text, identity, own) == "#"


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
        raise ForbiddenTopic("twin request: no $rid")
    return request_id


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
