"""Processes counted in the kernel: the user-space half of bpf/process.bpf.c, whose opening tells the scheme.

A command line is a key of 16 bytes here; what it stands for is announced once in a generation. The caller
keeps what was announced and asks for the counts when it reports.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from errno import E2BIG, EINVAL
from struct import Struct
from typing import Literal, NamedTuple

from vedette.agent.losses import (
    FORK_TABLE_FULL,
    KERNEL_MAP_FULL,
    KERNEL_RACE,
    KERNEL_RING_FULL,
    PROGRAM_TABLE_FULL,
    TEXT_LOST,
    Loss,
    Losses,
)
from vedette.agent.sources import bpf
from vedette.agent.sources.process import Seen
from vedette.agent.sources.procfs import running_programs

OBJECT = "process.bpf.o"
TRACEPOINTS = {
    "on_exec": "sched_process_exec",
    "on_fork": "sched_process_fork",
    "on_exit": "sched_process_exit",
}

RING_BYTES = 128 * 1024
"""RING_BYTES of the C text: about 900 announcements of ordinary length. Its pages are mapped twice, so it
costs twice its size in RSS."""

WAKE_AT = RING_BYTES // 4
"""Bytes waiting at which the reader is woken. Below, nobody needs to know yet: `finish` empties the ring."""

SMALLEST_RECORD = 64
"""Bytes of the ring that the shortest announcement takes."""

COUNTS_MAX = 2304
"""COUNTS_MAX of the C text: keys that a generation's map holds, until one of another size takes its place."""

ANNOUNCED_MAX = RING_BYTES // SMALLEST_RECORD
"""Keys that can be in the kernel's map before the caller has heard of them and may forget them again."""

PROGRAMS_MAX = 4096
"""Processes at one moment whose ends are counted, if they are: 1.3 MB in the kernel."""

PATH_KEPT = 256
"""PATH_KEPT of the C text, bytes."""

SETTLED = 5.0
"""Seconds after which a child that has executed nothing counts as one that never will. From fork to exec
takes milliseconds; a shell that runs a function in a subshell takes as long as the function."""

HEARD_WITHIN = 1.0
"""Seconds to wait for announcements that a program on another CPU is just writing: it takes microseconds."""

KEY_BYTES, HITS_BYTES = 16, 8

_CONFIG = Struct("<16sQQ")
_LEDGER = Struct("<8Q")
_RECORD = Struct("<16sQIIIIHHHBB")
_EVENTS: tuple[Literal["EXEC"], Literal["FORK"], Literal["EXIT"]] = ("EXEC", "FORK", "EXIT")


class _Ledger(NamedTuple):
    generation: int
    counted: int
    told: int
    ring_full: int
    map_full: int
    text_lost: int
    forks_full: int
    programs_full: int


class Finished(NamedTuple):
    """A generation at rest: hits by key, and what it lost. Hits and losses add up to all that happened."""

    generation: int
    hits: list[tuple[bytes, int]]
    losses: list[Loss]


