"""How a hub is reached, as values: address, trust, client certificate, proxy, WebSocket. Opens nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from vedette.wire.iothub import MQTT_TLS_PORT

MAX_PROXY_FIELD = 255
"""Characters of a proxy's user name or password (RFC 1929's bound, which proxies share)."""


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy that makes TCP connections for us (CONNECT). Its repr hides the password."""

    host: str
    port: int
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        """Without the credentials: this value is printed in logs."""
        return f"Proxy({self.host!r}, {self.port})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for `rich`."""
        return [("host", self.host), ("port", self.port)]

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """From `address,port[,user,password]`. Raises ValueError naming the part, never its value."""
        parts = [part.strip() for part in text.split(",", 3)]  # a password may hold commas
        if len(parts) < 2:
            raise ValueError("not address,port[,user,password]")
        host, port, *credentials = parts
        if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
            raise ValueError("not address,port[,user,password]")
        if len(credentials) == 1:
            raise ValueError("a user without a password")
        if any(not 1 <= len(part) <= MAX_PROXY_FIELD or not part.isprintable() for part in credentials):
            raise ValueError("user or password is empty, too long or not printable")
        return cls(host, int(port), *credentials)


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect, and how.

    address: also the name that the certificate must carry. ca_file: the only authority trusted; None for the
    system's. certificate, private_key: PEM files of a client that proves itself by X.509; None for one that
    sends tokens.
    """

    address: str
    port: int = MQTT_TLS_PORT
    ca_file: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    websocket: bool = False
    proxy: Proxy | None = None

    def __str__(self) -> str:
        """For logs."""
        by = " by WebSocket" if self.websocket else ""
        through = f" through the proxy {self.proxy.host}:{self.proxy.port}" if self.proxy else ""
        return f"{self.address}:{self.port}{by}{through}"
