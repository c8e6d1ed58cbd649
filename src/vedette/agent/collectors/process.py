"""Processes: every command line that a user ran, with how often, and every child that never ran one.
If wanted, the ends of processes, too.

Three sources can tell, in a ladder that `Process_Mode` picks from. eBPF counts in the kernel and wakes this
process only for what is new; the netlink process connector tells each event one by one; looking at /proc
finds what lives long enough. An event means the same from each; how many of them are seen differs.

Secrets in command lines are masked before anything is kept. The kernel tells command lines apart by their
bytes, events are told apart by what is left of them.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Hashable
from functools import partial
from typing import NamedTuple, Protocol

from vedette.agent.aggregate import EventCache, Overflow
from vedette.agent.collectors import Collected
from vedette.agent.losses import CACHE_FULL
from vedette.agent.redact import redact
from vedette.agent.sources import Unavailable
from vedette.agent.sources.passwd import Accounts
from vedette.agent.sources.proc_connector import ProcConnector
from vedette.agent.sources.proc_poll import ProcPoll
from vedette.agent.sources.process import Seen
from vedette.agent.sources.process_bpf import ProcessCounter
from vedette.wire.events import Process, type_of
from vedette.wire.twin import Priority, ProcessMode, Settings

SWEEP = 30.0
"""Seconds between two looks for children that live on without executing anything. The kernel's table has
room for 256 of them; a look at it costs one system call while it is empty."""

CATCH_UP = 64
"""Rounds in which a report waits for queued netlink messages: more than the socket's buffer holds."""

EBPF = "eBPF"
NETLINK = "netlink process connector"
POLLING = "polling of /proc"
"""The sources' names for people."""

EXITS_UNSEEN = "ends of processes cannot be seen"
"""What `Process_ReportExit` means to polling."""

_Payload = Callable[[Seen], Process]


class CommandLine(NamedTuple):
    """A command line for people, and how many secrets in it were masked."""

    text: str
    masked: int


class _Source(Protocol):
    """One way to count processes. Made, it is able to; from `begin` to `stop` it does."""

    label: str

    def begin(self) -> None: ...

    async def apply(self, settings: Settings) -> Collected:
        """Go on under other settings; what had to be handed over for that."""
        ...

    async def collect(self) -> Collected: ...

    async def stop(self) -> Collected: ...


class _Kernel:
    """eBPF: counts stay in the kernel; each of its two generations has a cache of what its keys mean.

    Where several keys mean one event, as masking makes them equal, the kernel counts under the last of them:
    what it had counted under the one before is fetched and the key forgotten. So its map stays as bounded as
    the cache, and command lines with ever new secrets push nothing out.
    """

    label = EBPF

    def __init__(self, settings: Settings, payload: _Payload) -> None:
        self._capacity = settings.process_cache_size
        self._payload = payload
        self._counter = ProcessCounter(self._capacity, self._announced, exits=settings.process_report_exit)
        self._keys: tuple[dict[Hashable, bytes], ...] = ({}, {})
        self._caches = [_cache(settings, forget=partial(self._forget, generation)) for generation in (0, 1)]
        self._sweep: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._counter.begin()
        asyncio.get_running_loop().add_reader(self._counter.fd, self._counter.hear)
        self._settle()

    async def apply(self, settings: Settings) -> Collected:
        for cache in self._caches:
            cache.limit(settings.process_cache_size, Overflow(settings.process_overflow))
        if settings.process_cache_size == self._capacity:
            return Collected([], [])
        self._capacity = settings.process_cache_size
        await self._counter.resize(self._capacity)
        return await self.collect()  # and so over to the generation that has the new size

    async def collect(self) -> Collected:
        self._take_settled()
        generation, hits, losses = await self._counter.finish()
        cache = self._caches[generation]
        meant = {key: event for event, key in self._keys[generation].items()}
        self._keys[generation].clear()
        for key, count in hits:
            if not cache.add_hits(meant.get(key), count):  # refused when it was new
                cache.drop(CACHE_FULL, hits=count)
        events, dropped = cache.drain()
        return Collected(events, losses + dropped)

    async def stop(self) -> Collected:
        asyncio.get_running_loop().remove_reader(self._counter.fd)
        if self._sweep:
            self._sweep.cancel()
        self._counter.end()
        try:
            return await self.collect()
        finally:
            self._counter.close()

    def _announced(self, generation: int, key: bytes, seen: Seen) -> None:
        cache, keys = self._caches[generation], self._keys[generation]
        payload = self._payload(seen)
        event = _identity(payload)
        if not cache.add(payload, 0, now=seen.at, key=event):
            return
        former = keys.get(event)
        keys[event] = key
        if former is not None and former != key:
            cache.add_hits(event, self._counter.forget(generation, former))

    def _forget(self, generation: int, event: Hashable) -> int:
        key = self._keys[generation].pop(event, None)
        return self._counter.forget(generation, key) if key else 0

    def _settle(self) -> None:
        self._take_settled()
        self._sweep = asyncio.get_running_loop().call_later(SWEEP, self._settle)

    def _take_settled(self) -> None:
        cache = self._caches[self._counter.active]
        for _, seen in self._counter.settled():
            payload = self._payload(seen)
            cache.add(payload, now=seen.at, key=_identity(payload))


