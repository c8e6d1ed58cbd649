"""The ports on which the device waits for peers, with the program behind each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import time

from msgspec.structs import replace

from vedette.agent.collectors.snapshot import Part, SnapshotCollector
from vedette.agent.losses import Losses
from vedette.agent.sources import Unavailable, proc_net, sock_diag
from vedette.agent.sources.passwd import Accounts
from vedette.agent.sources.sock_diag import Listener
from vedette.agent.sources.socket_owners import owners
from vedette.wire.events import ListeningPort, ListeningPorts
from vedette.wire.twin import Priority, Settings


class ListeningPortsCollector(SnapshotCollector[ListeningPort]):
    """Listening TCP and UDP sockets, IPv4 and IPv6.

    root: where the device's /proc and /etc are. sockets: the kernel's list of listening sockets, where it
    offers it; else they are read from /proc/net.
    """

    name = "ListeningPorts"
    source = ""

    def __init__(
        self,
        state: Path,
        *,
        root: Path = Path("/"),
        sockets: Callable[[], Iterable[Listener]] = sock_diag.listeners,
        clock: Callable[[], float] = time,
    ) -> None:
        super().__init__(state, clock=clock)
        self._root = root
        self._sockets = sockets
        self._users = Accounts(root / "etc/passwd")

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.listening_ports_disabled

    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""
        return settings.listening_ports_frequency

    def full_every(self, settings: Settings) -> int:
        """Days after which the ports are told again."""
        return settings.listening_ports_full_every

    async def start(self, settings: Settings) -> None:
        """Find out which list of sockets there is."""
        await super().start(settings)
        await asyncio.to_thread(self._listening)

    def read(self, losses: Losses) -> Iterator[ListeningPort]:
        """The ports that are open now. Workers that share a port appear once."""
        sockets = self._listening()
        known = owners(self._root, {socket.inode for socket in sockets})
        for socket in sockets:
            process_id, executable = known.get(socket.inode, (0, ""))
            yield ListeningPort(
                protocol=socket.protocol,
                local_address=socket.address,
                local_port=socket.port,
                user_id=socket.user_id,
                user_name=self._users.name(socket.user_id),
                process_id=process_id,
                executable=executable,
            )

    def _listening(self) -> list[Listener]:
        try:
            found = list(self._sockets())
            self.source = "sock_diag"
        except Unavailable as reason:
            found = list(proc_net.listeners(self._root))
            self.source = f"/proc/net ({reason})"
        return found

    def lasting(self, item: ListeningPort) -> ListeningPort:
        """A restarted service listens on the same port under another process id."""
        return replace(item, process_id=0)

    def payload(self, part: Part[ListeningPort]) -> ListeningPorts:
        """The event that tells a part."""
        return ListeningPorts(snapshot_id=part.snapshot_id, part=part.number, parts=part.of, ports=part.items)
