"""Peripherals: USB from uevents in the kernel's form, Ethernet from the real kernel."""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from vedette.agent.collectors.peripheral import EthernetLinks, PeripheralCollector, UsbDevices
from vedette.agent.losses import SOCKET_OVERRUN
from vedette.agent.sources.ethernet import bus_number
from vedette.agent.sources.rtnetlink import Link, LinkChange
from vedette.agent.sources.uevent import Uevent, parse_uevent
from vedette.agent.sources.usb import connected
from vedette.wire.events import Peripheral
from vedette.wire.twin import Priority, Settings, settings_from

UEVENTS = Path(__file__).parent.parent / "fixtures" / "uevents"
HUB = "devices/pci0000:00/0000:00:14.0/usb1"
VIRTUAL = settings_from({"Peripheral_VirtualInterfaces": True})


def sequence(name: str) -> list[Uevent]:
    """The uevents of a file, in the kernel's form: a line a key, a blank line between two."""
    found = []
    for text in (UEVENTS / f"{name}.txt").read_text().split("\n\n"):
        uevent = parse_uevent(text.strip().replace("\n", "\0").encode() + b"\0")
        assert uevent, text
        found.append(uevent)
    return found


def sysfs(root: Path, place: str, **attributes: str) -> Path:
    """A directory of /sys with some attributes, listed on the USB bus."""
    path = root / "sys" / place
    path.mkdir(parents=True)
    for name, value in attributes.items():
        (path / name).write_text(value + "\n")
    listed = root / "sys/bus/usb/devices"
    listed.mkdir(parents=True, exist_ok=True)
    (listed / path.name).symlink_to(os.path.relpath(path, listed))
    return path


def keyboard(root: Path, number: int = 4) -> Path:
    """The keyboard of the files as sysfs shows it."""
    path = sysfs(
        root,
        f"{HUB}/1-2",
        uevent=f"DEVTYPE=usb_device\nPRODUCT=46d/c31c/6400\nTYPE=0/0/0\nBUSNUM=001\nDEVNUM={number:03}",
        manufacturer="Logitech",
        product="USB Keyboard",
    )
    for interface, triple in (("1.0", "3/1/1"), ("1.1", "3/0/0")):
        uevent = f"DEVTYPE=usb_interface\nPRODUCT=46d/c31c/6400\nTYPE=0/0/0\nINTERFACE={triple}"
        sysfs(root, f"{HUB}/1-2/1-2:{interface}", uevent=uevent)
    return path


class Usb:
    """USB devices whose events are kept."""

    def __init__(self, root: Path) -> None:
        self.told: list[Peripheral] = []
        self.devices = UsbDevices(root, lambda event, seen: self.told.append(event), lambda: 1.0)
        self.devices.take_stock()

    def take_in(self, *names: str, lost: bool = False) -> list[Peripheral]:
        """What is told when the messages of these files arrive."""
        self.told.clear()
        self.devices.take_in([uevent for name in names for uevent in sequence(name)], lost)
        return list(self.told)


def test_a_usb_device_is_told_once_with_its_interfaces_and_names(tmp_path):
    """Class 0: the interfaces say what it is; the names are those that sysfs has."""
    usb = Usb(tmp_path)
    keyboard(tmp_path)
    expected = Peripheral(
        action_type="Connection",
        peripheral_type="USB",
        bus_number=1,
        kernel_device_number=4,
        device_class=0,
        device_subclass=0,
        device_protocol=0,
        interface_class=3,
        interface_subclass=1,
        interface_protocol=1,
        interfaces=("3/1/1", "3/0/0"),
        vendor_id="046d",
        product_id="c31c",
        vendor_name="Logitech",
        product_name="USB Keyboard",
    )
    assert usb.take_in("keyboard_plugged") == [expected]
    (gone,) = usb.take_in("keyboard_unplugged")
    assert gone.action_type == "Disconnection"
    assert (gone.vendor_name, gone.interfaces) == ("Logitech", ("3/1/1", "3/0/0"))