class _OneByOne:
    """What the sources have in common that tell each process by itself."""

    def __init__(self, settings: Settings, payload: _Payload) -> None:
        self._cache = _cache(settings)
        self._payload = payload
        self._timer: asyncio.TimerHandle | None = None

    async def apply(self, settings: Settings) -> Collected:
        self._cache.limit(settings.process_cache_size, Overflow(settings.process_overflow))
        return Collected([], [])

    def _seen(self, seen: Seen) -> None:
        payload = self._payload(seen)
        self._cache.add(payload, now=seen.at, key=_identity(payload))

    def _lost(self, reason: str, count: int) -> None:
        self._cache.drop(reason, hits=count)

    def _end(self) -> None:
        if self._timer:
            self._timer.cancel()


class _Netlink(_OneByOne):
    """The process connector."""

    label = NETLINK

    def __init__(self, settings: Settings, payload: _Payload) -> None:
        super().__init__(settings, payload)
        self._connector = ProcConnector(self._seen, self._lost, exits=settings.process_report_exit)

    def begin(self) -> None:
        self._connector.begin()
        asyncio.get_running_loop().add_reader(self._connector.fd, self._connector.receive)
        self._settle()

    async def collect(self) -> Collected:
        for _ in range(CATCH_UP):
            if not self._connector.receive():
                break
        self._connector.settle()
        return Collected(*self._cache.drain())

    async def stop(self) -> Collected:
        asyncio.get_running_loop().remove_reader(self._connector.fd)
        self._end()
        try:
            return await self.collect()
        finally:
            self._connector.close()

    def _settle(self) -> None:
        self._connector.settle()
        self._timer = asyncio.get_running_loop().call_later(SWEEP, self._settle)


class _Polling(_OneByOne):
    """Looking at /proc every `Process_PollingInterval`."""

    label = POLLING

    def __init__(self, settings: Settings, payload: _Payload) -> None:
        super().__init__(settings, payload)
        self._poll = ProcPoll(self._seen, self._lost)
        self._interval = settings.process_polling_interval / 1e6

    def begin(self) -> None:
        self._poll.begin()
        self._look()

    async def apply(self, settings: Settings) -> Collected:
        self._interval = settings.process_polling_interval / 1e6
        return await super().apply(settings)

    async def collect(self) -> Collected:
        self._poll.look()
        return Collected(*self._cache.drain())

    async def stop(self) -> Collected:
        self._end()
        return await self.collect()

    def _look(self) -> None:
        self._poll.look()
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)


LADDER: dict[ProcessMode, tuple[type[_Kernel] | type[_Netlink] | type[_Polling], ...]] = {
    ProcessMode.AUTO: (_Kernel, _Netlink, _Polling),
    ProcessMode.NETLINK: (_Netlink, _Polling),
    ProcessMode.POLLING: (_Polling,),
    ProcessMode.EBPF: (_Kernel,),
}
"""Sources by mode, best first."""


