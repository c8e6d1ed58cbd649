"""The netlink process connector: the kernel tells each fork, exec and exit; /proc tells what was executed.

The fallback where eBPF is not available. By the time a message is read the process may be gone, and its
command line with it; that is counted. Needs CAP_NET_ADMIN and the initial process namespace.

Format: include/uapi/linux/{netlink,connector,cn_proc}.h. A message is `nlmsghdr`, `cn_msg`, `proc_event`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple

from vedette.agent.losses import (
    FORK_TABLE_FULL,
    MALFORMED,
    PROGRAM_TABLE_FULL,
    SOCKET_OVERRUN,
    TEXT_LOST,
)
from vedette.agent.sources import Unavailable
from vedette.agent.sources.process import Seen
from vedette.agent.sources.procfs import (
    PROC,
    read_arguments,
    read_executable,
    read_parent_and_user,
    running_programs,
)

NETLINK_CONNECTOR = 11
CN_IDX_PROC = CN_VAL_PROC = 1
PROC_CN_MCAST_LISTEN = 1
NLMSG_DONE = 3
EVENT_NONE, EVENT_FORK, EVENT_EXEC, EVENT_EXIT = 0x0, 0x1, 0x2, 0x80000000

RECEIVE_BUFFER = 1 << 20
"""Bytes that the kernel queues for us: it accounts about 1 KiB for a message, so a burst of some 1,000."""

SO_RCVBUFFORCE = 33
"""Asks for more than net.core.rmem_max, as CAP_NET_ADMIN may. The socket module lacks the name."""

MESSAGE_MAX = 1024
"""Bytes of one datagram that are read; the kernel's are 76."""

BURST = 256
"""Messages handled in one call, so that other work gets its turn during a storm."""

FORKS_MAX = 1024
"""Children between fork and exec that are remembered."""

PROGRAMS_MAX = 4096
"""Processes whose executable is remembered until they end, where that is counted: some 0.5 MB."""

CORE_DUMPED = 0x80
"""Flag in the status of an end. Not every kernel and limit sets it, so it tells no two ends apart."""

SETTLED = 5.0
"""Seconds after which a child that has executed nothing counts as one that never will."""

ACKNOWLEDGED_WITHIN = 0.5
"""Seconds for the kernel to answer the wish to listen: it does at once, or never (in a namespace)."""

_NLMSG = Struct("=IHHII")
_CN_MSG = Struct("=IIIIHH")
_EVENT = Struct("=IIQ")
_PIDS = Struct("=4i")
_WORD = Struct("=I")
_BODY = _NLMSG.size + _CN_MSG.size


class ProcEvent(NamedTuple):
    """One message. sequence: counts the messages made on `cpu`. at: monotonic nanoseconds.

    pids: for a fork parent's thread and process, child's thread and process; else thread, process and
    what belongs to the event. For the acknowledgement (EVENT_NONE) the first is an errno.
    """

    sequence: int
    what: int
    cpu: int
    at: int
    pids: tuple[int, int, int, int]


def parse(datagram: bytes) -> Iterator[ProcEvent]:
    """The events of a datagram. Raises ValueError if it is not what the kernel's process connector sends."""
    position = 0
    while position < len(datagram):
        if len(datagram) - position < _BODY + _EVENT.size:
            raise ValueError("shorter than its headers")
        length = _NLMSG.unpack_from(datagram, position)[0]
        if not _BODY + _EVENT.size <= length <= len(datagram) - position:
            raise ValueError(f"length {length} in {len(datagram) - position} bytes")
        idx, val, sequence, _, size, _ = _CN_MSG.unpack_from(datagram, position + _NLMSG.size)
        if (idx, val) != (CN_IDX_PROC, CN_VAL_PROC):
            raise ValueError(f"connector {idx}.{val}")
        if not _EVENT.size <= size <= length - _BODY:
            raise ValueError(f"event of {size} bytes in {length}")
        what, cpu, at = _EVENT.unpack_from(datagram, position + _BODY)
        tail = datagram[position + _BODY + _EVENT.size : position + _BODY + size]
        yield ProcEvent(sequence, what, cpu, at, _PIDS.unpack(tail[: _PIDS.size].ljust(_PIDS.size, b"\0")))
        position += (length + 3) & ~3


