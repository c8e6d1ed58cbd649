"""Events as they become durable, for whoever is looking on. Nothing waits for a reader that is slow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from vedette.hub.lake.tables import RawEvent

MAX_READERS = 100
"""Readers at a time: people at screens."""

MAX_WAITING = 1_000
"""Events that wait for one reader, about 1 MB; beyond them the oldest are lost to it, and counted."""


MAX_KNOWN = 50_000
"""Events that are known to have been told of, 10 MB; kept while somebody is looking on."""


class TailFull(Exception):
    """There are too many readers."""


class Reader:
    """One look at the stream: events of a device and of a name, where these are given."""

    def __init__(self, device: str, name: str) -> None:
        self._wanted = device, name
        self._waiting: deque[RawEvent] = deque(maxlen=MAX_WAITING)
        self._lost = 0
        self._closed = False
        self._stirred = asyncio.Event()

    def offer(self, events: Sequence[RawEvent]) -> None:
        """Keep those that are wanted."""
        device, name = self._wanted
        for event in events:
            if device in ("", event.DeviceId) and name in ("", event.RawEventName):
                self._lost += len(self._waiting) == MAX_WAITING
                self._waiting.append(event)
                self._stirred.set()

    def close(self) -> None:
        """There will be no more."""
        self._closed = True
        self._stirred.set()

    async def batches(self, patience: float) -> AsyncIterator[tuple[list[RawEvent], int]]:
        """(events, how many were lost before them), again and again; empty after `patience` seconds."""
        while self._waiting or not self._closed:
            try:
                await asyncio.wait_for(self._stirred.wait(), patience)
            except TimeoutError:
                yield [], 0
                continue
            self._stirred.clear()
            taken, lost = list(self._waiting), self._lost
            self._waiting.clear()
            self._lost = 0
            if taken:
                yield taken, lost


class Tail:
    """Hands events on to all readers, each event once. For one event loop."""

    def __init__(self) -> None:
        self._readers: set[Reader] = set()
        self._known: dict[str, None] = {}

    @property
    def readers(self) -> int:
        """How many are looking on."""
        return len(self._readers)

    def publish(self, events: Sequence[RawEvent]) -> None:
        """Tell of events that are durable; of those that were told of already, not again."""
        if not self._readers:
            self._known.clear()
            return
        news = [event for event in events if event.IoTRawEventId not in self._known]
        self._known.update(dict.fromkeys(event.IoTRawEventId for event in news))
        for _ in range(len(self._known) - MAX_KNOWN):
            del self._known[next(iter(self._known))]
        for reader in self._readers:
            reader.offer(news)

    @contextmanager
    def reader(self, device: str = "", name: str = "") -> Iterator[Reader]:
        """Look on, at all events or at some. Raises TailFull."""
        if len(self._readers) >= MAX_READERS:
            raise TailFull
        reader = Reader(device, name)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def close(self) -> None:
        """Let every reader come to its end."""
        for reader in self._readers:
            reader.close()
