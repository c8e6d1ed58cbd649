"""Network activity: every flow through the device's network interfaces, with packets, bytes and owner.

Three sources can tell, in a ladder. eBPF programs count in the kernel; a packet capture counts here what it
gets to see; sock_diag is asked about TCP again and again. An event means the same from each; how much of the
traffic they see differs, and is said.

Every `SWEEP` seconds, and when a report is due, the source's flows go into the event cache; then, too, it is
looked up whose they are where the kernel has not said so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from vedette.agent.aggregate import EventCache, Overflow
from vedette.agent.collectors import Collected
from vedette.agent.collectors.flow_names import FlowNames, HostNames
from vedette.agent.collectors.process import command_line
from vedette.agent.losses import MALFORMED
from vedette.agent.sources import Overrun, Unavailable, dnswire, flow_owners
from vedette.agent.sources.dnswire import Answer
from vedette.agent.sources.flow import Delivery, Finished, Flow, Identity, Kind, Owner, Told
from vedette.agent.sources.flow_bpf import FlowCounter
from vedette.agent.sources.net_devices import chosen
from vedette.agent.sources.packet import PacketCapture
from vedette.agent.sources.process import Seen
from vedette.agent.sources.rtnetlink import Link, LinkWatch, links
from vedette.agent.sources.tcp_diag import TcpDiag
from vedette.wire.events import Event, ExtendedProperties, NetworkActivity, type_of
from vedette.wire.network import protocol_name, watched_devices
from vedette.wire.twin import Priority, Settings

log = logging.getLogger(__name__)

SWEEP = 30.0
"""Seconds between two looks at the source: the kernel's 16,384 flows are not filled before, save by a scan of
ports, and most processes and sockets are still there to be asked about."""

COMMANDS_MAX = 256
"""Processes whose command lines are remembered between two sends."""


class _Source(Protocol):
    """One way to count flows. It learns of devices by `watch`, and sees them until `unwatch`."""

    label: str
    note: str

    def watch(self, link: Link) -> str: ...

    def unwatch(self, index: int) -> None: ...

    async def finish(self) -> Finished: ...

    def close(self) -> None: ...


Make = Callable[[Settings, Callable[[Told], None]], _Source]

EBPF, CAPTURE, SOCK_DIAG = FlowCounter.label, PacketCapture.label, TcpDiag.label
"""The sources' names for people."""

LADDER: dict[str, Make] = {
    EBPF: lambda settings, told: FlowCounter(told),
    CAPTURE: lambda settings, told: PacketCapture(told, settings.network_buffer),
    SOCK_DIAG: lambda settings, told: TcpDiag(),
}
"""Sources, best first."""


class _Known:
    """What is known of a flow beside its counts; what was learnt first stays."""

    __slots__ = (
        "accepted",
        "application",
        "arguments",
        "commandline",
        "delivery",
        "flow",
        "host_name",
        "owner",
        "sni",
    )

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.owner: Owner | None = None
        self.arguments = b""
        self.accepted: bool | None = None
        self.delivery: Delivery = ""
        self.commandline = self.host_name = self.application = self.sni = ""


