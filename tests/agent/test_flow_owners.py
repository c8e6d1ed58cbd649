"""Whose a flow is: the one socket that can be meant, or nobody's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vedette.agent.sources.flow import ICMP, TCP, UDP, Identity, Owner
from vedette.agent.sources.flow_owners import Socket, find, matched, read_arguments
from vedette.agent.sources.sock_diag import Listener

HERE, PEER = "192.0.2.1", "198.51.100.1"


def flow(local_port: int = 80, protocol: int = TCP, local: str = HERE) -> Identity:
    return Identity(local_port, 50_000, protocol, local, PEER)


def listener(address: str, inode: int, port: int = 80, protocol: str = "TCP") -> Listener:
    return Listener(protocol, address, port, 33, inode)


OWN = Socket(7, 1000)


@pytest.mark.parametrize(
    ("accepted", "connected", "listeners", "inode"),
    [
        (True, True, [listener("0.0.0.0", 1)], 1),
        (True, True, [], 7),
        (False, True, [listener("0.0.0.0", 1)], 7),
        (False, False, [listener("0.0.0.0", 1)], None),
        (None, True, [listener("0.0.0.0", 1)], 7),
        (None, False, [listener("0.0.0.0", 1)], 1),
        (True, False, [listener("0.0.0.0", 1), listener(HERE, 2)], 2),
        (True, False, [listener("::", 1)], 1),
        (True, False, [listener("::", 1), listener("0.0.0.0", 2)], 2),
        (True, False, [listener("203.0.113.1", 1)], None),
        (True, False, [listener("0.0.0.0", 1, 81)], None),
        (True, False, [listener("0.0.0.0", 1, 80, "UDP")], None),
        (True, False, [listener("0.0.0.0", 1), listener("0.0.0.0", 2)], None),
        (None, False, [], None),
    ],
)
def test_the_socket_of_a_flow(
    accepted: bool | None, connected: bool, listeners: list[Listener], inode: int | None
):
    """The listener of what was accepted, else its own; of two that could be meant neither."""
    found = matched({flow(): accepted}, {flow(): OWN} if connected else {}, listeners)
    assert (found[flow()].inode if found else None) == inode


def test_datagrams_belong_to_the_socket_that_waits():
    """A UDP server has one socket for all its peers."""
    waiting = [listener("0.0.0.0", 1, 53, "UDP")]
    assert matched({flow(53, UDP): None}, {}, waiting)[flow(53, UDP)].inode == 1


def test_flows_without_sockets_are_not_asked_for():
    """ICMP has no ports to find a socket by."""
    assert find(Path("/"), {flow(0, ICMP): None}) == {}


def test_arguments_are_those_of_the_very_process():
    """A process id that was given to another since is not taken for the owner."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()", "marker"], stdin=subprocess.PIPE)
    started = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    same = read_arguments(Owner(child.pid, 0, started * tick + 5))
    seen_now = read_arguments(Owner(child.pid, 0))
    other = read_arguments(Owner(child.pid, 0, (started + 100) * tick))
    child.communicate(b"\n")
    assert same
    assert same == seen_now
    assert same.kept.endswith(b"input()\0marker\0")
    assert other is None
    assert read_arguments(Owner(child.pid, 0, started * tick)) is None
    assert read_arguments(Owner(None, 0)) is None
