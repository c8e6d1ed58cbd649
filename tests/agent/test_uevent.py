"""The uevent parser and socket: only the kernel is believed."""

import os
import select
import socket
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.agent.sources import Overrun
from vedette.agent.sources.uevent import NETLINK_KOBJECT_UEVENT, UeventSocket, parse_uevent

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="writing to /sys needs root")
NULL = "/devices/virtual/mem/null"
ADD = (
    b"add@/devices/pci0/usb1/1-1\0ACTION=add\0DEVPATH=/devices/pci0/usb1/1-1\0SUBSYSTEM=usb\0"
    b"DEVTYPE=usb_device\0PRODUCT=46d/c31c/6400\0TYPE=0/0/0\0BUSNUM=001\0DEVNUM=004\0SEQNUM=99\0"
)


def read_until(uevents: UeventSocket, count: int) -> list:
    """Uevents of the null device, until there are so many."""
    found: list = []
    while len(found) < count:
        assert select.select([uevents], [], [], 10)[0], found
        found += [uevent for uevent in uevents.uevents() if uevent.path == NULL]
    return found


def ask_for(action: str) -> None:
    """Have the kernel send a uevent of the null device."""
    Path(f"/sys{NULL}/uevent").write_text(action)


def test_a_message_becomes_action_path_and_keys():
    """The keys are what stands behind the head."""
    uevent = parse_uevent(ADD)
    assert uevent
    assert (uevent.action, uevent.path) == ("add", "/devices/pci0/usb1/1-1")
    assert uevent.keys["TYPE"] == "0/0/0"
    assert not uevent.requested


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"libudev\0\xfe\xed\xca\xfe",
        ADD.replace(b"add@", b"add"),
        ADD.replace(b"ACTION=add", b"ACTION=remove"),
        ADD.replace(b"DEVPATH=/devices/pci0/usb1/1-1", b"DEVPATH=/devices/pci0/usb1/1-2"),
    ],
)
def test_a_message_that_contradicts_itself_is_none(data):
    """Head and keys must say the same."""
    assert parse_uevent(data) is None


@given(st.binary(max_size=400))
@example(ADD + b"=\0" * 100)
@example(ADD[:40] + b"\xff\xfe\0" + ADD[40:])
def test_hostile_bytes_are_a_message_or_nothing(data):
    """Whatever the bytes, parsing ends, with a bounded number of keys."""
    for candidate in (data, ADD + data):
        uevent = parse_uevent(candidate)
        assert uevent is None or len(uevent.keys) <= 64


@pytest.mark.root
@needs_root
def test_the_kernel_is_heard():
    """A uevent that the kernel sends arrives; that somebody asked for it shows."""
    uevents = UeventSocket()
    ask_for("change")
    (uevent,) = read_until(uevents, 1)
    uevents.close()
    assert uevent.action == "change"
    assert uevent.requested


@pytest.mark.root
@needs_root
def test_a_process_cannot_forge_a_uevent():
    """What root sends to the socket, or to the whole group, is dropped; the kernel's own next is not."""
    uevents = UeventSocket()
    forged = f"add@{NULL}\0ACTION=add\0DEVPATH={NULL}\0SUBSYSTEM=vedette-test\0".encode()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as forger:
        forger.bind((0, 0))
        forger.sendto(forged, (uevents._socket.getsockname()[0], 0))
        forger.sendto(forged, (0, 1))
    ask_for("change")
    assert [uevent.action for uevent in read_until(uevents, 1)] == ["change"]
    uevents.close()


@pytest.mark.root
@needs_root
def test_more_uevents_than_the_kernel_keeps_are_an_overrun():
    """Nobody reads: the loss is told, and the socket works on."""
    uevents = UeventSocket()
    for _ in range(2_000):
        ask_for("change")
    with pytest.raises(Overrun):
        list(uevents.uevents())
    list(uevents.uevents())
    ask_for("change")
    assert read_until(uevents, 1)
    uevents.close()
