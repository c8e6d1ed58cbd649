"""Several events against a correlation: pure arithmetic over what one group has in its window.

Time is that of the device's clock. Events need not come in order: what is late takes its place in time, and
the whole group is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

from vedette.hub.detect.rules import Correlation


class Entry(NamedTuple):
    """Something that a correlation refers to happened. source: key of the selection or correlation.

    at: Unix seconds; event: its id; hits: observations it stands for; value: of the field that counts.
    """

    source: str
    at: float
    event: str
    hits: int = 1
    value: str = ""


class Firing(NamedTuple):
    """A correlation was fulfilled. met: when; start, end: first and last of the entries that belong to it."""

    start: float
    end: float
    met: float
    entries: tuple[Entry, ...]


def firings(correlation: Correlation, entries: Sequence[Entry]) -> list[Firing]:
    """Where the correlation is fulfilled; windows that overlap are one firing."""
    ordered = sorted(entries, key=lambda entry: (entry.at, entry.event))
    windows = (_temporal if correlation.kind.startswith("temporal") else _counted)(correlation, ordered)
    merged: list[tuple[int, int, float]] = []
    for first, last in windows:
        if merged and first <= merged[-1][1]:
            merged[-1] = (min(first, merged[-1][0]), last, merged[-1][2])
        else:
            merged.append((first, last, ordered[last].at))
    return [
        Firing(ordered[first].at, ordered[last].at, met, tuple(ordered[first : last + 1]))
        for first, last, met in merged
    ]


def _counted(correlation: Correlation, entries: Sequence[Entry]) -> Iterator[tuple[int, int]]:
    """(first, last) of each fulfilled window, for each entry as its end."""
    values: dict[str, int] = {}
    hits = first = 0
    for last, entry in enumerate(entries):
        hits += entry.hits
        values[entry.value] = values.get(entry.value, 0) + 1
        while entries[first].at < entry.at - correlation.seconds:
            gone = entries[first]
            hits, first = hits - gone.hits, first + 1
            values[gone.value] -= 1
            if not values[gone.value]:
                del values[gone.value]
        count = len(values) if correlation.kind == "value_count" else hits
        if count >= correlation.threshold:
            yield first, last


def _temporal(correlation: Correlation, entries: Sequence[Entry]) -> Iterator[tuple[int, int]]:
    """The same for one entry of each source, in their order if that is asked for.

    chain[i]: where the latest window begins that holds the first i + 1 sources (ordered), or source i.
    """
    chain: dict[str, int] = {}
    sources = correlation.sources
    for last, entry in enumerate(entries):
        if correlation.kind == "temporal":
            chain[entry.source] = last
        else:
            _prolong(chain, sources, entry.source, last)
        first = min(chain.values()) if correlation.kind == "temporal" else chain.get(sources[-1], -1)
        whole = (
            len(chain) == len(set(sources)) if correlation.kind == "temporal" else entry.source == sources[-1]
        )
        if whole and first >= 0 and entries[first].at >= entry.at - correlation.seconds:
            yield first, last


def _prolong(chain: dict[str, int], sources: Sequence[str], source: str, index: int) -> None:
    """Let an entry of one source continue the latest chain of those before it."""
    position = sources.index(source)
    if position == 0:
        chain[source] = index
    elif sources[position - 1] in chain:
        chain[source] = chain[sources[position - 1]]


def firing_id(correlation: Correlation, group: str, firing: Firing) -> str:
    """An id for a firing as an event of its own: the same when the same events are read again."""
    text = f"{correlation.key}\0{group}\0{firing.entries[0].event}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