class ProcessCollector:
    """The collector `Process`. See `Collector` for what its methods promise."""

    name = "Process"

    def __init__(self) -> None:
        self.source = "none"
        self._users = Accounts()
        self._counting: _Source | None = None
        self._settings = Settings()
        self._carried = Collected([], [])

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.process_disabled

    def priority(self, settings: Settings) -> Priority:
        """Medium unless the twin says otherwise."""
        return settings.process_frequency

    async def start(self, settings: Settings) -> None:
        """Count with the first source of the ladder that works. Raises Unavailable with each one's reason."""
        await self._switch(settings)

    async def collect(self) -> Collected:
        """The processes since the last call, and what was lost."""
        collected = await self._counting.collect() if self._counting else Collected([], [])
        return self._with_carried(collected)

    async def apply(self, settings: Settings) -> None:
        """Go on under new settings.

        Cache and policy change under the running source, and nothing is lost or doubled. Where another
        source is needed, it is made ready first; then the old one stops, the new one begins, and what the old
        one had seen is kept for the next `collect`. Nothing is counted twice; a process that starts in the
        milliseconds between is not seen. If the new mode has no source here, nothing counts any more and
        Unavailable is raised.
        """
        current = self._counting
        before, self._settings = self._settings, settings
        same_mode = settings.process_mode == before.process_mode
        same_exits = settings.process_report_exit == before.process_report_exit
        best = LADDER[settings.process_mode][0]
        if current and same_exits and (same_mode or isinstance(current, best)):
            self._carried = self._with_carried(await current.apply(settings))
        else:
            await self._switch(settings)

    async def stop(self) -> Collected:
        """Release the source; what had been seen until then."""
        counting, self._counting, self.source = self._counting, None, "none"
        return self._with_carried(await counting.stop() if counting else Collected([], []))

    async def _switch(self, settings: Settings) -> None:
        reasons: list[str] = []
        self._settings = settings
        for rung in LADDER[settings.process_mode]:
            try:
                ready = rung(settings, self._payload)
                self._carried = await self.stop()
                ready.begin()
            except Unavailable as why:
                reasons.append(f"{rung.label}: {why}")
                continue
            self._counting = ready
            if settings.process_report_exit and isinstance(ready, _Polling):
                reasons.append(EXITS_UNSEEN)
            self.source = f"{rung.label} ({'; '.join(reasons)})" if reasons else rung.label
            return
        self._carried = await self.stop()
        raise Unavailable("; ".join(reasons))

    def _with_carried(self, collected: Collected) -> Collected:
        carried, self._carried = self._carried, Collected([], [])
        return Collected(carried.events + collected.events, carried.losses + collected.losses)

    def _payload(self, seen: Seen) -> Process:
        shown = command_line(seen, redacted=self._settings.process_redact_secrets)
        ended = seen.event == "EXIT"
        signal = seen.status & 0x7F
        return Process(
            event_type=seen.event,
            process_id=seen.pid,
            parent_process_id=seen.ppid,
            commandline=shown.text,
            masked=shown.masked,
            executable=_text(seen.executable),
            user_name=self._users.name(seen.uid),
            user_id=seen.uid,
            commandline_length=seen.length if seen.length > len(seen.arguments) else None,
            exit_status=seen.status >> 8 if ended and not signal else None,
            exit_signal=signal if ended and signal else None,
        )


def _identity(payload: Process) -> Hashable:
    """What makes two events the same: as declared, and for an end its executable and its status."""
    if payload.event_type == "EXIT":
        return "EXIT", payload.executable, payload.exit_status, payload.exit_signal
    return type_of(Process).key(payload)


def command_line(seen: Seen, *, redacted: bool) -> CommandLine:
    """The arguments as a POSIX shell would need them; bytes that are not UTF-8 as \\xNN.

    A program that overwrites its title leaves NULs after it, and its children inherit them.
    redacted: mask its secrets.
    """
    if seen.event == "EXIT":
        return CommandLine("", 0)
    text = seen.arguments.rstrip(b"\0") if seen.event == "FORK" else seen.arguments.removesuffix(b"\0")
    arguments, masked = [_text(argument) for argument in text.split(b"\0")], 0
    if redacted:
        arguments, masked = redact(arguments)
    return CommandLine(shlex.join(arguments), masked)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _cache(settings: Settings, **source: Callable[[Hashable], int]) -> EventCache:
    return EventCache(
        type_of(Process),
        settings.process_cache_size,
        Overflow(settings.process_overflow),
        setting="Process_CacheSize",
        **source,
    )
