"""Tells the service manager how the agent fares: the sd_notify protocol, which is one datagram a message.

Silent where nobody listens: `NOTIFY_SOCKET` is set by managers that want to know (`Type=notify`), and
`WATCHDOG_USEC` by those that end a service which falls silent (`WatchdogSec=`). The pings come from the
event loop itself, so that a loop that hangs is noticed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket

log = logging.getLogger(__name__)

PINGS_A_PERIOD = 2
"""The manual of sd_watchdog_enabled(3) advises to report at half of the time that is allowed."""


def notify(message: str) -> None:
    """Send `READY=1`, `STOPPING=1` or the like, if somebody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract name
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as plain:
        try:
            plain.sendto(message.encode(), address)
        except OSError as error:
            log.warning("service manager not told %s: %s", message, error.strerror)


async def keep_watch() -> None:
    """Report for as long as the event loop turns; returns at once where no watchdog is set for us."""
    period_us = os.environ.get("WATCHDOG_USEC", "")
    meant = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not period_us.isdigit() or meant != str(os.getpid()):
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(int(period_us) / 1_000_000 / PINGS_A_PERIOD)
