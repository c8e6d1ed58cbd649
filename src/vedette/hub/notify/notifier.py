"""Notifications while the hub runs: makes messages of what waits, sends what is due, a few at a time.

Every hub process may run one: they share the work by claims. What fails is logged when it begins to fail and
when it works again; the latest attempt stands in the message's record.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from vedette.hub.detect.schema import Database
from vedette.hub.notify import mail, mqtt, syslog, webhook
from vedette.hub.notify.deliveries import Claimed, Deliveries
from vedette.hub.notify.message import Message
from vedette.hub.notify.routes import Route
from vedette.hub.notify.target import Way
from vedette.hub.notify.ways import TIMEOUT_S, Undelivered

log = logging.getLogger(__name__)

PERIOD_S = 1.0
"""Pause when nothing is due: two questions to the database a second."""

SENDERS = 8
"""Messages on their way at a time: one receiver that does not answer holds up no other."""

FORGET_S = 3600.0

OUTBOX = "the outbox"

SEND: Mapping[Way, Callable[[Route, Message, float], Awaitable[None]]] = {
    "webhook": webhook.send,
    "syslog": syslog.send,
    "mail": mail.send,
    "mqtt": mqtt.send,
}

T = TypeVar("T")


class Told(msgspec.Struct):
    """What a notifier did since it started. failing: whose latest attempt failed."""

    sent: int = 0
    failures: int = 0
    failing: set[str] = msgspec.field(default_factory=set)


async def deliver(route: Route, message: Message) -> None:
    """Send a message now. Raises Undelivered."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await SEND[route.target.kind.way](route, message, time.time())
    except TimeoutError:
        raise Undelivered(f"no answer within {TIMEOUT_S:g} s") from None
    except ssl.SSLError as error:
        raise Undelivered(f"TLS: {getattr(error, 'verify_message', '') or error.reason}") from None
    except socket.gaierror:
        raise Undelivered("the name cannot be looked up") from None
    except OSError as error:
        raise Undelivered(os.strerror(error.errno) if error.errno else str(error)) from None


class Notifier:
    """Delivers until it is closed. `start` before and `close` after what raises alerts.

    database: made in the thread `notify`, which asks it all.
    """

    def __init__(self, database: Callable[[], Database], *, period: float = PERIOD_S) -> None:
        self.state = Told()
        self._open = database
        self._period = period
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="notify")
        self._stop = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._forgot = float("-inf")

    async def start(self) -> None:
        """Begin. Raises what the database raises."""
        self._database = await self._ask(self._open)
        self._deliveries = Deliveries(self._database)
        self._running = asyncio.create_task(self._run(), name="notify")

    async def close(self) -> None:
        """Let what is on its way arrive, then stop; what waits is sent when a hub runs again."""
        self._stop.set()
        await self._running
        if self._sending:
            await asyncio.wait(self._sending)
        await self._ask(self._database.close)
        self._thread.shutdown()

    async def _ask(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _run(self) -> None:
        while not self._stop.is_set():
            if not await self._turn():
                await self._pause()

    async def _pause(self) -> None:
        """Until the next look, or until a message has arrived and its route may have the next."""
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait(
            [stopped, *self._sending], timeout=self._period, return_when=asyncio.FIRST_COMPLETED
        )
        stopped.cancel()

    async def _turn(self) -> bool:
        """Send what is due; whether there was anything. A database that fails is asked again later."""
        try:
            claimed = await self._ask(self._take, time.time(), SENDERS - len(self._sending))
        except Exception as error:  # noqa: BLE001 - a full disk or a mistake of ours must not end notifications
            self._note(OUTBOX, str(error) or type(error).__name__, error)
            return False
        self._note(OUTBOX, "")
        for one in claimed:
            task = asyncio.create_task(self._deliver(one))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return bool(claimed)

    def _take(self, now: float, room: int) -> Sequence[Claimed]:
        if now - self._forgot >= FORGET_S:
            self._forgot = now
            self._deliveries.forget(now)
        self._deliveries.pack(now)
        return self._deliveries.claim(now, room) if room else []

    async def _deliver(self, claimed: Claimed) -> None:
        route = f"route {claimed.route.name}"
        try:
            await deliver(claimed.route, claimed.message)
        except Undelivered as error:
            self._note(route, error.reason)
            await self._mark(self._failed, claimed, error)
        except Exception as error:  # a mistake of ours takes one message along, and not the others
            log.error("notifications: %s: %s", route, error, exc_info=error)
            await self._mark(self._failed, claimed, Undelivered(type(error).__name__, final=True))
        else:
            self.state.sent += 1
            self._note(route, "")
            await self._mark(self._deliveries.sent, claimed, time.time())

    async def _mark(self, mark: Callable[..., None], *arguments: object) -> None:
        """Write down what became of a message; where that fails, it is sent again when its claim ends."""
        try:
            await self._ask(mark, *arguments)
        except SQLAlchemyError as error:
            self._note(OUTBOX, str(error))

    def _failed(self, claimed: Claimed, error: Undelivered) -> None:
        self.state.failures += 1
        self._deliveries.failed(claimed, time.time(), error.reason, final=error.final)

    def _note(self, what: str, reason: str, error: Exception | None = None) -> None:
        """Log when something begins to fail, and when it works again."""
        if reason and what not in self.state.failing:
            self.state.failing.add(what)
            log.warning("notifications: %s fails: %s", what, reason, exc_info=error)
        elif not reason and what in self.state.failing:
            self.state.failing.remove(what)
            log.info("notifications: %s works again", what)
