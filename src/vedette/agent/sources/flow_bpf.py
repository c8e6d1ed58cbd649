"""Flows counted in the kernel: the user-space half of bpf/flow.bpf.c, whose opening tells the scheme.

Two ways to watch a device: tcx links, which kernels have since 6.6 and which know the sending socket; else an
AF_PACKET socket whose filter counts and takes no packet. Both are gone with their file descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from vedette.agent.losses import KERNEL_MAP_FULL, NAMES_UNTOLD, Losses
from vedette.agent.sources import Unavailable, bpf
from vedette.agent.sources.files import lines
from vedette.agent.sources.flow import Finished, Flow, Identity, Kind, Owner, Told, address_text
from vedette.agent.sources.net_devices import link_header
from vedette.agent.sources.rtnetlink import Link

OBJECT = "flow.bpf.o"

FLOWS_MAX = 16_384
"""Flows that one generation holds. Its user empties it every half minute; full, it takes 2.4 MB of kernel
memory, nearly none when empty."""

RING_BYTES = 128 * 1024
"""RING_BYTES of the C text: some 600 DNS answers of ordinary size, or 60 ClientHellos of the largest."""

WAKE_AT = RING_BYTES // 4
"""Bytes waiting at which the reader is woken. Below, nobody needs to know yet."""

TOLD_WITHIN = 1.0
"""Seconds to wait for records that a program on another CPU is just writing: it takes microseconds."""

TCX, TAP = "tcx", "packet socket"
"""The two ways for people."""

_NO_MAKERS = "makers of sockets are not seen"
_SO_ATTACH_BPF = 50
_ETH_P_ALL = 0x0003
_NO_TCX = frozenset({errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""What kernels say that lack tcx, or that want CAP_NET_ADMIN for it."""

_CONFIG = Struct("<Q")
_LEDGER = Struct("<7Q")
_KEY = Struct("<16s16s2s2sB3x")
_COUNTS = Struct("<6QQII6B2x")
_MAKER = Struct("<QIIQ240s")
_RECORD = Struct("<40sQHHB3x")
_CHUNK = 512
"""Flows that are unpacked before other work gets its turn: about 2 ms."""


class _Ledger(NamedTuple):
    generation: int
    packets: int
    map_full: int
    not_ip: int
    others: int
    told: int
    ring_full: int