class NetworkCollector:
    """The collector `NetworkActivity`. See `Collector` for what its methods promise.

    answered: told of each DNS answer, the server's address and when (Unix seconds). root: where /proc is.
    ladder: the sources to try, best first.
    """

    name = "NetworkActivity"

    def __init__(
        self,
        answered: Callable[[Answer, str, float], None] = lambda answer, server, at: None,
        root: Path = Path("/"),
        *,
        ladder: dict[str, Make] = LADDER,
    ) -> None:
        self._answered = answered
        self._root = root
        self._ladder = ladder
        self._settings = Settings()
        self._source: _Source | None = None
        self._changes: LinkWatch | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._reasons: list[str] = []
        self._watched: dict[int, tuple[Link, str]] = {}
        self._notes: list[str] = []
        self._cache = self._new_cache(self._settings)
        self._known: dict[Hashable, _Known] = {}
        self._commands: dict[Owner, str] = {}
        self._hosts = HostNames()
        self._names = FlowNames()

    @property
    def source(self) -> str:
        """The source in use, the devices it watches, and what keeps it from more."""
        if self._source is None:
            return "none"
        ways: dict[str, list[str]] = {}
        for link, way in self._watched.values():
            ways.setdefault(way, []).append(link.name)
        devices = "; ".join(f"{way} {', '.join(names)}".strip() for way, names in ways.items())
        notes = [*self._notes, *([self._source.note] if self._source.note else []), *self._reasons]
        return f"{self._source.label}: {devices or 'no device'}" + (f" ({'; '.join(notes)})" if notes else "")

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.network_disabled

    def priority(self, settings: Settings) -> Priority:
        """Medium unless the twin says otherwise."""
        return settings.network_frequency

    async def start(self, settings: Settings) -> None:
        """Count with the first source that works. Raises Unavailable with each one's reason."""
        self._settings, self._cache = settings, self._new_cache(settings)
        self._reasons = []
        for label, make in self._ladder.items():
            try:
                self._begin(make(settings, self._told))
            except Unavailable as why:
                self._reasons.append(f"{label}: {why}")
            else:
                self._sweeping = asyncio.create_task(self._keep_sweeping(), name=self.name)
                return
        raise Unavailable("; ".join(self._reasons))

    async def collect(self) -> Collected:
        """The flows since the last call, and what was lost."""
        if self._sweeping and self._sweeping.done():
            self._sweeping.result()  # raises what ended it
        async with self._turn:
            await self._sweep()
            return self._drain()

    async def apply(self, settings: Settings) -> None:
        """Go on under new settings. The source stays, and what it is counting."""
        self._settings = settings
        self._cache.limit(settings.network_cache_size, Overflow(settings.network_overflow))
        if isinstance(self._source, PacketCapture):
            self._source.resize(settings.network_buffer)
        if self._source:
            self._follow()

    async def stop(self) -> Collected:
        """Release the source, then hand over what it had counted."""
        if self._sweeping:
            self._sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeping
            self._sweeping = None
        async with self._turn:
            try:
                for index in list(self._watched):
                    self._unwatch(index)
                await self._sweep()
                return self._drain()
            finally:
                self._end()

    # -- devices

    def _begin(self, source: _Source) -> None:
        """Watch the devices with a source. Raises Unavailable if it can watch none that there is."""
        self._source = source
        try:
            self._changes = LinkWatch()
            asyncio.get_running_loop().add_reader(self._changes.fileno(), self._links_changed)
            refused = self._follow()
            if refused and not self._watched:
                raise Unavailable("; ".join(refused))
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        if self._changes:
            asyncio.get_running_loop().remove_reader(self._changes.fileno())
            self._changes.close()
            self._changes = None
        if self._source:
            self._source.close()
            self._source = None
        self._watched, self._notes = {}, []

    def _links_changed(self) -> None:
        """Follow what rtnetlink tells, whatever it is: the present state is what counts."""
        assert self._changes is not None, "its reader is removed with it"
        with contextlib.suppress(Overrun):
            for _ in self._changes.changes():
                pass
        self._follow()

    def _follow(self) -> list[str]:
        """Watch the devices that there are to be watched now; returns why some are not."""
        assert self._source is not None, "there is a source between `_begin` and `_end`"
        wanted, notes = chosen(links(), watched_devices(self._settings.network_devices))
        for index in self._watched.keys() - wanted.keys():
            self._unwatch(index)
        refused = []
        for index, link in wanted.items():
            if index in self._watched:
                self._watched[index] = link, self._watched[index][1]  # it may have a new name
                continue
            try:
                self._watched[index] = link, self._source.watch(link)
            except (OSError, Unavailable) as why:
                refused.append(f"{link.name}: {why}")
        notes += refused
        for note in notes:
            if note not in self._notes:
                log.warning("NetworkActivity: not watched: %s", note)
        self._notes = notes
        return refused

    def _unwatch(self, index: int) -> None:
        assert self._source is not None, "what is watched has a source"
        del self._watched[index]
        self._source.unwatch(index)

    # -- flows

    def _told(self, told: Told) -> None:
        """Learn from a payload what a flow or an address is called."""
        if told.kind is Kind.FIRST:
            self._names.learn(told.identity, told.data)
            return
        over_tcp = protocol_name(told.identity.protocol) == "TCP"
        try:
            answer = dnswire.parse(told.data[2:] if over_tcp else told.data)  # TCP puts the length before
        except ValueError:
            self._cache.drop(MALFORMED, hits=1)
            return
        self._hosts.learn(answer, told.at)
        self._answered(answer, told.identity.remote_address, told.at)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            async with self._turn:
                await self._sweep()

    async def _sweep(self) -> None:
        """Take what the source has counted into the cache, with all that can be known of it now."""
        if self._source is None:
            return
        finished = await self._source.finish()
        for loss in finished.losses:
            self._cache.drop(loss.reason, events=loss.events, hits=loss.hits)
        for flow in finished.flows:
            self._count(flow)
        await self._find_owners()

    def _count(self, flow: Flow) -> None:
        key = _key(flow.identity)
        if not self._cache.add(_payload(flow), flow.packets_in + flow.packets_out, now=flow.at, key=key):
            return
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Known(flow)
        if known.owner is None:
            known.owner, known.arguments = flow.owner, flow.arguments
        known.accepted = flow.accepted if known.accepted is None else known.accepted
        known.delivery = known.delivery or flow.delivery
        known.host_name = known.host_name or self._hosts.name(flow.identity.remote_address, flow.at)
        named = self._names.named(replace(flow, accepted=known.accepted))
        known.application, known.sni = named.application or known.application, named.server_name or known.sni

    async def _find_owners(self) -> None:
        """Ask for the owners that the kernel has not told, and for the command lines of all that are new."""
        unowned = {
            known.flow.identity: known.accepted for known in self._known.values() if known.owner is None
        }
        try:
            found = await asyncio.to_thread(flow_owners.find, self._root, unowned)
        except Unavailable:
            found = {}  # a kernel without sock_diag: unknown they stay
        for identity, owner in found.items():
            if known := self._known.get(_key(identity)):
                known.owner = owner
        for known in self._known.values():
            if known.owner and not known.commandline:
                known.commandline = self._command(known.owner, known.arguments)

    def _command(self, owner: Owner, kept: bytes) -> str:
        if owner not in self._commands:
            if len(self._commands) >= COMMANDS_MAX:
                del self._commands[next(iter(self._commands))]
            redacted = self._settings.process_redact_secrets
            self._commands[owner] = _command_line(owner, kept, self._root, redacted=redacted)
        return self._commands[owner]

    def _drain(self) -> Collected:
        events, losses = self._cache.drain()
        known, self._known, self._commands = self._known, {}, {}
        key = type_of(NetworkActivity).key
        return Collected([_completed(event, known[key(event.payload)]) for event in events], losses)

    def _forget(self, key: Hashable) -> int:
        """An event was evicted; nothing more of it is in the source that could be told apart."""
        self._known.pop(key, None)
        return 0

    def _new_cache(self, settings: Settings) -> EventCache:
        return EventCache(
            type_of(NetworkActivity),
            settings.network_cache_size,
            Overflow(settings.network_overflow),
            setting="NetworkActivity_CacheSize",
            forget=self._forget,
        )


