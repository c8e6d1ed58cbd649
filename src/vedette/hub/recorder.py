"""Brings counted operations (`operations`) into the lake, as messages of the hub's own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import groupby

from vedette.hub.gateway.journal import Fault
from vedette.hub.intake import Inbound
from vedette.hub.operations import Counted, Operations
from vedette.wire.events import Event
from vedette.wire.iothub import decode_properties
from vedette.wire.message import Window, pack

log = logging.getLogger(__name__)

MTI = "2.3-0-2-0"
"""Message type of what the hub tells: our format, and 2 for the hub as its source."""

INTERVAL_S = 30.0
"""How often what was counted is stored: well within what a rule of range waits for late events."""

CLOSE_S = 5.0
"""How long a stopping hub waits for the last of them to be stored."""


def messages(counted: Counted, window: Window) -> Iterator[Inbound]:
    """Counted operations as messages of the identities that they concern."""
    rows = sorted(counted.items(), key=lambda row: row[0][0])
    for who, some in groupby(rows, key=lambda row: row[0][0]):
        events = [Event(operation, window.start, hits) for (_, operation), hits in some]
        for packed in pack([(events, window)]):
            properties = decode_properties(packed.properties) | {"mti": MTI}
            yield Inbound(who, properties, packed.body, window.end, by_hub=True)


class Recorder:
    """Stores operations at intervals; what cannot be stored waits, and the counting goes on."""

    def __init__(self, operations: Operations, submit: Callable[[Inbound], Awaitable[None]]) -> None:
        self._operations = operations
        self._submit = submit
        self._since = time.time()
        self._waiting: list[Inbound] = []
        self._fault = Fault(log, "record of operations")

    async def start(self) -> None:
        """Begin to store."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Store the last."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.store()
        except TimeoutError as error:
            self._fault.breaks(error)

    async def store(self) -> None:
        """Store what was counted; the same messages again if that failed, so that each is there once."""
        if not self._waiting:
            now = time.time()
            self._waiting = list(messages(self._operations.take(), Window(self._since, now)))
            self._since = now
        done = await asyncio.gather(*map(self._submit, self._waiting), return_exceptions=True)
        failed = [
            (inbound, error)
            for inbound, error in zip(self._waiting, done, strict=True)
            if isinstance(error, BaseException)
        ]
        self._waiting = [inbound for inbound, _ in failed]
        if failed:
            self._fault.breaks(failed[0][1])
        else:
            self._fault.works()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.store()
