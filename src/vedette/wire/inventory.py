"""A software inventory put together again from the snapshots and changes in which it travelled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vedette.wire.events import Package, SBoM


class Incomplete(ValueError):
    """The events do not add up to an inventory; the text says what is missing."""


def assembled(events: Iterable[SBoM]) -> dict[str, Package]:
    """A device's packages by package URL, from its SBoM events in the order in which they were made.

    Repeated events do no harm. Raises Incomplete if the latest state cannot be known: a part has not come
    (yet), or a change was lost. The next whole snapshot mends either.
    """
    known: dict[str, Package] | None = None
    snapshot_id = ""
    for report in _reports(events):
        last = report[-1]
        if not last.previous_id:
            known = {}
        elif last.snapshot_id == snapshot_id:
            continue  # told twice
        elif last.previous_id != snapshot_id:
            known = None
        snapshot_id = last.snapshot_id
        if known is not None:
            _apply(report, known)
    if known is None:
        raise Incomplete("no whole snapshot has come, or a change since then was lost")
    return known


def _reports(events: Iterable[SBoM]) -> Iterator[list[SBoM]]:
    """The parts of each report that is whole. Raises Incomplete if the last one is not."""
    parts: dict[int, SBoM] = {}
    begun: tuple[str, str] | None = None
    for event in events:
        if begun != (event.snapshot_id, event.previous_id):
            begun, parts = (event.snapshot_id, event.previous_id), {}
        parts[event.part] = event
        if len(parts) == event.parts:
            yield list(parts.values())
            begun, parts = None, {}
    if parts:
        *_, last = parts.values()
        raise Incomplete(f"of snapshot {last.snapshot_id} {len(parts)} of {last.parts} parts have come")


def _apply(report: list[SBoM], known: dict[str, Package]) -> None:
    for part in report:
        for purl in part.removed:
            known.pop(purl, None)
        known.update((package.purl, package) for package in part.packages)