def _key(identity: Identity) -> Hashable:
    """The declared identity of the event that a flow becomes."""
    local_port, remote_port, protocol, local, remote = identity
    return local_port, remote_port, protocol_name(protocol), local, remote


def _payload(flow: Flow) -> NetworkActivity:
    """A flow as an event; what it is called is added when the event is sent."""
    return NetworkActivity(
        local_address=flow.identity.local_address,
        remote_address=flow.identity.remote_address,
        local_port=flow.identity.local_port,
        remote_port=flow.identity.remote_port,
        protocol=protocol_name(flow.identity.protocol),
        bytes_in=flow.bytes_in,
        bytes_out=flow.bytes_out,
    )


def _completed(event: Event, known: _Known) -> Event:
    extended = ExtendedProperties(
        host_name=known.host_name, tls_server_name=known.sni, delivery=known.delivery
    )
    payload = replace(
        event.payload,
        process_id=known.owner.pid if known.owner else None,
        user_id=known.owner.uid if known.owner else None,
        application_protocol=known.application,
        commandline=known.commandline,
        extended_properties=extended,
    )
    return replace(event, payload=payload)


def _command_line(owner: Owner, kept: bytes, root: Path, *, redacted: bool) -> str:
    """The command line of the process that owns a flow: whole while it runs, else what was kept of it."""
    arguments = flow_owners.read_arguments(owner, str(root / "proc"))
    text, length = arguments or (kept, len(kept))
    seen = Seen("EXEC", 0.0, owner.pid or 0, 0, owner.uid, text, length)
    return command_line(seen, redacted=redacted).text if text else ""
