"""Snapshots: state of the device that is sent when it changed, whole now and then, else not at all.

What was told last is remembered in one small file of the state directory, so that a restart repeats
nothing. It is written when a report is handed over; power loss between that and the outbox loses one
report, which the next whole one makes good (and the hub sees it before: `previous_id` does not match).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import msgspec

from vedette.agent.collectors import Collected
from vedette.agent.collectors.periodic import PeriodicCollector
from vedette.agent.losses import TOO_MANY_ITEMS, Losses
from vedette.agent.settings import write_private
from vedette.agent.sources.files import content
from vedette.wire.events import Event, Snapshot
from vedette.wire.twin import Settings

log = logging.getLogger(__name__)

MAX_ITEMS = 20_000
"""Items of one snapshot. A full desktop has about 5,000 packages, a large nftables set is not listed."""

PART_BYTES = 6_144
"""Encoded items in one part: with all that stands around them they fit into the smallest message that a
twin can ask for (8,192 bytes). Parts share messages where there is room."""

SLICE = 256
"""Items read in one go off the event loop: a few milliseconds, after which other collectors have a turn."""

MAX_STATE_BYTES = 16_777_216
"""Bytes read of the remembered state: MAX_ITEMS keys of about 150 bytes take 3.5 MB."""

DAY_S = 86_400.0
CLOCK_SET = 1_704_067_200.0
"""2024 began. An earlier time means that a device without a battery-backed clock has not set it yet."""

ItemT = TypeVar("ItemT", bound=msgspec.Struct)
_encode = msgspec.json.Encoder().encode


class Known(msgspec.Struct, frozen=True):
    """What was told last.

    snapshot_id: its digest. full_at: when it was last told whole, Unix seconds. items: digest by key,
    where changes are told one by one.
    """

    snapshot_id: str
    full_at: float
    items: dict[str, str] = {}


class Part(msgspec.Struct, Generic[ItemT], frozen=True, kw_only=True):
    """What one event of a snapshot tells. previous_id is empty where all items are told."""

    snapshot_id: str
    previous_id: str
    number: int
    of: int
    items: tuple[ItemT, ...]
    removed: tuple[str, ...]
    total: int


class SnapshotCollector(PeriodicCollector, Generic[ItemT]):
    """A collector that tells the state of something as a list of items.

    state: directory in which what was told last is remembered. clock: Unix seconds.
    """

    changes_only: ClassVar[bool] = False
    """True: between whole snapshots only new, changed and removed items are told."""

    def __init__(self, state: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._file = state / f"snapshot-{self.name}.json"
        self._clock = clock
        self._told: Known | None = None

    @abstractmethod
    def read(self, losses: Losses) -> Iterator[ItemT]:
        """The items that are there now. Runs in a worker thread, SLICE items at a time.

        Raises Unavailable if the state cannot be seen on this machine.
        """

    @abstractmethod
    def payload(self, part: Part[ItemT]) -> Snapshot:
        """The event that tells a part."""

    @abstractmethod
    def full_every(self, settings: Settings) -> int:
        """Days after which everything is told again."""

    def key(self, item: ItemT) -> str:
        """What tells an item apart from the others: by default all of it."""
        return _digest(_encode(item))

    def lasting(self, item: ItemT) -> ItemT:
        """The item without what may differ although nothing changed (a process id)."""
        return item

    def remarks(self) -> tuple[str, ...]:
        """What else belongs to the state, known after `read`: a change of it is a change."""
        return ()

    async def collect(self) -> Collected:
        """Tell what changed since the last time; nothing if nothing did."""
        losses = Losses()
        known = await asyncio.to_thread(self._recall)
        full = known is None or self._due(known)
        only_new = known.items if known and self.changes_only and not full else {}
        scan = _Scan(self, only_new, losses)
        items = self.read(losses)
        while await asyncio.to_thread(scan.take, items):
            pass
        snapshot_id = scan.snapshot_id(self.remarks())
        if known and snapshot_id == known.snapshot_id and not full:
            return Collected([], losses.take())
        previous = known.snapshot_id if known and only_new else ""
        events = self._events(snapshot_id, previous, scan)
        full_at = known.full_at if known and previous else self._clock()
        told = Known(snapshot_id, full_at, scan.digests if self.changes_only else {})
        await asyncio.to_thread(self._remember, told)
        return Collected(events, losses.take())

    def _due(self, known: Known) -> bool:
        """Whether everything is to be told again. A clock that went back does not make it so, unless it
        is right now and was wrong then."""
        age = self._clock() - known.full_at
        return age >= self.full_every(self._settings) * DAY_S or (age < -DAY_S and self._clock() > CLOCK_SET)

    def _events(self, snapshot_id: str, previous_id: str, scan: _Scan[ItemT]) -> list[Event]:
        parts = list(_split(scan.kept, scan.removed())) or [((), ())]
        now = self._clock()
        return [
            Event(
                self.payload(
                    Part(
                        snapshot_id=snapshot_id,
                        previous_id=previous_id,
                        number=number,
                        of=len(parts),
                        items=items,
                        removed=removed,
                        total=len(scan.digests),
                    )
                ),
                now,
            )
            for number, (items, removed) in enumerate(parts, 1)
        ]

    def _recall(self) -> Known | None:
        if self._told:
            return self._told
        try:
            return msgspec.json.decode(content(self._file, MAX_STATE_BYTES), type=Known)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # never told, or torn by a power cut: told whole again

    def _remember(self, known: Known) -> None:
        """Write the state down; where the directory cannot be written, keep it until the agent ends."""
        try:
            write_private(self._file, _encode(known))
            self._told = None
        except OSError as error:
            if self._told is None:
                log.warning("%s: told again after a restart: %s", self.name, error)
            self._told = known


class _Scan(Generic[ItemT]):
    """One look at all items: their digests, and the items themselves that are to be told."""

    def __init__(self, collector: SnapshotCollector[ItemT], known: dict[str, str], losses: Losses) -> None:
        self._collector = collector
        self._known = known
        self._losses = losses
        self.digests: dict[str, str] = {}
        self.kept: list[ItemT] = []

    def take(self, items: Iterator[ItemT]) -> int:
        """Go through the next SLICE items; 0 at their end."""
        seen = 0
        for item in islice(items, SLICE):
            seen += 1
            self._add(item)
        return seen

    def _add(self, item: ItemT) -> None:
        key = self._collector.key(self._collector.lasting(item))
        if key in self.digests:
            return
        if len(self.digests) >= MAX_ITEMS:
            self._losses.count(TOO_MANY_ITEMS, hits=1)
            return
        digest = self.digests[key] = _digest(_encode(self._collector.lasting(item)))
        if self._known.get(key) != digest:
            self.kept.append(item)

    def removed(self) -> list[str]:
        """Keys that were known and are gone."""
        return [key for key in self._known if key not in self.digests]

    def snapshot_id(self, remarks: tuple[str, ...]) -> str:
        """Digest of all items, whatever their order, and the remarks."""
        return _digest(_encode((sorted(self.digests.items()), remarks)))


def _digest(content: bytes) -> str:
    """64 bits suffice to tell two states of one device apart by accident; no secret hangs on them."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _split(
    items: Iterable[ItemT], removed: Iterable[str]
) -> Iterator[tuple[tuple[ItemT, ...], tuple[str, ...]]]:
    """Parts of at most PART_BYTES (or one item), in order, removed keys last."""
    kept: list[ItemT] = []
    gone: list[str] = []
    size = 0
    for item, key in [*((item, "") for item in items), *((None, key) for key in removed)]:
        length = len(_encode(item or key)) + 1
        if size + length > PART_BYTES and size:
            yield tuple(kept), tuple(gone)
            kept, gone, size = [], [], 0
        if item is None:
            gone.append(key)
        else:
            kept.append(item)
        size += length
    if size:
        yield tuple(kept), tuple(gone)
