"""Webhooks: POST over HTTPS, signed as the Standard Webhooks specification (1.0) says.

`webhook-id` is the same for every attempt at a message. The signature is HMAC-SHA256 over id, time and body.
An address is looked up here and connected to as it was judged, so that a name cannot first point outside and
then inside; redirects are not followed; no more than the status of an answer is read.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpcore

from vedette import __version__
from vedette.hub.notify.message import Message
from vedette.hub.notify.routes import Route, signing_key
from vedette.hub.notify.ways import TIMEOUT_S, Undelivered, tls_context

RETRIED = frozenset({408, 409, 425, 429})
"""Statuses below 500 that may pass; the other 4xx say that the request itself is wrong."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses as networks without IPv4 reach them (RFC 6052)."""

_TYPES = {"cef": "text/plain; charset=utf-8"}
_PHASES = {"timeout": {"connect": TIMEOUT_S, "read": TIMEOUT_S, "write": TIMEOUT_S, "pool": TIMEOUT_S}}


async def send(route: Route, message: Message, now: float) -> None:
    """Raises Undelivered, OSError."""
    target = route.target
    context = await asyncio.to_thread(tls_context, route.authority)
    backend = _Judging(allow_private=route.allow_private)
    async with httpcore.AsyncConnectionPool(ssl_context=context, network_backend=backend) as pool:
        url = httpcore.URL(
            scheme=target.scheme.encode(),
            host=target.host.encode(),
            port=target.port,
            target=target.path.encode(),
        )
        body = message.body.encode()
        headers = _headers(route, message, body, now)
        try:
            async with pool.stream(
                "POST", url, headers=headers, content=body, extensions=_PHASES
            ) as response:
                _judge(response.status)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise Undelivered(str(error) or type(error).__name__) from None


def signature(secret: str, identifier: str, at: int, body: bytes) -> str:
    """The `webhook-signature` header."""
    signed = hmac.new(signing_key(secret), f"{identifier}.{at}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed.digest()).decode()}"


def _headers(route: Route, message: Message, body: bytes, now: float) -> list[tuple[str, str]]:
    at, target = int(now), route.target
    host = f"[{target.host}]" if ":" in target.host else target.host
    return [
        ("Host", host if target.port == target.kind.port else f"{host}:{target.port}"),
        ("Content-Type", _TYPES.get(route.form, "application/json")),
        ("User-Agent", f"vedette/{__version__}"),
        ("webhook-id", message.id),
        ("webhook-timestamp", str(at)),
        ("webhook-signature", signature(route.secret, message.id, at, body)),
        ("Connection", "close"),
    ]


def _judge(status: int) -> None:
    if 300 <= status < 400:
        raise Undelivered(f"status {status}: redirects are not followed", final=True)
    if not 200 <= status < 300:
        raise Undelivered(f"status {status}", final=400 <= status < 500 and status not in RETRIED)


class _Judging(httpcore.AnyIOBackend):
    """Connects to addresses that a webhook may lead to, and to no others."""

    def __init__(self, *, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The first address of a name that answers. Raises Undelivered if one of them is not public."""
        error: Exception = httpcore.ConnectError("the name has no address")
        for address in await self._addresses(host, port):
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def _addresses(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(place[0]) for *_, place in found]
        if not self._allow_private:
            for address in addresses:
                if not public(address):
                    raise Undelivered(f"{address} is no public address; see --allow-private", final=True)
        return addresses


def public(address: str) -> bool:
    """Whether an address is one of the Internet: not the hub itself, its network, or a cloud's metadata."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip in _NAT64:
        ip = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    inside = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None) or ip
    return inside.is_global and not inside.is_multicast