class FlowCounter:
    """Counts the flows of devices, between `watch` and `unwatch`. Needs a running event loop.

    told: called with each payload that was copied. tcx: False to watch by packet sockets alone. flows: how
    many one generation holds. mounts: where to find the mount of the cgroup hierarchy. Raises Unavailable.
    """

    label = "eBPF"

    def __init__(
        self,
        told: Callable[[Told], None],
        *,
        tcx: bool = True,
        flows: int = FLOWS_MAX,
        mounts: Path = Path("/proc/self/mounts"),
    ) -> None:
        self._told = told
        self._tcx = tcx
        self.note, self._loaded = _loaded({"flows_0": flows, "flows_1": flows})
        maps = self._loaded.maps
        self._flows = maps["flows_0"], maps["flows_1"]
        self._ledgers = maps["ledger_0"], maps["ledger_1"]
        self._switch, self._sockets = maps["active"], maps["sockets"]
        self._ring = bpf.Ring(maps["ring"])
        self._heard = 0
        self._to_hear = 0
        self._active = 0
        self._links: dict[int, list[int]] = {}
        for generation in (0, 1):
            self._reset(generation)
        self._cgroup_link: int | None = None
        if not self.note:
            self.note = self._follow_sockets(mounts)
        asyncio.get_running_loop().add_reader(self._ring.fd, self.hear)

    def watch(self, link: Link) -> str:
        """Count a device's packets from now on; returns the way in which. Raises OSError, Unavailable."""
        frame = "ethernet" if link_header(link) else "bare"
        if self._tcx:
            try:
                self._links[link.index] = self._tcx_links(link.index, frame)
            except OSError as error:
                if error.errno not in _NO_TCX:
                    raise
                self._tcx = False  # this kernel will not have learnt it by the next device
            else:
                return TCX
        self._links[link.index] = [self._tap(link.name, frame)]
        return TAP

    def unwatch(self, index: int) -> None:
        """Count a device's packets no more. The device may be gone already."""
        for fd in self._links.pop(index, ()):
            os.close(fd)

    def hear(self) -> None:
        """Pass on the payloads that wait."""
        while records := self._ring.drain():
            self._heard += len(records)
            offset = _boot_offset()
            for record in records:
                self._told(_parse(record, offset))

    async def finish(self) -> Finished:
        """End the active generation and start the other.

        The update of the switch waits, in a thread, until no program uses the old generation (an RCU grace
        period, up to tens of milliseconds).
        """
        old, self._active = self._active, 1 - self._active
        await asyncio.to_thread(
            self._switch.put, bytes(4), self._ledgers[self._active].fd.to_bytes(4, "little")
        )
        ledger = self._read_ledger(old)
        self._to_hear += ledger.told
        await self._hear_all()
        flows = await self._take(old)
        losses = Losses()
        losses.count(KERNEL_MAP_FULL, hits=ledger.map_full)
        losses.count(NAMES_UNTOLD, hits=ledger.ring_full)
        self._reset(old)
        return Finished(flows, losses.take(), ledger.packets, ledger.not_ip, ledger.others)

    def close(self) -> None:
        """Leave the kernel."""
        asyncio.get_running_loop().remove_reader(self._ring.fd)
        for index in list(self._links):
            self.unwatch(index)
        if self._cgroup_link is not None:
            os.close(self._cgroup_link)
        self._ring.close()
        self._loaded.close()

    def _follow_sockets(self, mounts: Path) -> str:
        """Learn who makes sockets from now on; why not, if that cannot be had."""
        root = cgroup_root(mounts)
        if root is None:
            return f"{_NO_MAKERS}: no cgroup2 hierarchy is mounted"
        try:
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._cgroup_link = self._loaded.link("on_socket", fd, bpf.CGROUP_SOCK_CREATE)
            finally:
                os.close(fd)
        except OSError as error:
            return f"{_NO_MAKERS}: {error.strerror}"
        return ""

    def _tcx_links(self, index: int, frame: str) -> list[int]:
        links = [self._loaded.link(f"{frame}_in", index, bpf.TCX_INGRESS)]
        try:
            links.append(self._loaded.link(f"{frame}_out", index, bpf.TCX_EGRESS))
        except OSError:
            os.close(links[0])
            raise
        return links

    def _tap(self, name: str, frame: str) -> int:
        """The file descriptor of a packet socket: counting, and never readable."""
        with contextlib.ExitStack() as undo:
            try:
                tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            except PermissionError:
                raise Unavailable("CAP_NET_RAW missing", remedy="grant it to the agent") from None
            undo.callback(tap.close)
            tap.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_BPF, self._loaded.programs[f"{frame}_tap"].to_bytes(4, "little")
            )
            tap.bind((name, _ETH_P_ALL))  # only now: before, it would take packets
            undo.pop_all()
            return tap.detach()

    async def _hear_all(self) -> None:
        deadline = time.monotonic() + TOLD_WITHIN
        self.hear()
        while self._heard < self._to_hear and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
            self.hear()

    async def _take(self, generation: int) -> list[Flow]:
        flows: list[Flow] = []
        offset = _boot_offset()
        for key, value in self._flows[generation].take_all():
            flows.append(self._flow(key, value, offset))
            if len(flows) % _CHUNK == 0:
                await asyncio.sleep(0)
        flows.sort(key=lambda flow: flow.at)
        return flows

    def _flow(self, key: bytes, value: bytes, offset: float) -> Flow:
        """An entry of the C text's map, as facts."""
        first, bytes_in, bytes_out, packets_in, packets_out, cookie, started, pid, uid, *flags = (
            _COUNTS.unpack(value)
        )
        broadcast, multicast, opened_in, opened_out, _told_in, _told_out = flags
        owner = Owner(pid, uid, started) if pid else None
        return Flow(
            identity=_identity(key),
            at=offset + first / 1e9,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            packets_in=packets_in,
            packets_out=packets_out,
            owner=owner,
            arguments=self._arguments(cookie, owner) if owner else b"",
            delivery="broadcast" if broadcast else "multicast" if multicast else "",
            accepted=bool(opened_in) if opened_in != opened_out else None,
        )

    def _arguments(self, cookie: int, owner: Owner) -> bytes:
        """What is kept of the command line of the process that made a socket; empty if it was forgotten."""
        maker = self._sockets.get(cookie.to_bytes(8, "little"))
        if maker is None:
            return b""
        started, pid, uid, kept, arguments = _MAKER.unpack(maker)
        return arguments[:kept] if Owner(pid, uid, started) == owner else b""

    def _read_ledger(self, generation: int) -> _Ledger:
        value = self._ledgers[generation].get(bytes(4)) or b""
        per_cpu = list(_LEDGER.iter_unpack(value))
        return _Ledger(generation, *(sum(column) for column in list(zip(*per_cpu, strict=True))[1:]))

    def _reset(self, generation: int) -> None:
        """Make a generation that nobody uses ready for use."""
        cpus = self._ledgers[generation].value_size // _LEDGER.size
        self._ledgers[generation].put(bytes(4), _LEDGER.pack(generation, 0, 0, 0, 0, 0, 0) * cpus)


def _loaded(entries: dict[str, int]) -> tuple[str, bpf.Loaded]:
    """The object; without the program that follows sockets where the kernel refuses it, and why."""
    constants = _CONFIG.pack(WAKE_AT)
    try:
        return "", bpf.load(OBJECT, constants=constants, entries=entries)
    except Unavailable as why:  # a kernel without CONFIG_CGROUP_BPF counts as well as others
        rest = bpf.load(OBJECT, constants=constants, entries=entries, skipped={"on_socket"})
        return f"{_NO_MAKERS}: {why.reason}", rest


def cgroup_root(mounts: Path) -> str | None:
    """Where the cgroup2 hierarchy is mounted, if it is: not everywhere at /sys/fs/cgroup."""
    for line in lines(mounts):
        fields = line.split(b" ")
        if len(fields) > 2 and fields[2] == b"cgroup2":
            return fields[1].decode("unicode_escape")
    return None


def _boot_offset() -> float:
    """Unix seconds at boot, by the clock as it is set now."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _identity(key: bytes) -> Identity:
    local, remote, local_port, remote_port, protocol = _KEY.unpack(key)
    return Identity(
        int.from_bytes(local_port, "big"),
        int.from_bytes(remote_port, "big"),
        protocol,
        address_text(local),
        address_text(remote),
    )


def _parse(record: bytes, offset: float) -> Told:
    """A record of the C text as facts."""
    key, at, kind, length, _out = _RECORD.unpack_from(record)
    data = record[_RECORD.size : _RECORD.size + length]
    return Told(_identity(key), offset + at / 1e9, Kind(kind), data)
