"""What other hub processes store, for the live tails of this one: read from the event table's log.

Only while somebody is looking on. Own events come that way a second time; the tail knows them.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from vedette.hub.gateway.journal import Fault
from vedette.hub.lake.durable import LOG
from vedette.hub.lake.storage import Storage, Where
from vedette.hub.lake.tables import PARTITION, RAW_EVENTS, RawEvent, opened
from vedette.hub.tail import Tail

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Between two looks: one attempt to read a file that is not there yet, where nothing was stored."""

MAX_FILE_BYTES = 67_108_864
"""Of a data file that is shown; a commit of a hub's takes a few. What is larger was not just received."""


class Follower:
    """The rows that each new version of the event table adds. For one thread."""

    def __init__(self, lake: Where) -> None:
        self._files: Storage = RAW_EVENTS.files(lake)
        self._version = opened(self._files).version()

    def read(self) -> list[RawEvent]:
        """The rows of the next version that adds some; none at the end. Raises what the disk raises."""
        rows: list[RawEvent] = []
        with suppress(FileNotFoundError):  # of the log: there is no such version yet
            while not rows:
                entry = self._files.get(f"{LOG}/{self._version + 1:020d}.json")
                self._version += 1
                rows = [row for name in _added(entry) for row in self._rows(name)]
        return rows

    def _rows(self, name: str) -> Iterator[RawEvent]:
        with suppress(FileNotFoundError):  # merged and cleaned up: nobody looked for a quarter of an hour
            yield from _rows(self._files.get(name))


def _added(entry: bytes) -> Iterator[str]:
    """Names of the files with new rows that a log entry adds."""
    for line in entry.splitlines():
        add = json.loads(line).get("add")
        if add and add["dataChange"] and add["size"] <= MAX_FILE_BYTES:
            yield add["path"]


def _rows(content: bytes) -> Iterator[RawEvent]:
    import pyarrow.parquet as pq

    for found in pq.read_table(io.BytesIO(content)).to_pylist():
        known: dict[str, Any] = dict.fromkeys(RawEvent._fields) | found
        known[PARTITION] = known["TimeGenerated"].date()
        yield RawEvent(**{name: known[name] for name in RawEvent._fields})


class Following:
    """Keeps a tail's readers informed of what others store."""

    def __init__(self, lake: Where, tail: Tail) -> None:
        self._lake = lake
        self._tail = tail
        self._follower: Follower | None = None
        self._fault = Fault(log, "following the lake")

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Tell the readers what is new since the last look; nobody looking, forget how far that was."""
        if not self._tail.readers:
            self._follower = None
            return
        try:
            if self._follower is None:
                self._follower = await asyncio.to_thread(Follower, self._lake)
            while rows := await asyncio.to_thread(self._follower.read):
                self._tail.publish(rows)
        except Exception as error:  # noqa: BLE001 - of the disk, the network, delta-rs: logged, tried again
            self._fault.breaks(error)
        else:
            self._fault.works()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.look()
