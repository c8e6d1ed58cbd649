"""One page of a twin query: hands out the twins that match, and says where it stopped."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from vedette.hub.api.documents import twin_document
from vedette.hub.registry import Fleet
from vedette.hub.registry.fleet import MAX_ENTRIES
from vedette.hub.registry.query import MAX_GROUPS, Query, QueryError
from vedette.wire.iothub import Identity

PAGE_ROWS, MAX_PAGE_ROWS = 100, MAX_ENTRIES - 1
"""Rows of a page: the real service's default, and its bound less one, which tells whether there are more."""


class Page(msgspec.Struct, frozen=True):
    """Rows, what they are (`twin` or `raw`), and the continuation, empty at the end."""

    rows: list[dict[str, Any]]
    kind: str
    continuation: str = ""


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page stopped: behind this identity, with so many rows of TOP handed out."""

    device_id: str
    module_id: str
    handed_out: int


def search(fleet: Fleet, query: Query, limit: int, continuation: str = "") -> Page:
    """A page of at most `limit` rows. Raises QueryError for a continuation that is none."""
    modules = query.source == "devices.modules"
    if query.counts:
        groups = fleet.groups(query.group_by, modules=modules, condition=query.condition, limit=MAX_GROUPS)
        return Page(query.rows(groups), "raw")
    place = _place(continuation)
    limit = max(1, min(limit, MAX_PAGE_ROWS))
    if query.top:
        limit = min(limit, query.top - place.handed_out)
    after = Identity(place.device_id, place.module_id) if place.device_id else None
    found = fleet.page(limit + 1, after, modules=modules, condition=query.condition)
    rows = [query.row(twin_document(entry)) for entry in found[:limit]]
    handed_out = place.handed_out + len(rows)
    kind = "raw" if query.columns else "twin"
    if len(found) <= limit or (query.top and handed_out >= query.top):
        return Page(rows, kind)
    last = found[limit - 1].device.identity
    stopped = _Place(last.device_id, last.module_id, handed_out)
    return Page(rows, kind, base64.urlsafe_b64encode(msgspec.json.encode(stopped)).decode())


def _place(continuation: str) -> _Place:
    if not continuation:
        return _Place("", "", 0)
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(continuation), type=_Place)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise QueryError("x-ms-continuation: not one of ours") from None
