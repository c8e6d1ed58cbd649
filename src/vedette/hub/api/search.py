"""One page of a twin query: reads so many twins, hands out those that match, and says where it stopped."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from typing import Any

import msgspec

from vedette.hub.api.documents import twin_document
from vedette.hub.registry import Fleet
from vedette.hub.registry.query import MAX_GROUPS, Query, QueryError
from vedette.wire.iothub import Identity

PAGE_ROWS, MAX_PAGE_ROWS = 100, 1_000
"""Rows of a page: as asked, within the real service's default and bound."""

MAX_SEEN = 5_000
"""Twins that are read for one page. A rare match yields short, even empty, pages with a continuation, as the
language allows, instead of one request that reads a whole fleet."""

SCAN_ROWS = 500
"""Twins read at a time: at most 36 MB if all are as large as they may be."""


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
    if query.counts:
        return Page(query.rows(_count(fleet, query)), "raw")
    place = _place(continuation)
    limit = max(1, min(limit, MAX_PAGE_ROWS))
    if query.top:
        limit = min(limit, query.top - place.handed_out)
    after = Identity(place.device_id, place.module_id) if place.device_id else None
    rows, after = _matches(fleet, query, limit, after)
    handed_out = place.handed_out + len(rows)
    kind = "raw" if query.columns else "twin"
    if after is None or (query.top and handed_out >= query.top):
        return Page(rows, kind)
    stopped = _Place(after.device_id, after.module_id, handed_out)
    return Page(rows, kind, base64.urlsafe_b64encode(msgspec.json.encode(stopped)).decode())


def _matches(
    fleet: Fleet, query: Query, limit: int, after: Identity | None
) -> tuple[list[dict[str, Any]], Identity | None]:
    """Up to `limit` rows, and the identity behind which more may be found; None at the end."""
    rows: list[dict[str, Any]] = []
    for _ in range(0, MAX_SEEN, SCAN_ROWS):
        entries = _read(fleet, query, after)
        for entry in entries:
            after = entry.device.identity
            document = twin_document(entry)
            if query.where(document):
                rows.append(query.row(document))
            if len(rows) >= limit:
                return rows, after
        if len(entries) < SCAN_ROWS:
            return rows, None
    return rows, after


def _count(fleet: Fleet, query: Query) -> Counter[str]:
    """The number of matching twins in each group. Raises QueryError if there are too many groups."""
    counted: Counter[str] = Counter()
    after = None
    while entries := _read(fleet, query, after):
        documents = map(twin_document, entries)
        counted.update(query.group(document) for document in documents if query.where(document))
        if len(counted) > MAX_GROUPS:
            raise QueryError(f"query: more than {MAX_GROUPS} groups")
        after = entries[-1].device.identity
        if len(entries) < SCAN_ROWS:
            break
    return counted


def _read(fleet: Fleet, query: Query, after: Identity | None) -> Any:
    modules = query.source == "devices.modules"
    return fleet.page(SCAN_ROWS, after, modules=modules, device_id=query.device_id)


def _place(continuation: str) -> _Place:
    if not continuation:
        return _Place("", "", 0)
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(continuation), type=_Place)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise QueryError("x-ms-continuation: not one of ours") from None
