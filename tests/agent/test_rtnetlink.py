"""The rtnetlink parser against hostile bytes and against the real kernel."""

import ipaddress
import os
import select
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support import PATIENCE_S
from vedette.agent.sources import Overrun, rtnetlink
from vedette.agent.sources.netlink import attributes, messages
from vedette.agent.sources.rtnetlink import LinkWatch, addresses, links, parse_address, parse_link

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="interfaces are made by root")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute as the kernel lays it out."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, payload: bytes) -> bytes:
    """One message as the kernel lays it out."""
    return struct.pack("=IHHII", 16 + len(payload), kind, 0, 0, 0) + payload + bytes(-len(payload) % 4)


LINK = struct.pack("=BxHiII", 0, 1, 7, 0x1_0043, 0)
VLAN = LINK + b"".join(
    [
        attribute(3, b"eth0.12\0"),
        attribute(1, bytes.fromhex("02fc00000001")),
        attribute(5, struct.pack("=I", 2)),
        attribute(33, b"\1"),
        attribute(18 | 0x8000, attribute(1, b"vlan\0") + attribute(2, attribute(1, struct.pack("=H", 12)))),
    ]
)


def test_a_link_is_parsed_with_all_that_is_asked_of_it():
    """Name, kind, carrier, hardware address, parent and VLAN come out of one message."""
    ((kind, payload),) = messages(message(16, VLAN))
    link = parse_link(payload)
    assert kind == 16
    assert link
    assert (link.index, link.name, link.kind, link.device_type) == (7, "eth0.12", "vlan", 1)
    assert (link.mac, link.parent, link.vlan) == ("02:fc:00:00:00:01", 2, 12)
    assert link.up
    assert link.connected
    assert link.carrier


@given(st.binary(max_size=300))
@example(message(16, VLAN)[:-3])
@example(struct.pack("=IHHII", 0, 16, 0, 0, 0))
@example(struct.pack("=IHHII", 2**32 - 1, 16, 0, 0, 0))
def test_hostile_datagrams_end_the_parsing_and_nothing_else(data):
    """Whatever the bytes, the parser ends, and never yields more than it was given."""
    taken = 0
    for _kind, payload in messages(data):
        taken += 16 + len(payload)
        parse_link(payload)
        parse_address(payload)
    assert taken <= len(data)


@given(st.binary(max_size=200))
@example(struct.pack("=HH", 0, 1))
@example(struct.pack("=HH", 3, 1))
def test_hostile_attributes_end_the_parsing_and_nothing_else(data):
    """Attribute lengths that lie are not believed."""
    assert sum(4 + len(value) for value in attributes(memoryview(data)).values()) <= len(data)


@given(st.binary(max_size=64), st.sampled_from([LINK, VLAN]), st.integers(0, 200))
def test_a_damaged_link_is_a_link_or_nothing(noise, whole, cut):
    """Bytes changed or missing in a real message never raise."""
    parse_link(memoryview(whole[:cut] + noise))


def test_links_and_addresses_agree_with_the_machine():
    """The dump names the interfaces that /sys names, and loopback with its addresses."""
    by_name = {link.name: link for link in links().values()}
    assert {"lo"} <= set(by_name) <= set(os.listdir("/sys/class/net"))
    loopback = by_name["lo"]
    assert loopback.device_type == rtnetlink.ARPHRD_LOOPBACK
    assert loopback.index == socket.if_nametoindex("lo")
    assert (Path("/sys/class/net/lo/address").read_text().strip()) == loopback.mac
    own = {(address.address, address.prefix) for address in addresses() if address.index == loopback.index}
    assert (ipaddress.ip_address("127.0.0.1"), 8) in own


def wait_for(watch: LinkWatch) -> None:
    """Wait until the kernel has told something."""
    assert select.select([watch], [], [], PATIENCE_S)[0]


@pytest.mark.root
@needs_root
def test_changes_of_a_veth_pair_are_told(network_namespace):
    """Making, switching on, losing the carrier and removing arrive as they happen."""
    watch = LinkWatch()
    subprocess.run(["ip", "link", "add", "vd0", "type", "veth", "peer", "name", "vd1"], check=True)
    wait_for(watch)
    made = {change.link.name: change.link for change in watch.changes()}
    assert {"vd0", "vd1"} <= set(made)
    assert made["vd0"].kind == "veth"
    assert not made["vd0"].connected
    subprocess.run(["ip", "link", "set", "vd0", "up"], check=True)
    subprocess.run(["ip", "link", "set", "vd1", "up"], check=True)
    wait_for(watch)
    last = {change.link.name: change.link for change in watch.changes()}
    assert last["vd0"].connected
    assert last["vd1"].connected
    subprocess.run(["ip", "link", "del", "vd0"], check=True)
    wait_for(watch)
    gone = {change.link.name for change in watch.changes() if change.gone}
    assert gone == {"vd0", "vd1"}
    watch.close()


@pytest.mark.root
@needs_root
def test_more_changes_than_the_kernel_keeps_are_an_overrun(network_namespace):
    """Nobody reads while an interface flips: the loss is told, and the socket works on."""
    subprocess.run(["ip", "link", "add", "vd0", "type", "veth", "peer", "name", "vd1"], check=True)
    watch = LinkWatch()
    flips = "link set vd0 up\nlink set vd1 up\nlink set vd0 down\nlink set vd1 down\n" * 600
    subprocess.run(["ip", "-batch", "-"], input=flips, text=True, check=True)
    with pytest.raises(Overrun):
        list(watch.changes())
    list(watch.changes())
    assert not links()[socket.if_nametoindex("vd0")].up
    watch.close()


@pytest.mark.root
@needs_root
def test_a_process_cannot_forge_a_change(network_namespace):
    """A message that a process sends to the socket's port is not taken for the kernel's."""
    watch = LinkWatch()
    port = watch._socket.getsockname()[0]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as forger:
        forger.bind((0, 0))
        forger.sendto(message(16, VLAN), (port, 0))
    wait_for(watch)
    assert list(watch.changes()) == []
    watch.close()