def test_a_usb_device_with_a_class_of_its_own_needs_no_interface(tmp_path):
    """A hub says what it is; its interface's class is left null."""
    (event,) = Usb(tmp_path).take_in("hub_plugged")
    assert (event.device_class, event.device_subclass, event.device_protocol) == (9, 0, 1)
    assert event.interface_class is None
    assert event.interfaces == ()


def test_what_is_plugged_in_at_the_start_is_no_connection(tmp_path):
    """Its add, still in the queue or asked for again, tells nothing; its removal does."""
    keyboard(tmp_path)
    usb = Usb(tmp_path)
    assert usb.take_in("keyboard_plugged") == []
    (gone,) = usb.take_in("keyboard_unplugged")
    assert (gone.action_type, gone.product_name) == ("Disconnection", "USB Keyboard")


def test_a_device_without_interfaces_is_told_when_they_are_overdue(tmp_path):
    """A device that nobody has authorised shows none; it is connected all the same."""
    usb = Usb(tmp_path)
    usb.devices.take_in(sequence("keyboard_plugged")[:1], lost=False)
    assert usb.told == []
    (due,) = usb.devices.waiting()
    usb.devices.tell_waiting(due)
    (event,) = usb.told
    assert (event.action_type, event.device_class, event.interface_class) == ("Connection", 0, None)
    assert usb.devices.waiting() == []


def test_a_uevent_that_a_process_asked_for_is_no_change(tmp_path):
    """Somebody wrote to /sys/…/uevent: the kernel marks that."""
    usb = Usb(tmp_path)
    for uevent in sequence("hub_plugged"):
        asked = Uevent(uevent.action, uevent.path, {**uevent.keys, "SYNTH_UUID": "0"})
        usb.devices.take_in([asked], lost=False)
    assert usb.told == []


def test_after_lost_uevents_the_difference_is_told(tmp_path):
    """What sysfs shows now is held against what was known: another number is another device."""
    first, second = tmp_path / "1", tmp_path / "2"
    keyboard(first, number=4)
    keyboard(second, number=9)
    told: list[Peripheral] = []
    root = tmp_path / "root"
    root.symlink_to(first)
    devices = UsbDevices(root, lambda event, seen: told.append(event), time.time)
    devices.take_stock()
    devices.take_in([], lost=True)
    assert told == []
    root.unlink()
    root.symlink_to(second)
    devices.take_in([], lost=True)
    assert [(event.action_type, event.kernel_device_number) for event in told] == [
        ("Disconnection", 4),
        ("Connection", 9),
    ]
    root.unlink()
    devices.take_in([], lost=True)
    assert told[-1].action_type == "Disconnection"


@pytest.mark.parametrize("damage", ["PRODUCT=46d/c31c/6400", "TYPE=0/0/0", "DEVNUM=004"])
def test_malformed_uevents_are_left_out(tmp_path, damage):
    """A key that is missing or wrong makes no event and no fault."""
    usb = Usb(tmp_path)
    for replacement in ("X=", damage.split("=")[0] + "=x/y"):
        text = (UEVENTS / "keyboard_plugged.txt").read_text().split("\n\n")[0].strip()
        data = text.replace(damage, replacement).replace("\n", "\0").encode()
        uevent = parse_uevent(data)
        assert uevent
        usb.devices.take_in([uevent], lost=False)
    usb.devices.tell_waiting(float("inf"))
    assert usb.told == []


def test_a_machine_without_usb_has_no_devices(tmp_path):
    """No /sys/bus/usb is an empty list."""
    assert connected(tmp_path) == {}


def link(**changes: object) -> Link:
    """An Ethernet interface of hardware, without a carrier."""
    values = {
        "index": 7,
        "name": "eth7",
        "device_type": 1,
        "kind": "",
        "flags": 3,
        "carrier": False,
        "mac": "02:00:00:00:00:07",
        "parent": 0,
        "master": 0,
        "vlan": None,
    }
    return Link(**{**values, **changes})


CARRIER = 0x1_0003