def listen_request() -> bytes:
    """The message that asks for process events."""
    operation = _WORD.pack(PROC_CN_MCAST_LISTEN)
    connector = _CN_MSG.pack(CN_IDX_PROC, CN_VAL_PROC, 0, 0, len(operation), 0)
    return _NLMSG.pack(_BODY + len(operation), NLMSG_DONE, 0, 0, 0) + connector + operation


class ProcConnector:
    """Process events from the kernel, from `begin` to `close`. Raises Unavailable.

    on_seen: called with each process. on_loss: called with a reason of `agent.losses` and how many.
    exits: tell the ends of processes, too. By then /proc no longer shows what a process ran, so it is
    remembered from its beginning.
    """

    def __init__(
        self,
        on_seen: Callable[[Seen], None],
        on_loss: Callable[[str, int], None],
        proc: str = PROC,
        *,
        exits: bool = False,
    ) -> None:
        self._on_seen = on_seen
        self._on_loss = on_loss
        self._proc = proc
        self._forks: dict[int, tuple[int | None, float]] = {}
        self._sequences: dict[int, int] = {}
        self._exits = exits
        self._programs: dict[int, bytes] = {}
        self._socket = _subscribed()

    @property
    def fd(self) -> int:
        """Readable when events wait."""
        return self._socket.fileno()

    def begin(self) -> None:
        """Count from now on: what was queued since the subscription is dropped."""
        while self._datagram() is not None:
            pass
        if self._exits:
            self._programs = running_programs(self._proc)

    def receive(self) -> bool:
        """Handle what waits, at most BURST messages; True if more may wait."""
        for _ in range(BURST):
            datagram = self._datagram()
            if datagram is None:
                return False
            self.handle(datagram)
        return True

    def handle(self, datagram: bytes) -> None:
        """Handle one datagram of the kernel."""
        try:
            events = list(parse(datagram))
        except ValueError:
            self._on_loss(MALFORMED, 1)
            return
        for event in events:
            self._check_sequence(event)
            thread, process = event.pids[:2]
            if event.what == EVENT_FORK:
                self._forked(event)
            elif event.what == EVENT_EXEC:
                self._executed(process, _unix(event.at))
            elif event.what == EVENT_EXIT and thread == process:
                self._ended(event)

    def settle(self) -> None:
        """Count the children that live on without having executed anything."""
        now = time.time()
        for child, (parent, at) in list(self._forks.items()):
            if now - at >= SETTLED:
                del self._forks[child]
                self._inherited(child, parent, at, source=child)

    def close(self) -> None:
        """Give the subscription up."""
        self._socket.close()

    def _datagram(self) -> bytes | None:
        """The next datagram that the kernel sent; None if there is none."""
        while True:
            try:
                datagram, sender = self._socket.recvfrom(MESSAGE_MAX)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._resynchronise()
                continue
            if sender[0] == 0:  # others may send to a netlink socket, too
                return datagram

    def _resynchronise(self) -> None:
        """Messages were lost; which, the sequence numbers tell. The fate of the children is unknown now."""
        self._on_loss(SOCKET_OVERRUN, len(self._forks))
        self._forks.clear()
        if self._exits:
            self._programs = running_programs(self._proc)

    def _check_sequence(self, event: ProcEvent) -> None:
        if event.what == EVENT_NONE:  # an acknowledgement, of any listener's wish
            return
        missing = (event.sequence - self._sequences.get(event.cpu, event.sequence)) & 0xFFFFFFFF
        self._sequences[event.cpu] = event.sequence + 1
        if missing < 1 << 31:
            self._on_loss(SOCKET_OVERRUN, missing)

    def _forked(self, event: ProcEvent) -> None:
        _, parent, thread, process = event.pids
        if thread != process:
            return
        if parent in self._programs:  # not for kernel threads
            self._follow(process, self._programs[parent])
        if len(self._forks) >= FORKS_MAX:
            self._on_loss(FORK_TABLE_FULL, 1)
            return
        self._forks[process] = parent, _unix(event.at)

    def _executed(self, process: int, at: float) -> None:
        self._forks.pop(process, None)
        for child, (parent, since) in self._forks.items():
            if parent == process:  # it no longer shows the command line that this child inherited
                self._forks[child] = None, since
        arguments = read_arguments(process, self._proc)
        status = read_parent_and_user(process, self._proc)
        if arguments is None or status is None:
            self._on_loss(TEXT_LOST, 1)
            return
        executable = read_executable(process, self._proc)
        if self._exits:
            self._follow(process, executable)
        self._on_seen(Seen("EXEC", at, process, *status, *arguments, executable))

    def _follow(self, process: int, executable: bytes) -> None:
        if len(self._programs) >= PROGRAMS_MAX and process not in self._programs:
            self._on_loss(PROGRAM_TABLE_FULL, 1)
            return
        self._programs[process] = executable

    def _ended(self, event: ProcEvent) -> None:
        _, process, status, _ = event.pids
        if process in self._forks:
            parent, at = self._forks.pop(process)
            self._inherited(process, parent, at, source=parent)
        executable = self._programs.pop(process, None)
        if executable is not None:
            parent, user = read_parent_and_user(process, self._proc) or (0, 0)
            status &= ~CORE_DUMPED & 0xFFFF
            self._on_seen(Seen("EXIT", _unix(event.at), process, parent, user, b"", 0, executable, status))

    def _inherited(self, child: int, parent: int | None, at: float, source: int | None) -> None:
        """Count a child under the command line that `source` shows: itself, or its parent if it has ended."""
        arguments = read_arguments(source, self._proc) if source else None
        status = read_parent_and_user(source, self._proc) if source else None
        if arguments is None or status is None:
            self._on_loss(TEXT_LOST, 1)
            return
        self._on_seen(Seen("FORK", at, child, parent or status[0], status[1], *arguments))


