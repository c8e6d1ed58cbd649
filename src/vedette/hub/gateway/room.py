"""Room for messages that wait for the lake: a bound on their number and bytes, awaited in turn."""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """Admits messages while fewer than `messages` and fewer than `size` bytes are inside.

    The last one admitted may exceed `size`, so that any message fits into empty room.
    """

    def __init__(self, messages: int, size: int) -> None:
        self._messages = messages
        self._size = size
        self.messages = 0
        self.bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, size: int) -> None:
        """Wait for room behind those who came before, then take it."""
        if self._full or self._waiting:
            await self._turn()
        self.messages += 1
        self.bytes += size
        self._call()

    def leave(self, size: int) -> None:
        """Give room back."""
        self.messages -= 1
        self.bytes -= size
        self._call()

    @property
    def _full(self) -> bool:
        return self.messages >= self._messages or self.bytes >= self._size

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.remove(turn)
            self._call()
            raise
        self._waiting.popleft()

    def _call(self) -> None:
        if self._waiting and not self._full and not self._waiting[0].done():
            self._waiting[0].set_result(None)
