"""The gateway: listens with TLS, lets identities in, and brings twin changes to their connections.

Everything here runs on one event loop and never blocks it: the registry is called from the threads
`registry_0` …. A connection is one task, from CONNECT until its last message is durable.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import msgspec
from OpenSSL import SSL
from opentelemetry.trace import SpanKind
from starlette.websockets import WebSocket

from vedette.hub.gateway import websocket
from vedette.hub.gateway.admission import Known, admit, known_of
from vedette.hub.gateway.arrivals import Arrivals
from vedette.hub.gateway.auth import Claim, Refused, read_claim
from vedette.hub.gateway.door import Door, Knock
from vedette.hub.gateway.downlink import Answer
from vedette.hub.gateway.journal import Fault, Warnings
from vedette.hub.gateway.link import Link
from vedette.hub.gateway.listening import listen
from vedette.hub.gateway.peers import Peers
from vedette.hub.gateway.provisioning import Provisioning, applies, read_applicant
from vedette.hub.gateway.room import Room
from vedette.hub.gateway.secure import SecureTransport
from vedette.hub.gateway.session import (
    DISCONNECTED,
    LOST,
    OUR_FAULT,
    QUOTA,
    SHOWN_CHARACTERS,
    HubFault,
    P,
    Session,
    T,
    printable,
)
from vedette.hub.gateway.topics import ForbiddenTopic
from vedette.hub.intake import Inbound
from vedette.hub.introduction import Network
from vedette.hub.limits import Limits
from vedette.hub.meter import EVERYBODY, Meter, day_of
from vedette.hub.operations import HUB, Operations
from vedette.hub.registry import (
    ChangesLost,
    Registry,
    RegistryError,
    TwinError,
)
from vedette.hub.registry.calls import Call
from vedette.hub.registry.connections import Holding
from vedette.hub.tls import bound_tls_buffers
from vedette.hub.traces import span
from vedette.wire.events import HubOperation
from vedette.wire.iothub import Identity
from vedette.wire.mqtt import Violation
from vedette.wire.packets import Connack, Connect, ConnectCode

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 15.0
"""From TLS to CONNECT."""

CLOSE_TIMEOUT_S = 10.0
"""How long messages may take to become durable when the gateway closes."""

MAX_SILENCE_S = 1_767.0
"""Largest keep-alive, also for clients that ask for none: the real service's. It finds dead connections."""

KEEP_ALIVE_FACTOR = 1.5
"""Silence allowed in units of the keep-alive [MQTT-3.1.2-24]."""

MAX_CONNECTIONS = 50_000
"""Open connections. At 60 KB each (TLS 1.3 under uvloop, measured by benchmarks/hub.py) they take 3 GB."""

MAX_WAITING = 20_000
MAX_WAITING_BYTES = 67_108_864
"""Messages, and their bytes, of all connections together that wait for the lake."""

POLL_INTERVAL_S = 0.25
"""How often the registry is asked for changes: one PRAGMA of 15 µs."""

ACTIVITY_INTERVAL_S = 5.0
"""How often it is written down who was heard of and who has left."""

REGISTRY_THREADS = 4
"""Reads run side by side; writes wait for each other in the database anyway."""

BACKLOG = 1_024
"""Connections that the kernel keeps for us while a fleet comes back after an outage."""

REPLACED = "replaced by a newer connection"
REVOKED = "identity disabled or removed"
CHANGES_LOST = "twin changes were missed"
FORGOTTEN = "other hubs have taken this one for gone"
CLOSING = "hub closes"
NO_ROOM = "too many connections"
NO_CONNECT = "no CONNECT in time"
CROWDED = "too many connections of one address that are not let in"
TOO_OFTEN = "identity connects too often"
EXPIRED = "token expired"
ORDINARY = frozenset({DISCONNECTED, LOST, REPLACED, EXPIRED, CLOSING})
"""Ends of a connection that are everyday life."""