class Ethernet:
    """Ethernet links whose events are kept."""

    def __init__(self, root: Path, *stock: Link) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.buses: list[int | None] = []
        self.links = EthernetLinks(root, self._tell, lambda: 1.0)
        self.links.take_stock({one.index: one for one in stock})

    def _tell(self, event: Peripheral, seen: float) -> None:
        self.told.append((event.action_type, event.cause, event.interface_name))
        self.buses.append(event.bus_number)

    def take_in(self, *changes: Link, gone: bool = False) -> None:
        self.links.take_in([LinkChange(one, gone=gone) for one in changes], None)


def test_an_interface_that_is_pulled_out_is_one_disconnection(tmp_path):
    """The carrier goes first, the interface after it: the second stands for both."""
    ethernet = Ethernet(tmp_path, link(flags=CARRIER))
    ethernet.take_in(link())
    ethernet.take_in(link(), gone=True)
    ethernet.links.tell_waiting(float("inf"))
    assert ethernet.told == [("Disconnection", "device", "eth7")]


def test_a_carrier_that_flips_is_told_flip_by_flip(tmp_path):
    """A cable pulled and put back: two events, in their order, once each."""
    ethernet = Ethernet(tmp_path, link(flags=CARRIER))
    ethernet.take_in(link(), link(), link(flags=CARRIER), link(flags=CARRIER))
    assert ethernet.told == [("Disconnection", "carrier", "eth7"), ("Connection", "carrier", "eth7")]


def test_only_ethernet_of_hardware_counts_unless_asked_for(tmp_path):
    """Virtual interfaces, loopback and Wi-Fi are no Ethernet that somebody plugs in."""
    (tmp_path / "sys/class/net/wlan0/phy80211").mkdir(parents=True)
    ethernet = Ethernet(tmp_path)
    others = [link(index=1, device_type=772), link(index=2, kind="veth"), link(index=3, name="wlan0")]
    ethernet.take_in(*others)
    assert ethernet.told == []
    ethernet.take_in(*others, gone=True)
    ethernet.links.virtual = True
    ethernet.take_in(*others)
    assert ethernet.told == [("Connection", "device", "eth7")]


def test_after_lost_changes_the_difference_is_told(tmp_path):
    """Interfaces that went, came and lost their carrier unseen."""
    stock = [link(), link(index=8, name="eth8", flags=CARRIER)]
    ethernet = Ethernet(tmp_path, *stock)
    now = {8: link(index=8, name="eth8"), 9: link(index=9, name="eth9")}
    ethernet.links.take_in([], now)
    ethernet.links.tell_waiting(float("inf"))
    assert ethernet.told == [
        ("Disconnection", "device", "eth7"),
        ("Connection", "device", "eth9"),
        ("Disconnection", "carrier", "eth8"),
    ]


@pytest.mark.parametrize(
    ("device", "busnum", "expected"),
    [
        ("devices/pci0000:00/0000:03:00.0/virtio0", None, 3),
        (f"{HUB}/1-4/1-4:1.0", "1", 1),
        ("devices/platform/ff540000.ethernet", None, None),
    ],
)
def test_the_bus_of_an_interface_is_where_its_device_is(tmp_path, device, busnum, expected):
    """The USB bus if it is on one, else the PCI bus, else none; it stays known when the device has gone."""
    place = tmp_path / "sys" / device
    place.mkdir(parents=True)
    if busnum:
        (place.parent / "busnum").write_text(busnum + "\n")
    interface = tmp_path / "sys/class/net/eth7"
    interface.mkdir(parents=True)
    (interface / "device").symlink_to(place)
    assert bus_number(tmp_path, "eth7") == expected
    ethernet = Ethernet(tmp_path, link())
    (interface / "device").unlink()
    ethernet.take_in(link(), gone=True)
    assert ethernet.buses == [expected]


def ip(*arguments: str) -> None:
    """Change an interface of the test's namespace."""
    subprocess.run(["ip", *arguments], check=True)


