"""Syslog: RFC 5424 messages over UDP (RFC 5426), TCP (RFC 6587, octets counted) and TLS (RFC 5425).

Syslog has no acknowledgement: over UDP a message may be lost unnoticed, over TCP what was still on its way.
"""

from __future__ import annotations

import asyncio
import re
import socket

from vedette.hub.notify.message import Message
from vedette.hub.notify.routes import Route
from vedette.hub.notify.ways import connect
from vedette.wire.declare import utc_text

FACILITY = 10
"""Security messages (RFC 5424, table 1)."""

LEVELS = {"High": 2, "Medium": 4, "Low": 5, "Informational": 6}
"""Ours as critical, warning, notice and informational."""

APP_NAME = "vedette"
MAX_HOST = 255
"""Characters of HOSTNAME."""


async def send(route: Route, message: Message, now: float) -> None:
    """Send each line of a body as a message of its own. Raises OSError."""
    lines = [line(message, text, now) for text in message.body.split("\n")]
    if route.target.kind.udp:
        await _datagrams(route, lines)
        return
    _, writer = await connect(route)
    try:
        writer.writelines(b"%d %s" % (len(one), one) for one in lines)
        await writer.drain()
    finally:
        writer.close()
        await writer.wait_closed()


def line(message: Message, text: str, now: float, host: str = "") -> bytes:
    """An RFC 5424 message. MSGID: the finding's message, so that a receiver knows it if it comes twice."""
    priority = FACILITY * 8 + LEVELS.get(message.severity, LEVELS["High"])
    name = re.sub(r"[^!-~]", "", host or socket.gethostname())[:MAX_HOST] or "-"
    head = f"<{priority}>1 {utc_text(now)} {name} {APP_NAME} - {message.id} - "
    return head.encode() + b"\xef\xbb\xbf" + text.encode()


async def _datagrams(route: Route, lines: list[bytes]) -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        _Errors, remote_addr=(route.target.host, route.target.port)
    )
    try:
        for one in lines:
            transport.sendto(one)
        await asyncio.sleep(0)  # an error that the kernel knows already comes now
        if protocol.error:
            raise protocol.error
    finally:
        transport.close()


class _Errors(asyncio.DatagramProtocol):
    """Keeps what the kernel says of a datagram, as of one that was too long."""

    error: Exception | None = None

    def error_received(self, exc: Exception) -> None:
        """See asyncio."""
        self.error = exc
