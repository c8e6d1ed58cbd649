"""The devices that a condition on twins holds for, as in `tags.site = 'north'`: counted, and by pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vedette.hub.api.search import search
from vedette.hub.registry import Registry
from vedette.hub.registry.shelf import selecting

READ = 500
"""Devices read at a time."""


def counted(registry: Registry, condition: str) -> int:
    """How many they are. Raises QueryError."""
    [row] = search(registry.fleet, selecting(condition, "COUNT() AS devices"), 1).rows
    return int(row["devices"])


def page(registry: Registry, condition: str, limit: int, after: str = "") -> tuple[Sequence[str], str]:
    """Some of their ids, and the continuation behind them, empty at the end. Raises QueryError."""
    found: list[str] = []
    while len(found) < limit:
        part = search(registry.fleet, selecting(condition), limit - len(found), after)
        found += [str(row["deviceId"]) for row in part.rows]
        after = part.continuation
        if not after:
            break
    return found, after


def every(registry: Registry, condition: str) -> Iterator[Sequence[str]]:
    """All their ids, READ at a time. Raises QueryError."""
    after = ""
    while True:
        ids, after = page(registry, condition, READ, after)
        yield ids
        if not after:
            return
