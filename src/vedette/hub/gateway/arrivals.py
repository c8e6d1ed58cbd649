"""Waiting for a client to listen: a direct method may come before its device does. For one event loop."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from math import inf

from vedette.hub.gateway.downlink import NotOnline
from vedette.wire.iothub import Identity


class Arrivals:
    """Who is waited for, and by how many."""

    def __init__(self) -> None:
        self._awaited: defaultdict[Identity, set[asyncio.Future[None]]] = defaultdict(set)

    def note(self, identity: Identity) -> None:
        """It has come, or has subscribed to something: wake who waits for it."""
        for waiting in self._awaited.get(identity, ()):
            if not waiting.done():
                waiting.set_result(None)

    async def next(self, identity: Identity, deadline: float, patience: float = inf) -> None:
        """Wait until it is noted, or for `patience` seconds. Raises NotOnline at the deadline (loop time)."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= deadline:
            raise NotOnline(f"{identity.client_id}: is not connected, or hears no methods")
        arrival: asyncio.Future[None] = loop.create_future()
        self._awaited[identity].add(arrival)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadline, now + patience)):
                    await arrival
        finally:
            self._awaited[identity].discard(arrival)
            if not self._awaited[identity]:
                del self._awaited[identity]
