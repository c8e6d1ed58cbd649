"""The HTTPS port: uvicorn inside the hub's event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI

from vedette.hub.gateway.listening import listen
from vedette.hub.guard import Guard, GuardedHttp
from vedette.hub.introduction import Network
from vedette.hub.limits import HttpLimits

CLOSE_S = 3
"""How long open requests may take to finish when the hub stops."""

MAX_FRAME_BYTES = 294_912
"""Of one WebSocket frame: the longest MQTT packet and some. A longer one closes the connection."""

MAX_FRAMES = 8
"""WebSocket frames that wait to be read."""

KEEP_ALIVE_S = 30
"""How long a client's idle connection stays open."""

MAX_CONNECTIONS = 4_096
"""Connections, and requests under way, of all clients together; beyond, the answer is 503."""


class Https(uvicorn.Server):
    """An application on a port, without uvicorn's signal handlers: the hub has its own."""

    def __init__(
        self,
        application: FastAPI,
        bind: str,
        port: int,
        *,
        certificate: str,
        key: str,
        limits: HttpLimits = HttpLimits(),  # noqa: B008 - frozen
        proxies: Sequence[Network] = (),
    ) -> None:
        self._proxies = proxies
        self.guard = application.state.guard = Guard(limits)
        super().__init__(
            uvicorn.Config(
                application,
                host=bind,
                port=port,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                proxy_headers=False,  # anybody may write X-Forwarded-For; balancers have a way of their own
                http=partial(GuardedHttp, self.guard),  # type: ignore[arg-type]  # makes one as its class would
                limit_concurrency=MAX_CONNECTIONS,
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
        """See uvicorn.Server. Beyond it: a deadline for the TLS handshake."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise RuntimeError("the application did not start; its error stands above")
        server = await listen(
            partial(
                GuardedHttp,
                self.guard,
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            ),
            self.config.host,
            self.config.port,
            backlog=self.config.backlog,
            proxies=self._proxies,
            refused=self.guard.refused,
            ssl=self.config.ssl,
            ssl_handshake_timeout=self.guard.limits.handshake_seconds,
        )
        await server.start_serving()
        self.servers = [server]  # type: ignore[list-item]  # has what uvicorn uses of asyncio's
        self.started = True
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
