"""The HTTPS port: uvicorn inside the hub's event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

CLOSE_S = 3
"""How long open requests may take to finish when the hub stops."""

MAX_FRAME_BYTES = 294_912
"""Of one WebSocket frame: the longest MQTT packet and some. A longer one closes the connection."""

MAX_FRAMES = 8
"""WebSocket frames that wait to be read."""

KEEP_ALIVE_S = 30
"""How long a client's idle connection stays open."""


class Https(uvicorn.Server):
    """An application on a port, without uvicorn's signal handlers: the hub has its own."""

    def __init__(self, application: FastAPI, bind: str, port: int, *, certificate: str, key: str) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                host=bind,
                port=port,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                ssl_version=ssl.PROTOCOL_TLS_SERVER,
                timeout_graceful_shutdown=CLOSE_S,
                timeout_keep_alive=KEEP_ALIVE_S,
                ws="websockets-sansio",
                ws_max_size=MAX_FRAME_BYTES,
                ws_max_queue=MAX_FRAMES,
                ws_per_message_deflate=False,  # SDKs do without, and it would cost 64 KB a connection
                lifespan="on",  # the console starts and ends with it
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )
        self._listening = asyncio.Event()

    async def start(self) -> None:
        """Listen."""
        self._serving = asyncio.create_task(self.serve())
        await self._listening.wait()

    async def close(self) -> None:
        """Stop listening, and give open requests CLOSE_S to finish."""
        self.should_exit = True
        await self._serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        await super().startup(sockets)
        self._listening.set()

    @property
    def port(self) -> int:
        """The TCP port listened on."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None is captured."""
        yield