class Counters(msgspec.Struct):
    """Running totals since the start. Reasons are fixed texts, so these tables are bounded.

    messages, bytes: device-to-cloud messages that came, and their payloads; durable: of these, in the lake.
    refused: connections that were not let in. ended: connections that were, by what ended them. throttled:
    messages and requests that came faster than the limits allow.
    """

    connections: int = 0
    messages: int = 0
    bytes: int = 0
    durable: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    ended: Counter[str] = msgspec.field(default_factory=Counter)
    throttled: Counter[str] = msgspec.field(default_factory=Counter)


class Gateway:
    """The device side of the hub.

    sink: takes a message; when it returns, the message is durable; if it raises, the client keeps it.
    host_names: names and addresses that clients may call this hub by; the first is told to devices that
    register themselves. name: tells gateways on one registry
    apart, stays the same over restarts. operations: where what clients do is counted.
    """

    def __init__(
        self,
        registry: Registry,
        sink: Callable[[Inbound], Awaitable[None]],
        *,
        host_names: Collection[str],
        name: str | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        operations: Operations | None = None,
    ) -> None:
        self.registry = registry
        self.operations = operations or Operations()
        self.meter = Meter(limits)
        self.room = Room(MAX_WAITING, MAX_WAITING_BYTES)
        self.counters = Counters()
        self.limits = limits
        self._door = Door(limits)
        self._sink = sink
        self._host = next(iter(host_names))
        self._host_names = frozenset(host.lower() for host in host_names)
        self._name = name or socket.gethostname()
        self._sessions: dict[Identity, Session] = {}
        self._links: dict[asyncio.Task[None], Link] = {}
        self._peers = Peers(self, self._name)
        self._activity: dict[Identity, float] = {}
        self._left: list[int] = []
        self._arrivals = Arrivals()
        self._revocations = 0
        self._registry_faults: dict[str, Fault] = {}
        self._lake_fault = Fault(log, "lake")
        self.warnings = Warnings(log)

    @property
    def connections(self) -> int:
        """Identities connected now."""
        return len(self._sessions)

    @property
    def port(self) -> int:
        """The TCP port listened on."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(
        self, bind: str, port: int, context: SSL.Context, proxies: Sequence[Network] = ()
    ) -> None:
        """Listen with a `device_context`. proxies: load balancers that say who their clients are.

        Raises OSError if the address is taken, HubFault if the registry fails.
        """
        bound_tls_buffers()  # of the HTTPS port, whose TLS is asyncio's
        self._server = await listen(
            lambda: SecureTransport(context, self._knock, partial(Link, self._open)),
            bind,
            port,
            backlog=BACKLOG,
            proxies=proxies,
            refused=self.counters.refused,
        )
        self._threads = ThreadPoolExecutor(REGISTRY_THREADS, "registry")
        await self._peers.start()
        self._feed = await self.ask(self.registry.feed)
        self._last_message = await self.ask(self.registry.messages.last)
        await self._write_usage()  # learns what was spent today
        self._periodic = [
            asyncio.create_task(_repeat(POLL_INTERVAL_S, self._push_changes)),
            asyncio.create_task(_repeat(POLL_INTERVAL_S, self._bring_messages)),
            asyncio.create_task(_repeat(POLL_INTERVAL_S, self._peers.follow)),
            asyncio.create_task(_repeat(ACTIVITY_INTERVAL_S, self._write_activity)),
            asyncio.create_task(_repeat(ACTIVITY_INTERVAL_S, self._write_usage)),
        ]
        await self._server.start_serving()

    async def close(self) -> None:
        """Stop listening, let what was received become durable and be acknowledged, then close all."""
        self._server.close()
        for task in self._periodic:
            task.cancel()
        await asyncio.gather(*self._periodic, return_exceptions=True)
        for link in self._links.values():
            link.stop(CLOSING)
        if self._links:
            _, late = await asyncio.wait(list(self._links), timeout=CLOSE_TIMEOUT_S)
            for task in late:
                self._links[task].abort(CLOSING)
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._write_activity()
        await self._write_usage()
        await self._peers.close()
        with suppress(HubFault):  # logged; the next start releases them
            await self.ask(self.registry.connections.release, self._name)
        await asyncio.to_thread(self._threads.shutdown)
        self._feed.close()

    def forgotten(self) -> None:
        """Other hubs have ended our connections in the registry: have every client connect again."""
        for session in self._sessions.values():
            session.link.close(FORGOTTEN)

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the registry from a thread. Raises its RegistryError and TwinError, for all else HubFault."""
        name = f"registry: {call.__name__}"  # each call has its own: one that works does not mend another
        fault = self._registry_faults.setdefault(name, Fault(log, name))
        work = partial(call, *args, **kwargs)
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (RegistryError, TwinError):
            raise
        except Exception as error:
            fault.breaks(error)
            raise HubFault from error
        fault.works()
        return result

    async def deliver(self, inbound: Inbound) -> None:
        """Hand a message to the sink; when this returns it is durable. Raises HubFault."""
        self.counters.messages += 1
        self.counters.bytes += len(inbound.body)
        about: dict[str, str | int] = {
            "device.id": inbound.identity.client_id,
            "message.bytes": len(inbound.body),
        }
        try:
            with span("PUBLISH", SpanKind.SERVER, about):
                await self._sink(inbound)
        except Exception as error:
            self._lake_fault.breaks(error)
            raise HubFault from error
        self._lake_fault.works()
        self.counters.durable += 1

    def throttled(self, what: str) -> None:
        """Note that a client was slowed down or told to wait."""
        self.counters.throttled[what] += 1

    def heard(self, identity: Identity) -> None:
        """Note that the identity is active."""
        self._activity[identity] = time.time()

    async def serve_websocket(self, socket: WebSocket) -> None:
        """Serve a client that came by WebSocket, to its end."""
        place = self._knock(socket.client.host if socket.client else "")
        if place is None:
            await socket.close(websocket.CLOSE_TRY_LATER)
            return
        try:
            await websocket.serve(socket, Link(self._open, place))
        finally:
            place.leave()

    def subscribed(self, identity: Identity) -> None:
        """Wake the direct methods that wait for this identity."""
        self._arrivals.note(identity)

    async def call(
        self, identity: Identity, name: str, payload: bytes, *, timeout: float, connect_timeout: float = 0
    ) -> Answer:
        """Have a client run a direct method, on whichever gateway it is; times in seconds.

        Raises NotOnline if it does not listen within `connect_timeout`, TimeoutError if it does not answer,
        CallFailed, HubFault.
        """
        call = Call(identity, name, payload, timeout, connect_timeout)
        deadline = asyncio.get_running_loop().time() + connect_timeout
        while True:
            elsewhere = "" if self._listener(identity) else await self._peers.holder(identity)
            if session := self._listener(identity):
                return await session.call(name, payload, timeout)
            if elsewhere:
                return await self._peers.call(elsewhere, call)
            await self._arrivals.next(identity, deadline, POLL_INTERVAL_S)

    async def call_here(self, call: Call) -> Answer:
        """Have a client of this very gateway run a direct method: see `call`."""
        deadline = asyncio.get_running_loop().time() + call.connect_timeout
        while (session := self._listener(call.identity)) is None:
            await self._arrivals.next(call.identity, deadline)
        return await session.call(call.method, call.payload, call.timeout)

    def _listener(self, identity: Identity) -> Session | None:
        """The session of an identity, if it listens for methods."""
        session = self._sessions.get(identity)
        return session if session and session.hears_methods else None

    def held(self, holding: Holding) -> None:
        """Close our connection of an identity that a gateway holds by a newer one."""
        session = self._sessions.get(holding.identity)
        if session and session.number < holding.seq:
            session.link.close(REPLACED)

    def _note(self, link: Link, who: Identity, reason: str = "") -> None:
        """Count a CONNECT that was let in or, with a reason, not."""
        self.operations.note(
            who,
            HubOperation(
                operation="Connect",
                outcome="Refused" if reason else "Accepted",
                reason=reason,
                protocol="MQTT",
                remote_address=link.address,
                identity=link.client_id,
                tls="" if reason else link.tls,
            ),
        )

    def _knock(self, address: str) -> Knock | None:
        """A connection comes from an address; None if too many of it are strangers still."""
        place = self._door.knock(address)
        if place is None:
            self.counters.refused[CROWDED] += 1
            self.warnings.write("%s: refused: %s", address, CROWDED)
            crowded = HubOperation(
                operation="Connect",
                outcome="Refused",
                reason=CROWDED,
                protocol="MQTT",
                remote_address=address,
            )
            self.operations.note(HUB, crowded)
        return place

    def _open(self, link: Link) -> None:
        """A connection stands: one task serves it to its end."""
        if not self._server.is_serving():  # its handshake was under way when we closed
            link.abort(CLOSING)
            return
        self.counters.connections += 1
        task = asyncio.create_task(self._serve(link))
        self._links[task] = link
        task.add_done_callback(self._links.pop)

    async def _serve(self, link: Link) -> None:
        try:
            await self._converse(link)
        except Refused as refusal:
            self._note(link, refusal.device or HUB, refusal.reason)
            self._refuse(link, refusal.code, refusal.reason)
        except ForbiddenTopic as forbidden:
            self._refuse(link, None, str(forbidden))
        except Violation as violation:
            self._refuse(link, violation.answer, violation.reason)
        except TimeoutError:
            self._refuse(link, None, NO_CONNECT)
        except (HubFault, RegistryError):
            self._refuse(link, ConnectCode.UNAVAILABLE, OUR_FAULT)
        except Exception:
            log.exception("%s: connection failed", link.peer)
            self._refuse(link, ConnectCode.UNAVAILABLE, OUR_FAULT)
        finally:
            link.close(OUR_FAULT)
        await link.ended.wait()

    def _refuse(self, link: Link, code: ConnectCode | None, reason: str) -> None:
        self.counters.refused[reason] += 1
        self.warnings.write("%s: refused: %s", link.peer, reason)
        if code is not None:
            link.send(Connack(code))
        link.close(reason)

    async def _converse(self, link: Link) -> None:
        """From CONNECT until the last message is durable. Raises what keeps a client out."""
        if len(self._links) > MAX_CONNECTIONS:
            raise Refused(ConnectCode.UNAVAILABLE, NO_ROOM)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            connect = await link.receive()
        if not isinstance(connect, Connect):
            link.close(LOST)
            return
        link.peer = f"{link.peer} {printable(connect.client_id)}"
        link.client_id = connect.client_id[:SHOWN_CHARACTERS]
        if applies(connect):
            await Provisioning(self, link, self._host, read_applicant(connect, link.certificates)).run()
            return
        claim = read_claim(connect, self._host_names)
        known = await self._load(claim)
        revocations = self._revocations
        try:
            device, ends = admit(claim, known, link.certificates, self._host_names, time.time())
            if self._door.too_often(device.identity, time.monotonic()):
                raise Refused(ConnectCode.UNAVAILABLE, TOO_OFTEN)
            if await self._overdrawn(device.identity.device_id):
                raise Refused(ConnectCode.UNAVAILABLE, QUOTA)
        except Refused as refusal:
            refusal.device = known.device.identity if known.device else None
            raise
        link.knock.leave()
        self._note(link, device.identity)
        number = await self._peers.hold(device.identity)
        subscriptions = known.subscriptions
        keeps = not connect.clean_session
        kept = subscriptions if keeps else frozenset()
        session = Session(self, link, device, kept, keeps=keeps, number=number)
        self._enter(session, connect, ends)
        try:
            if subscriptions and not keeps:
                await self.ask(self.registry.set_subscriptions, claim.identity, ())
            link.send(Connack(ConnectCode.ACCEPTED, session_present=bool(subscriptions) and keeps))
            if revocations != self._revocations:  # while others were asked
                await self._recheck(session)
            await session.run()
        finally:
            self._leave(session)
        await session.settle()

    async def _overdrawn(self, device_id: str) -> bool:
        """True if the device, or the hub, has nothing left of today's quota. Raises HubFault."""
        if self.meter.by_device:
            day = day_of(time.time())
            self.meter.learn(day, device_id, await self.ask(self.registry.usage.units, day, device_id))
        return self.meter.spent(device_id, time.time())

    async def _load(self, claim: Claim) -> Known:
        """What the registry knows of an identity, read again if it may just have been revoked."""
        while True:
            before = self._revocations
            loaded = await self.ask(known_of, self.registry, claim)
            if before == self._revocations:
                return loaded

    def _enter(self, session: Session, connect: Connect, ends: float) -> None:
        """The session is its identity's connection now; an older one has to go."""
        older = self._sessions.get(session.identity)
        if older:
            older.link.close(REPLACED)
        self._sessions[session.identity] = session
        self.heard(session.identity)
        self.subscribed(session.identity)  # it may have kept its subscriptions
        silence = connect.keep_alive * KEEP_ALIVE_FACTOR or MAX_SILENCE_S
        session.link.limit_silence(min(silence, MAX_SILENCE_S))
        session.link.limit_life(ends - time.time(), EXPIRED)
        log.debug("%s: connected", session.link.peer)

    def _leave(self, session: Session) -> None:
        if self._sessions.get(session.identity) is session:
            del self._sessions[session.identity]
            self._left.append(session.number)
            self.heard(session.identity)
        reason = session.link.reason
        self.counters.ended[reason] += 1
        write = log.debug if reason in ORDINARY else self.warnings.write
        write("%s: ended: %s", session.link.peer, reason)

    async def _push_changes(self) -> None:
        """Bring what changed in the registry to the connections that it concerns."""
        try:
            changes = await self.ask(self._feed.poll)
        except HubFault:
            return  # logged; the feed goes on where it was
        except ChangesLost:
            for held in self._sessions.values():
                held.link.close(CHANGES_LOST)
            return
        for change in changes:
            self._revocations += change.patch is None
            session = self._sessions.get(change.identity)
            if session and change.patch is None:
                await self._recheck(session)
            elif session:
                session.push(change)

    async def _bring_messages(self) -> None:
        """Bring new cloud-to-device messages to the connections of their devices."""
        with suppress(HubFault):  # logged; what is not sent now is sent on the next connection
            news = await self.ask(self.registry.messages.news, self._last_message)
            self._last_message, devices = news
            for device_id in devices:
                if session := self._sessions.get(Identity(device_id)):
                    await session.bring_messages()

    async def _recheck(self, session: Session) -> None:
        """Close a connection unless it is younger than the change: the record that let it in still stands."""
        device = None
        with suppress(HubFault):  # logged; the client is let in again when we can tell
            device = await self.ask(self.registry.get, session.identity)
        if device is None or not device.enabled or device.etag != session.etag:
            session.link.close(REVOKED)

    async def _write_usage(self) -> None:
        """Write down what was spent of the quotas, and learn what other gateways spent."""
        spent, day = self.meter.take(), day_of(time.time())
        try:
            await self.ask(self.registry.usage.add, spent)
        except HubFault:
            self.meter.give_back(spent)
            return
        with suppress(HubFault):  # logged; asked again in a moment
            self.meter.learn(day, EVERYBODY, await self.ask(self.registry.usage.units, day, EVERYBODY))

    async def _write_activity(self) -> None:
        """Write down who was heard of and who has left; keep it if that fails."""
        heard, self._activity = self._activity, {}
        left, self._left = self._left, []
        try:
            if heard:
                await self.ask(self.registry.record, heard)
            if left:
                await self.ask(self.registry.connections.leave, left)
        except HubFault:
            self._activity = heard | self._activity
            self._left += left


async def _repeat(interval: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(interval)
        await work()
