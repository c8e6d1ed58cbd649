"""The ports that a device listens on, from the real kernel and from both of its interfaces."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.collectors.listening_ports import ListeningPortsCollector
from vedette.agent.sources import Unavailable, proc_net, sock_diag
from vedette.agent.sources.sock_diag import Listener
from vedette.agent.sources.socket_owners import owners
from vedette.wire.events import ListeningPort, ListeningPorts
from vedette.wire.twin import Settings

KINDS = {
    ("TCP", "127.0.0.1"): (socket.AF_INET, socket.SOCK_STREAM),
    ("UDP", "127.0.0.1"): (socket.AF_INET, socket.SOCK_DGRAM),
    ("TCP", "::1"): (socket.AF_INET6, socket.SOCK_STREAM),
    ("UDP", "::1"): (socket.AF_INET6, socket.SOCK_DGRAM),
}


@pytest.fixture
def sockets() -> Iterator[dict[tuple[str, str], socket.socket]]:
    """One socket of each kind that waits for peers on the loopback interface."""
    with ExitStack() as stack:
        opened = {}
        for (protocol, address), (family, kind) in KINDS.items():
            waiting = stack.enter_context(socket.socket(family, kind))
            waiting.bind((address, 0))
            if protocol == "TCP":
                waiting.listen()
            opened[protocol, address] = waiting
        yield opened


@pytest.mark.parametrize("read", [sock_diag.listeners, lambda: proc_net.listeners(Path("/"))])
def test_every_listening_socket_is_seen(read, sockets: dict[tuple[str, str], socket.socket]):
    """TCP and UDP, IPv4 and IPv6, with port, owner and inode, by sock_diag and by /proc/net."""
    seen = set(read())
    for (protocol, address), waiting in sockets.items():
        inode = os.fstat(waiting.fileno()).st_ino
        assert Listener(protocol, address, waiting.getsockname()[1], os.getuid(), inode) in seen


@pytest.mark.parametrize("read", [sock_diag.listeners, lambda: proc_net.listeners(Path("/"))])
def test_connections_are_not_listeners(read, sockets: dict[tuple[str, str], socket.socket]):
    """Neither end of a TCP connection, nor a UDP socket with a peer, is told."""
    server = sockets["TCP", "127.0.0.1"]
    with (
        socket.create_connection(server.getsockname()) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        peer.connect(sockets["UDP", "127.0.0.1"].getsockname())
        seen = [(found.protocol, found.port) for found in read()]
        assert seen.count(("TCP", server.getsockname()[1])) == 1
        assert ("TCP", client.getsockname()[1]) not in seen
        assert ("UDP", peer.getsockname()[1]) not in seen


def test_a_socket_is_traced_to_its_process(sockets: dict[tuple[str, str], socket.socket]):
    """Process id and program of the test itself."""
    inode = os.fstat(sockets["TCP", "::1"].fileno()).st_ino
    assert owners(Path("/"), {inode}) == {inode: (os.getpid(), os.readlink("/proc/self/exe"))}


async def told(collector: ListeningPortsCollector) -> list[ListeningPort]:
    """The ports in the snapshot of one cycle; empty if nothing is told."""
    collected = await collector.collect()
    assert collected.losses == []
    payloads = [event.payload for event in collected.events]
    assert all(isinstance(payload, ListeningPorts) for payload in payloads)
    return [port for payload in payloads for port in payload.ports]


async def test_a_snapshot_names_program_and_user(
    tmp_path: Path, sockets: dict[tuple[str, str], socket.socket]
):
    """The real chain: kernel, /proc, passwd."""
    collector = ListeningPortsCollector(tmp_path)
    await collector.start(Settings())
    assert collector.source == "sock_diag"
    port = sockets["TCP", "127.0.0.1"].getsockname()[1]
    (mine,) = [
        entry for entry in await told(collector) if (entry.protocol, entry.local_port) == ("TCP", port)
    ]
    assert mine.process_id == os.getpid()
    assert mine.executable == os.readlink("/proc/self/exe")
    assert mine.user_id == os.getuid()


async def test_a_restarted_service_is_no_change(tmp_path: Path):
    """The same program on the same port under another process id is not told again."""
    proc = tmp_path / "root/proc"
    for pid in ("100", "200"):
        (proc / pid / "fd").mkdir(parents=True)
        (proc / pid / "exe").symlink_to("/usr/sbin/sshd")
    (proc / "100/fd/3").symlink_to("socket:[7]")
    collector = ListeningPortsCollector(
        tmp_path, root=tmp_path / "root", sockets=lambda: [Listener("TCP", "0.0.0.0", 22, 0, 7)]
    )
    await collector.start(Settings())
    (port,) = await told(collector)
    assert (port.process_id, port.executable) == (100, "/usr/sbin/sshd")
    (proc / "100/fd/3").unlink()
    (proc / "200/fd/3").symlink_to("socket:[7]")
    assert await told(collector) == []


async def test_workers_on_one_port_are_one_entry(tmp_path: Path):
    """SO_REUSEPORT gives every worker a socket of its own."""
    workers = [Listener("TCP", "0.0.0.0", 80, 33, inode) for inode in (1, 2, 3, 4)]
    collector = ListeningPortsCollector(tmp_path, root=tmp_path, sockets=lambda: workers)
    await collector.start(Settings())
    assert len(await told(collector)) == 1


async def test_without_sock_diag_the_ports_are_read_from_proc(tmp_path: Path):
    """A router's kernel without inet_diag; the source says so."""
    tcp = tmp_path / "proc/net/tcp"
    tcp.parent.mkdir(parents=True)
    tcp.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   453        0 8812 1\n"
        "   1: 0100007F:D431 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 8813 1\n"
        "garbage\n"
    )

    def refused() -> list[Listener]:
        raise Unavailable("sock_diag netlink, TCP: No such file or directory")

    collector = ListeningPortsCollector(tmp_path, root=tmp_path, sockets=refused)
    await collector.start(Settings())
    assert collector.source.startswith("/proc/net (sock_diag netlink")
    (port,) = await told(collector)
    assert (port.local_address, port.local_port, port.user_id) == ("127.0.0.1", 53, 453)


@given(st.binary(max_size=300))
def test_any_line_of_proc_net_is_survived(tmp_path_factory: pytest.TempPathFactory, raw: bytes):
    """What is not a socket is passed over."""
    root = tmp_path_factory.mktemp("root")
    (root / "proc/net").mkdir(parents=True)
    (root / "proc/net/udp").write_bytes(raw)
    assert list(proc_net.listeners(root)) == []
