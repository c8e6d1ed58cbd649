"""A port that clients reach directly, or through balancers that introduce them (`hub/introduction.py`)."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any, TypedDict, Unpack, cast

from vedette.hub.gateway.journal import Fault, Warnings
from vedette.hub.introduction import Network, NotIntroduced, Peer, among, introduction

log = logging.getLogger(__name__)

INTRODUCTION_S = 5.0
"""A balancer speaks as soon as it is connected; three seconds at least are for a packet sent again."""

MAX_WAITING = 1_024
"""Connections of balancers that have not said yet for whom: as many as the kernel keeps for us."""

ACCEPT_PAUSE_S = 1.0
"""After the system did not give us a connection: asyncio's pause."""

ENDED = "proxy: closed within the PROXY header"
LATE = "proxy: no PROXY header in time"
CROWDED = "proxy: too many connections without PROXY header"


class Tls(TypedDict, total=False):
    """As asyncio's servers take it."""

    ssl: ssl.SSLContext | None
    ssl_handshake_timeout: float


async def listen(
    factory: Callable[[], asyncio.Protocol],
    bind: str,
    port: int,
    *,
    backlog: int,
    proxies: Sequence[Network],
    refused: Counter[str],
    **tls: Unpack[Tls],
) -> asyncio.Server | BalancedServer:
    """A server on a port, that does not serve yet.

    proxies: balancers; each connection of theirs begins with the PROXY protocol, no other's does. refused:
    where those that do not are counted, by reason. Raises OSError if nothing can listen there.
    """
    if proxies:
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        listening = socket.create_server((bind, port), family=family, backlog=backlog)
        return BalancedServer(listening, factory, proxies, refused, tls)
    return await asyncio.get_running_loop().create_server(
        factory, bind, port, backlog=backlog, start_serving=False, **tls
    )


class BalancedServer:
    """A server behind balancers, in the shape of asyncio's."""

    def __init__(
        self,
        listening: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        proxies: Sequence[Network],
        refused: Counter[str],
        tls: Tls,
    ) -> None:
        listening.setblocking(False)
        self.sockets = (listening,)
        self._factory = factory
        self._proxies = proxies
        self._refused = refused
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._accepting: asyncio.Task[None] | None = None
        self._arriving: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._fault = Fault(log, "accepting connections")
        self._warnings = Warnings(log)

    async def start_serving(self) -> None:
        """Accept connections."""
        self._accepting = asyncio.create_task(self._accept())

    def is_serving(self) -> bool:
        """False before `start_serving` and after `close`."""
        return self._accepting is not None

    def close(self) -> None:
        """Listen no more, and end what has not become a connection; connections stay."""
        for task in (*self._arriving, *([self._accepting] if self._accepting else [])):
            task.cancel()
        self._accepting = None
        self.sockets[0].close()

    async def wait_closed(self) -> None:
        """Until what `close` ended has ended."""
        await asyncio.gather(*self._arriving, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                connection, address = await self._loop.sock_accept(self.sockets[0])
            except OSError as error:
                self._fault.breaks(error)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            self._fault.works()
            task = asyncio.create_task(self._arrive(connection, address[0]))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _arrive(self, connection: socket.socket, address: str) -> None:
        with suppress(OSError):  # it has gone, or TLS failed, which the client knows
            try:
                factory = await self._introduced(connection, address)
            except NotIntroduced as error:
                self._refused[str(error)] += 1
                self._warnings.write("%s: refused: %s", address, error)
            else:
                await self._loop.connect_accepted_socket(factory, connection, **self._tls)

    async def _introduced(self, connection: socket.socket, address: str) -> Callable[[], asyncio.Protocol]:
        """What makes the connection's protocol. Closes it if it raises NotIntroduced, OSError."""
        if not among(address, self._proxies):
            return self._factory
        with ExitStack() as closed:
            closed.enter_context(connection)
            peer = await self._introduction(connection)
            closed.pop_all()
        return (lambda: _Introduction(self._factory(), peer)) if peer else self._factory

    async def _introduction(self, connection: socket.socket) -> Peer | None:
        """Whom a balancer speaks for. Raises NotIntroduced, OSError."""
        if self._waiting >= MAX_WAITING:
            raise NotIntroduced(CROWDED)
        self._waiting += 1
        try:
            async with asyncio.timeout(INTRODUCTION_S):
                return await self._heard(connection)
        except TimeoutError:
            raise NotIntroduced(LATE) from None
        finally:
            self._waiting -= 1

    async def _heard(self, connection: socket.socket) -> Peer | None:
        steps = introduction()
        part, wanted = b"", next(steps)
        while True:
            before, part = part, await self._read(connection, wanted)
            if len(part) < wanted:
                # A balancer's check of the port says nothing at all.
                raise NotIntroduced(ENDED) if before or part else ConnectionAbortedError
            try:
                wanted = steps.send(part)
            except StopIteration as end:
                peer: Peer | None = end.value
                return peer

    async def _read(self, connection: socket.socket, wanted: int) -> bytes:
        """So many bytes; fewer if no more come."""
        read = b""
        while len(read) < wanted and (part := await self._loop.sock_recv(connection, wanted - len(read))):
            read += part
        return read


class _Introduction(asyncio.Protocol):
    """Tells a protocol whom its connection is for, and makes way for it."""

    def __init__(self, protocol: asyncio.Protocol, peer: Peer) -> None:
        self._protocol = protocol
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(cast("asyncio.BaseTransport", _Relayed(transport, self._peer)))


class _Relayed:
    """A transport whose peer is the client, not the balancer; all else is the transport's own."""

    def __init__(self, transport: asyncio.BaseTransport, peer: Peer) -> None:
        self._transport = transport
        self._peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio.BaseTransport. There is no `socket`: it would tell the balancer's address."""
        if name == "socket":
            return default
        return self._peer if name == "peername" else self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
