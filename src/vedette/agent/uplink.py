"""The connection to a hub, kept up: outbox to PUBACK, twin to agent.

What to say and when stands in `agent.session`, how it travels in `agent.link`; this joins the two with the
outbox. The same dialect serves Azure IoT Hub and ours. A new link is made for each connection, and what is
unacknowledged is kept by the outbox alone. Tokens are renewed by connecting again before they expire, as
the official SDKs do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec

from vedette.agent.link import Ended, Link
from vedette.agent.outbox import Outbox, Total
from vedette.agent.route import Route
from vedette.agent.session import Backoff, Desired, Document, Pace, Twin
from vedette.agent.settings import Local, LocalError
from vedette.wire.iothub import (
    TOKEN_TTL_S,
    ConnectionString,
    DialectError,
    make_token,
    username,
)

log = logging.getLogger(__name__)

RENEWAL_S = 120.0
"""A connection is made anew this long before its token expires (the SDKs' margin), or at half a token's life
if that is later."""

RENEWAL_DRAIN_S = 10.0
"""How long a connection that is to be renewed waits for acknowledgements that are due."""


AWAY_S = 3_600.0
"""A hub that was not reached for so long may have moved: a device that was provisioned asks where to, at most
so often. One whose credentials are refused asks after each back-off."""

FIND_S = 60.0
"""How long the answer to that is waited for."""


class Counters(msgspec.Struct):
    """Running totals since the start.

    sent: messages acknowledged and taken from the outbox. connections: accepted by the hub. refused:
    attempts with credentials that it did not accept. lost: connections that broke.
    """

    sent: Total = Total()
    connections: int = 0
    refused: int = 0
    lost: int = 0


class Uplink:
    """Keeps one identity connected, empties the outbox, follows the twin.

    on_desired: awaited with the whole desired document and its version, one call at a time; if several
    changes come during a call, the next gets the last of them. route: where to connect, and how. pay: asked
    before a message of so many metered units is sent; if False, it waits, to be asked for again when
    something happens. find_hub: see `Local`. state: for people. unacknowledged: metered units of what was
    sent over this connection and is still in the outbox.

    Raises DialectError if there is neither a key nor a certificate, or an id that MQTT topics cannot carry.
    """

    def __init__(
        self,
        connection: ConnectionString,
        outbox: Outbox,
        *,
        on_desired: Callable[[Document, int], Awaitable[None]],
        route: Route,
        token_ttl: float = TOKEN_TTL_S,
        pace: Pace | None = None,
        pay: Callable[[int], bool] = lambda units: True,
        find_hub: Callable[[], Awaitable[Local]] | None = None,
    ) -> None:
        if not connection.key and not route.certificate:
            raise DialectError("connection string: no SharedAccessKey, and no certificate instead of one")
        if set("+#") & set(connection.identity.client_id):
            raise DialectError("connection string: ids with + or # cannot be used over MQTT")
        self.counters = Counters()
        self.state = "not started"
        self.unacknowledged = 0
        self._connection = connection
        self._outbox = outbox
        self._on_desired = on_desired
        self._pay = pay
        self._route = route
        self._find_hub = find_hub
        self._sure = float("-inf")
        self._token_ttl = token_ttl
        self._backoff = Backoff(pace or Pace(), random.random)
        self._twin = Twin(secrets.token_hex(3))
        self._latest: Desired | None = None
        self._news = asyncio.Event()
        self._stirred = asyncio.Event()
        self._idle = asyncio.Event()
        self._ended = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._told: set[str] = set()

    async def run(self) -> None:
        """Stay connected until `close`. Raises only what `on_desired` raises."""
        try:
            async with asyncio.TaskGroup() as tasks:
                if not self._closing:
                    self._tasks = [tasks.create_task(self._stay()), tasks.create_task(self._hand_on())]
        finally:
            self.state = "closed"
            self._idle.set()
            self._ended.set()

    async def close(self, drain_s: float) -> None:
        """Disconnect, after at most `drain_s` seconds for what waits in the outbox and reports that are due.

        Where there is no connection it does not wait. What is not acknowledged stays in the outbox.
        """
        self._closing = True
        self.wake()
        if not self._tasks:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), drain_s)
        for task in self._tasks:
            task.cancel()
        await self._ended.wait()

    def wake(self) -> None:
        """Something was put into the outbox."""
        self._stirred.set()

    def report(self, document: Document) -> None:
        """Patch the reported half of the twin; null deletes a key. Kept until the hub has confirmed it."""
        self._twin.report(document)
        self.wake()

    async def _hand_on(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._latest and not self._closing:
                await self._on_desired(self._latest.document, self._latest.version)

    async def _stay(self) -> None:
        """Connect again and again: after a failure not before the back-off allows, else at once."""
        self._sure = self._now()
        while not self._closing:
            link = Link(
                self._connection.identity.client_id, stirred=self._stirred.set, received=self._received
            )
            try:
                await self._converse(link)
            except Ended as end:
                lasted = 0.0 if link.since is None else self._now() - link.since
                delay = self._backoff.after(lasted=lasted, refused=end.kind == "refused")
                self._tell(end)
                self.state = f"waiting {delay:.0f} s: {end}"
                await self._pause(self._now() + delay)
                await self._follow_hub(end, link.since)
        self._idle.set()

    async def _converse(self, link: Link) -> None:
        """One connection, until its token is to be renewed. Raises Ended if it fails before."""
        self.state = "connecting"
        here = self._connection
        renew, token = float("inf"), None
        if here.key:
            renew = self._now() + max(self._token_ttl - RENEWAL_S, self._token_ttl / 2)
            token = make_token(here.host, here.identity, here.key, now=time.time(), ttl=self._token_ttl)
        try:
            await link.open(self._route, user=username(here.host, here.identity), password=token)
            self._greet()
            await self._serve(link, renew)
        finally:
            self._twin.disconnected()
            await link.close()
            self._take_acknowledged(link)
            self.unacknowledged = 0

    async def _follow_hub(self, end: Ended, since: float | None) -> None:
        """Ask where the device belongs now, if there is somebody to ask and reason to doubt it.

        since: when the connection that ended stood, if ever. What the hub knows of the twin is not relied on
        any more: it may be another hub, or the device have been made anew.
        """
        self._sure = self._sure if since is None else self._now()
        doubt = end.kind == "refused" or self._now() - self._sure >= AWAY_S
        if self._closing or not self._find_hub or not doubt:
            return
        self._sure = self._now()
        try:
            async with asyncio.timeout(FIND_S):
                found = await self._find_hub()
        except (LocalError, TimeoutError) as error:
            self._tell_once("provisioning", str(error) or "no answer from the provisioning service")
            return
        self._connection, self._route = found.connection, found.route
        self._twin = Twin(secrets.token_hex(3))

    async def _serve(self, link: Link, renew: float) -> None:
        while (now := self._now()) < renew:
            link.tick(now)
            self._take_acknowledged(link)
            self._ask(link, now)
            self._send(link, now)
            if self._closing and not self._outbox.depth and self._twin.settled:
                self._idle.set()
            await self._stir(min(renew, self._twin.deadline(), link.deadline()))
        end = renew + RENEWAL_DRAIN_S
        while link.window and (now := self._now()) < end:
            link.tick(now)
            await self._stir(end)

    def _ask(self, link: Link, now: float) -> None:
        """Send the twin requests that are due."""
        if link.subscribed:
            self._twin.connected(now)
        for request in self._twin.poll(now):
            link.publish(request.topic, request.body, qos=0)

    def _send(self, link: Link, now: float) -> None:
        """Send messages as long as there are any and the window is open."""
        topic = self._connection.identity.events_topic
        while link.window.open and (message := self._outbox.next_after(link.window.last)):
            if not self._pay(message.units):
                return
            packet_id = link.publish(topic + message.properties, message.body, qos=1)
            self.unacknowledged += message.units
            link.window.sent(packet_id, message.id, len(message.body), now)

    def _take_acknowledged(self, link: Link) -> None:
        if link.acknowledged:
            removed = self._outbox.remove(link.acknowledged)
            self.counters.sent = self.counters.sent.plus(removed)
            self.unacknowledged -= removed.units
            link.acknowledged.clear()

    def _received(self, topic: str, body: bytes) -> None:
        if news := self._twin.received(topic, body, self._now()):
            self._latest = news
            self._news.set()

    async def _stir(self, until: float) -> bool:
        """Wait for something to happen; False if the moment came first."""
        try:
            async with asyncio.timeout_at(until):
                await self._stirred.wait()
        except TimeoutError:
            return False
        self._stirred.clear()
        return True

    async def _pause(self, until: float) -> None:
        """Wait, unless `close` is called. Messages that are put meanwhile do not shorten it."""
        while not self._closing and await self._stir(until):
            pass

    def _greet(self) -> None:
        self.counters.connections += 1
        self.state = f"connected to {self._route}"
        if self._told or self.counters.connections == 1:
            log.info("%s as %s", self.state, self._connection.identity.client_id)
        self._told.clear()

    def _tell(self, end: Ended) -> None:
        """Warn once of each kind of failure until a connection stands again."""
        self.counters.refused += end.kind == "refused"
        self.counters.lost += end.kind == "lost"
        self._tell_once(end.kind, f"no connection to {self._route}: {end}")

    def _tell_once(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            log.warning("%s", text)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
