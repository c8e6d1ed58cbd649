"""MQTT over WebSocket: a transport that carries a Link's bytes in binary frames.

MQTT sees a stream of bytes: a packet may span frames, and a frame may hold several packets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from vedette.hub.gateway.link import Link

PATH = "/$iothub/websocket"
SUBPROTOCOL = "mqtt"

CLOSE_NORMAL, CLOSE_PROTOCOL, CLOSE_TRY_LATER = 1000, 1002, 1013


class WebSocketTransport(asyncio.Transport):
    """A transport over an accepted WebSocket, as far as Link uses one. `run` moves the bytes."""

    def __init__(self, socket: WebSocket, link: Link) -> None:
        super().__init__({"peername": _address(socket)})
        self._socket = socket
        self._link = link
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._high = 0
        self._waits_for_room = False
        self._wake = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._closing = False
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve the connection to its end."""
        self._link.connection_made(self)
        self._reader = asyncio.create_task(self._read())
        self._writer = asyncio.create_task(self._write())
        try:
            await asyncio.wait((self._reader, self._writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._closing = True
            for task in (self._reader, self._writer):
                task.cancel()
            await asyncio.gather(self._reader, self._writer, return_exceptions=True)
            self._link.connection_lost(None)
            if self._socket.application_state is not WebSocketState.DISCONNECTED:
                with suppress(RuntimeError, OSError):  # the peer was faster
                    await self._socket.close(CLOSE_NORMAL)

    async def _read(self) -> None:
        with suppress(WebSocketDisconnect):
            while True:
                await self._may_read.wait()
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect" or message.get("bytes") is None:
                    return  # gone, or speaks text
                self._link.data_received(message["bytes"])

    async def _write(self) -> None:
        with suppress(WebSocketDisconnect):
            while self._unsent or not self._closing:
                if not self._unsent:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                await self._socket.send_bytes(self._unsent[0])
                self._unsent_bytes -= len(self._unsent.popleft())
                if self._waits_for_room and self._unsent_bytes <= self._high // 4:
                    self._waits_for_room = False
                    self._link.resume_writing()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """See asyncio.WriteTransport."""
        if self._closing:
            return
        self._unsent.append(bytes(data))
        self._unsent_bytes += len(data)
        self._wake.set()
        if self._unsent_bytes > self._high and not self._waits_for_room:
            self._waits_for_room = True
            self._link.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.WriteTransport."""
        self._high = high or 0

    def get_write_buffer_size(self) -> int:
        """See asyncio.WriteTransport."""
        return self._unsent_bytes

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self._may_read.set()

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return self._closing

    def close(self) -> None:
        """Close when what was written has left."""
        self._closing = True
        self._wake.set()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._unsent.clear()
        self._unsent_bytes = 0
        if self._writer:
            self._writer.cancel()


async def serve(socket: WebSocket, link: Link) -> None:
    """Carry a link over a WebSocket that asks for MQTT; refuse another."""
    if SUBPROTOCOL not in socket.scope.get("subprotocols", ()):
        await socket.close(CLOSE_PROTOCOL)
        return
    await socket.accept(SUBPROTOCOL)
    await WebSocketTransport(socket, link).run()


def _address(socket: WebSocket) -> tuple[str, int] | None:
    return (socket.client.host, socket.client.port) if socket.client else None