class ProcessCounter:
    """Counts between `begin` and `end`.

    capacity: distinct events that the caller keeps in a generation; the kernel's map is larger by what may
    wait in the ring. announce: called with generation (0 or 1), key and facts of each new event.
    exits: count the ends of processes, too. Raises Unavailable.
    """

    def __init__(
        self, capacity: int, announce: Callable[[int, bytes, Seen], None], *, exits: bool = False
    ) -> None:
        self._announce = announce
        self._exits = exits
        config = _CONFIG.pack(os.urandom(16), WAKE_AT, exits)
        self._loaded = bpf.load(OBJECT, constants=config, entries={"programs": PROGRAMS_MAX} if exits else {})
        maps = self._loaded.maps
        self._counts = [maps["counts_0"], maps["counts_1"]]
        self._room = [COUNTS_MAX, COUNTS_MAX]
        self._wanted = capacity + ANNOUNCED_MAX
        self._ledgers = maps["ledger_0"], maps["ledger_1"]
        self._switch, self._forks, self._programs = maps["active"], maps["forks"], maps["programs"]
        self._unfollowed = 0
        self._ring = bpf.Ring(maps["ring"])
        self._heard = [0, 0]
        self._forgotten = [0, 0]
        self.active = 0
        for generation in (0, 1):
            self._reset(generation)
            self._fit(generation)

    @property
    def fd(self) -> int:
        """Polls as readable when announcements should be heard."""
        return self._ring.fd

    def begin(self) -> None:
        """Count from now on. Raises Unavailable."""
        for program, tracepoint in TRACEPOINTS.items():
            self._loaded.attach_raw_tracepoint(program, tracepoint)
        if self._exits:
            self._follow_running()

    async def resize(self, capacity: int) -> None:
        """Make room for another number of distinct events, while counting goes on.

        The generation at rest changes now, the other when it rests: with the next `finish` the caller has
        what it asked for.
        """
        self._wanted = capacity + ANNOUNCED_MAX
        await asyncio.to_thread(self._fit, 1 - self.active)

    def hear(self) -> None:
        """Pass on the announcements that wait."""
        for record in self._ring.drain():
            generation, key, seen = _parse(record)
            self._heard[generation] += 1
            self._announce(generation, key, seen)

    def forget(self, generation: int, key: bytes) -> int:
        """Make an announced event new again, and return its hits until now."""
        value = self._counts[generation].take(key)
        hits = int.from_bytes(value, "little") if value else 0
        self._forgotten[generation] += hits
        return hits

    def settled(self) -> list[tuple[bytes, Seen]]:
        """Take the children that live on without having executed anything, with their keys."""
        found = []
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for pid in self._forks.present():
            record = self._forks.get(pid)
            if record and now - _RECORD.unpack_from(record)[1] / 1e9 >= SETTLED and self._forks.delete(pid):
                _, key, seen = _parse(record)
                found.append((key, seen))
        return found

    async def finish(self) -> Finished:
        """End the active generation and start the other; announcements of both are passed on meanwhile.

        The update of the switch waits, in a thread, until no program uses the old generation (an RCU grace
        period, up to tens of milliseconds).
        """
        old, self.active = self.active, 1 - self.active
        await asyncio.to_thread(
            self._switch.put, bytes(4), self._ledgers[self.active].fd.to_bytes(4, "little")
        )
        ledger = self._read_ledger(old)
        await self._hear_all(old, ledger.told)
        hits = [(key, int.from_bytes(value, "little")) for key, value in self._counts[old].take_all()]
        losses = self._losses(ledger, sum(count for _, count in hits) + self._forgotten[old])
        self._reset(old)
        if self._wanted != self._room[old]:
            await asyncio.to_thread(self._fit, old)
        return Finished(old, hits, losses)

    def end(self) -> None:
        """Stop counting; what was counted can still be had from `finish`."""
        self._loaded.detach()

    def close(self) -> None:
        """Leave the kernel."""
        self._ring.close()
        self._loaded.close()

    def _follow_running(self) -> None:
        """Tell the kernel what the processes run that began before it counted.

        One that ends at this very moment leaves its entry to whoever gets its process id.
        """
        for pid, executable in running_programs().items():
            key = pid.to_bytes(4, "little")
            if self._programs.get(key) is not None:
                continue
            try:
                self._programs.put(key, executable[: PATH_KEPT - 1].ljust(PATH_KEPT, b"\0"))
            except OSError as error:
                if error.errno != E2BIG:
                    raise
                self._unfollowed += 1

    async def _hear_all(self, generation: int, told: int) -> None:
        deadline = time.monotonic() + HEARD_WITHIN
        self.hear()
        while self._heard[generation] < told and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
            self.hear()

    def _read_ledger(self, generation: int) -> _Ledger:
        value = self._ledgers[generation].get(bytes(4)) or b""
        per_cpu = list(_LEDGER.iter_unpack(value))
        return _Ledger(generation, *(sum(column) for column in list(zip(*per_cpu, strict=True))[1:]))

    def _reset(self, generation: int) -> None:
        """Make a generation that nobody uses ready for use."""
        cpus = self._ledgers[generation].value_size // _LEDGER.size
        self._ledgers[generation].put(bytes(4), _LEDGER.pack(generation, *[0] * 7) * cpus)
        self._heard[generation] = self._forgotten[generation] = 0

    def _fit(self, generation: int) -> None:
        """Give a generation at rest a map of the size that is wanted.

        Before kernel 5.10 only one of equal size is taken: the old one stays, and what it has no room for is
        counted as lost.
        """
        if self._wanted == self._room[generation]:
            return
        name = f"counts_{generation}"
        fresh = bpf.Map.hash(name, KEY_BYTES, HITS_BYTES, self._wanted)
        try:
            self._loaded.maps["counts"].put(generation.to_bytes(4, "little"), fresh.fd.to_bytes(4, "little"))
        except OSError as error:
            os.close(fresh.fd)
            if error.errno != EINVAL:
                raise
            self._wanted = self._room[generation]
            return
        self._loaded.replace(name, fresh)
        self._counts[generation], self._room[generation] = fresh, self._wanted

    def _losses(self, ledger: _Ledger, hits: int) -> list[Loss]:
        losses = Losses()
        losses.count(KERNEL_RING_FULL, hits=ledger.ring_full)
        losses.count(KERNEL_MAP_FULL, hits=ledger.map_full)
        losses.count(TEXT_LOST, hits=ledger.text_lost)
        losses.count(FORK_TABLE_FULL, hits=ledger.forks_full)
        losses.count(PROGRAM_TABLE_FULL, hits=ledger.programs_full + self._unfollowed)
        self._unfollowed = 0
        losses.count(KERNEL_RACE, hits=ledger.counted - hits - ledger.ring_full - ledger.map_full)
        return losses.take()


def _parse(record: bytes) -> tuple[int, bytes, Seen]:
    """A record of the C text as generation, key and facts."""
    key, since_boot, pid, ppid, uid, length, kept, path, status, event, generation = _RECORD.unpack_from(
        record
    )
    text = record[_RECORD.size : _RECORD.size + kept]
    executable = record[_RECORD.size + kept : _RECORD.size + kept + path].rstrip(b"\0")
    at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot / 1e9
    if _EVENTS[event] == "EXIT":
        return generation, key, Seen("EXIT", at, pid, ppid, uid, b"", 0, text.rstrip(b"\0"), status)
    return generation, key, Seen(_EVENTS[event], at, pid, ppid, uid, text, length, executable)