async def collected(collector: PeripheralCollector, count: int) -> list[tuple[str, str, str]]:
    """Events until there are so many, each as often as it was seen."""
    found: list[tuple[str, str, str]] = []
    while len(found) < count:
        for event in (await collector.collect()).events:
            payload = event.payload
            assert isinstance(payload, Peripheral)
            found += [(payload.action_type, payload.cause, payload.interface_name)] * event.hits
        await asyncio.sleep(0.01)
    return found


@pytest.fixture
async def collector():
    made = PeripheralCollector()
    yield made
    await made.stop()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="interfaces are made by root")
async def test_carrier_flips_of_a_veth_pair_are_counted(network_namespace, collector):
    """Three flips on one end are three on each; what was there at the start is no event.

    Each is awaited: a busy kernel makes one notification of two changes that follow closely.
    """
    ip("link", "add", "vd0", "type", "veth", "peer", "name", "vd1")
    ip("link", "set", "vd0", "up")
    await collector.start(VIRTUAL)
    found = []
    for state in ("up", "down") * 3:
        ip("link", "set", "vd1", state)
        found += await collected(collector, 2)
    rest = (await collector.stop()).events
    assert rest == []
    for name in ("vd0", "vd1"):
        assert found.count(("Connection", "carrier", name)) == 3
        assert found.count(("Disconnection", "carrier", name)) == 3


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="interfaces are made by root")
async def test_a_veth_pair_that_comes_and_goes_is_one_event_each(network_namespace, collector):
    """Made, and removed while it has a carrier: no half of it is told beside."""
    await collector.start(VIRTUAL)
    ip("link", "add", "vd0", "type", "veth", "peer", "name", "vd1")
    assert sorted(await collected(collector, 2)) == [
        ("Connection", "device", "vd0"),
        ("Connection", "device", "vd1"),
    ]
    ip("link", "set", "vd0", "up")
    ip("link", "set", "vd1", "up")
    assert {cause for _, cause, _ in await collected(collector, 2)} == {"carrier"}
    ip("link", "del", "vd0")
    assert sorted(await collected(collector, 2)) == [
        ("Disconnection", "device", "vd0"),
        ("Disconnection", "device", "vd1"),
    ]
    assert (await collector.stop()).events == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="interfaces are made by root")
async def test_an_overrun_is_counted_and_the_net_change_is_told(network_namespace, collector):
    """More flips than the kernel keeps while nobody reads: the last state is known all the same."""
    ip("link", "add", "vd0", "type", "veth", "peer", "name", "vd1")
    ip("link", "set", "vd0", "up")
    await collector.start(VIRTUAL)
    flips = (
        "link set vd1 up\nlink set vd1 down\n" * 900
        + "link add vd2 type veth peer name vd3\nlink set vd1 up\n"
    )
    subprocess.run(["ip", "-batch", "-"], input=flips, text=True, check=True)  # the loop stands still
    told = await collector.collect()
    assert [loss.reason for loss in told.losses] == [SOCKET_OVERRUN]
    payloads = [event.payload for event in told.events]
    assert {p.interface_name for p in payloads if p.cause == "device"} == {"vd2", "vd3"}
    balance = {"Connection": 0, "Disconnection": 0}
    for event in told.events:
        balance[event.payload.action_type] += event.hits * (event.payload.cause == "carrier")
    assert balance["Connection"] - balance["Disconnection"] == 2
    assert (await collector.stop()).events == []


async def test_settings_change_without_losing_what_was_told(collector):
    """Another cache size and other interfaces: the sockets stay, the events too."""
    assert collector.enabled(Settings())
    assert collector.priority(Settings()) is Priority.LOW
    await collector.start(Settings())
    assert "uevents" in collector.source
    for name in ("a", "b"):
        collector._tell(
            Peripheral(action_type="Connection", peripheral_type="Ethernet", interface_name=name), 1.0
        )
    await collector.apply(settings_from({"Peripheral_CacheSize": 8}))
    assert [event.payload.interface_name for event in (await collector.stop()).events] == ["a", "b"]