def _unix(monotonic: int) -> float:
    return time.time() - time.monotonic() + monotonic / 1e9


def _subscribed() -> socket.socket:
    """A socket that receives process events. Raises Unavailable."""
    try:
        connector = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            NETLINK_CONNECTOR,
        )
    except OSError as error:
        raise Unavailable(
            f"no netlink connector: {os.strerror(error.errno or 0)}",
            remedy="run a kernel with CONFIG_CONNECTOR=y",
        ) from None
    try:
        connector.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        connector.bind((0, CN_IDX_PROC))
        connector.send(listen_request())
        _await_acknowledgement(connector)
    except OSError as error:
        connector.close()
        raise Unavailable(
            f"the process connector refused: {os.strerror(error.errno or 0)}",
            remedy="grant CAP_NET_ADMIN, outside of containers and namespaces",
        ) from None
    except Unavailable:
        connector.close()
        raise
    return connector


def _await_acknowledgement(connector: socket.socket) -> None:
    """The kernel confirms a wish to listen, or is silent to a process of another namespace."""
    deadline = time.monotonic() + ACKNOWLEDGED_WITHIN
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([connector], [], [], left)[0]:
            break
        datagram, sender = connector.recvfrom(MESSAGE_MAX)
        if sender[0] == 0 and any(event.what == EVENT_NONE for event in parse(datagram)):
            return
    raise Unavailable(
        "the process connector does not answer",
        remedy="run in the initial process namespace, on a kernel with CONFIG_PROC_EVENTS=y",
    )
