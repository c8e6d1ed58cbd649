"""Ways to deliver a message: what they have in common, and which one a route's URL asks for."""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache

from vedette.hub.notify.routes import MAX_ROUTES, Route

TIMEOUT_S = 30.0
"""For one delivery, all in all: what people wait for a web page at most."""


class Undelivered(Exception):
    """A message did not get there; the text says why and holds no secret. final: it never will."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


@lru_cache(maxsize=MAX_ROUTES)
def tls_context(authority: str) -> ssl.SSLContext:
    """What judges a server's certificate: the system's authorities, or a route's own. Loading takes 20 ms."""
    context = ssl.create_default_context(cadata=authority or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def connect(route: Route) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a route's host, in TLS if its scheme says so. Raises OSError (ssl.SSLError is one)."""
    target = route.target
    context = await asyncio.to_thread(tls_context, route.authority) if target.kind.tls == "always" else None
    return await asyncio.open_connection(
        target.host, target.port, ssl=context, server_hostname=target.host if context else None
    )
