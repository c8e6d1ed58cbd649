"""Peripherals: USB devices and Ethernet links that come and go.

USB is told by kernel uevents, Ethernet by rtnetlink alone, so nothing is told twice. What is connected
when the collector starts is the state to compare with, not an event.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from vedette.agent.aggregate import EventCache
from vedette.agent.collectors import Collected
from vedette.agent.losses import SOCKET_OVERRUN
from vedette.agent.sources import Overrun, Unavailable, ethernet, usb
from vedette.agent.sources.readable import readable
from vedette.agent.sources.rtnetlink import ARPHRD_ETHER, Link, LinkChange, LinkWatch, links
from vedette.agent.sources.uevent import Uevent, UeventSocket
from vedette.agent.sources.usb import UsbDevice
from vedette.wire.events import Peripheral, type_of
from vedette.wire.twin import Priority, Settings

INTERFACES_WITHIN = 1.0
"""Seconds in which a new USB device shows its interfaces. They follow within milliseconds, then `bind`;
a device that is not authorised shows none."""

REMOVAL_WITHIN = 0.3
"""Seconds between the loss of the carrier and the removal of an interface that is being unplugged: one
event, not two. The kernel needs some 50 ms."""

MAX_TAKEN = 4_096
"""Messages taken in at once: more than a socket's buffer holds, whatever is still arriving."""

MAX_LOSSES = 8
"""Losses at once after which the present state is asked for, whatever else is still arriving."""

T = TypeVar("T")
Action = Literal["Connection", "Disconnection"]
Cause = Literal["device", "carrier"]
Tell = Callable[[Peripheral, float], None]
"""Takes an event and when it was observed (seconds since the epoch)."""


class PeripheralCollector:
    """Connections and disconnections of USB devices and Ethernet links.

    root: where /sys is looked up.
    """

    name = "Peripheral"

    def __init__(self, root: Path = Path("/"), *, clock: Callable[[], float] = time.time) -> None:
        self._cache = EventCache(type_of(Peripheral), 1, setting="Peripheral_CacheSize")
        self._usb = UsbDevices(root, self._tell, clock)
        self._ethernet = EthernetLinks(root, self._tell, clock)
        self._uevents: UeventSocket | None = None
        self._changes: LinkWatch | None = None
        self._turn = asyncio.Lock()
        self._pump: asyncio.Task[None] | None = None
        self.source = ""

    def enabled(self, settings: Settings) -> bool:
        """False if it is switched off."""
        return not settings.peripheral_disabled

    def priority(self, settings: Settings) -> Priority:
        """As Peripheral_MessageFrequency says."""
        return settings.peripheral_frequency

    async def start(self, settings: Settings) -> None:
        """Listen to the kernel, then take stock. Raises Unavailable if it cannot be listened to."""
        self._use(settings)
        self._listen()
        try:
            await asyncio.to_thread(self._usb.take_stock)
            await asyncio.to_thread(self._ethernet.take_stock, links() if self._changes else {})
        except OSError as error:
            self._hang_up()
            raise Unavailable(f"rtnetlink: {error.strerror}") from error
        self._pump = asyncio.create_task(self._keep_listening(), name="Peripheral")

    async def collect(self) -> Collected:
        """Hand over what the kernel has told. What still waits for its details comes next time."""
        if self._pump and self._pump.done():
            self._pump.result()  # raises what ended it
        async with self._turn:
            await self._take()
            return Collected(*self._cache.drain())

    async def apply(self, settings: Settings) -> None:
        """Work under new settings; the sockets stay, and what they hold is told."""
        async with self._turn:
            await self._take()
            events, losses = self._cache.drain()
            self._use(settings)
            for event in events:
                self._cache.add(event.payload, event.hits, now=event.first_seen)
            for loss in losses:
                self._cache.drop(loss.reason, events=loss.events, hits=loss.hits)

    async def stop(self) -> Collected:
        """Stop listening; what waited for details is told as it is."""
        async with self._turn:  # nobody is at work while this is held
            if self._pump:
                self._pump.cancel()
                await asyncio.wait([self._pump])
                self._pump = None
            await self._take()
            self._tell_waiting(float("inf"))
            self._hang_up()
            return Collected(*self._cache.drain())

    def _use(self, settings: Settings) -> None:
        self._cache = EventCache(
            type_of(Peripheral), settings.peripheral_cache_size, setting="Peripheral_CacheSize"
        )
        self._ethernet.virtual = settings.peripheral_virtual

    def _tell(self, event: Peripheral, seen: float) -> None:
        self._cache.add(event, now=seen)

    def _listen(self) -> None:
        notes = []
        try:
            self._uevents = UeventSocket()
            notes.append("USB: kernel uevents")
        except OSError as error:
            notes.append(f"no USB: uevents: {error.strerror}")
        try:
            self._changes = LinkWatch()
            notes.append("Ethernet: rtnetlink")
        except OSError as error:
            notes.append(f"no Ethernet: rtnetlink: {error.strerror}")
        self.source = ", ".join(notes)
        if not self._uevents and not self._changes:
            raise Unavailable(self.source, remedy="allow AF_NETLINK sockets")

    def _hang_up(self) -> None:
        for source in (self._uevents, self._changes):
            if source:
                source.close()
        self._uevents = self._changes = None

    async def _keep_listening(self) -> None:
        fds = [source.fileno() for source in (self._uevents, self._changes) if source]
        while True:
            waiting = [*self._usb.waiting(), *self._ethernet.waiting()]
            patience = max(0.0, min(waiting) - time.monotonic()) if waiting else None
            await readable(*fds, timeout=patience)
            async with self._turn:
                await self._take()

    async def _take(self) -> None:
        """Take in what the kernel has queued. In a thread where sysfs is read: it waits for device locks."""
        uevents, lost = _received(self._uevents.uevents) if self._uevents else ([], False)
        if uevents or lost:
            await asyncio.to_thread(self._usb.take_in, uevents, lost)
        changes, missed = _received(self._changes.changes) if self._changes else ([], False)
        if changes or missed:
            await asyncio.to_thread(self._ethernet.take_in, changes, links() if missed else None)
        if lost or missed:
            self._cache.drop(SOCKET_OVERRUN, hits=lost + missed)
        self._tell_waiting(time.monotonic())

    def _tell_waiting(self, now: float) -> None:
        self._usb.tell_waiting(now)
        self._ethernet.tell_waiting(now)


def _received(queued: Callable[[], Iterator[T]]) -> tuple[list[T], bool]:
    """What a socket holds, and whether it had lost something.

    The kernel tells of a loss before it hands over what it had kept, so reading goes on until nothing is
    left: who asks for the present state afterwards is not told the past as news.
    """
    found: list[T] = []
    lost = False
    for _ in range(MAX_LOSSES):
        try:
            for item in itertools.islice(queued(), MAX_TAKEN - len(found)):
                found.append(item)  # noqa: PERF402  what came before a loss counts
        except Overrun:
            lost = True
        else:
            break
    return found, lost


class _Plugged(msgspec.Struct):
    """A USB device, and until when (monotonic) its connection waits to be told; None: it has been."""

    device: UsbDevice
    seen: float = 0.0
    due: float | None = None


class UsbDevices:
    """The USB devices that are connected; what of them is news is told."""

    def __init__(self, root: Path, tell: Tell, clock: Callable[[], float]) -> None:
        self._root = root
        self._tell = tell
        self._clock = clock
        self._plugged: dict[str, _Plugged] = {}

    def take_stock(self) -> None:
        """What is connected now is no news."""
        self._plugged = {path: _Plugged(device) for path, device in usb.connected(self._root).items()}

    def take_in(self, uevents: list[Uevent], lost: bool) -> None:
        """Tell what has happened. `lost`: something is missing, so look at what is connected now."""
        for uevent in uevents:
            if uevent.keys.get("SUBSYSTEM") == "usb" and not uevent.requested:
                self._on(uevent)
        if lost:
            now = usb.connected(self._root)
            for path in [path for path in self._plugged if path not in now]:
                self._unplug(self._plugged[path].device)
            for device in now.values():
                self._plug(device)

    def waiting(self) -> list[float]:
        """When something is due to be told (monotonic)."""
        return [plugged.due for plugged in self._plugged.values() if plugged.due is not None]

    def tell_waiting(self, now: float) -> None:
        """Tell what is due."""
        for plugged in self._plugged.values():
            if plugged.due is not None and plugged.due <= now:
                self._connection(plugged)

    def _on(self, uevent: Uevent) -> None:
        kind = uevent.keys.get("DEVTYPE")
        if kind == "usb_interface" and uevent.action == "add":
            owner = self._plugged.get(usb.parent_of(uevent.path))
            triple = usb.interface_of(uevent.keys)
            if owner and triple:
                owner.device = owner.device.with_interface(triple)
        elif kind == "usb_device" and (device := usb.device_of(uevent.path, uevent.keys)):
            if uevent.action == "add":
                self._plug(device.with_names(self._root))
            elif uevent.action == "bind":  # its interfaces have been told
                self._connection(self._plugged.get(uevent.path))
            elif uevent.action == "remove":
                self._unplug(device)

    def _plug(self, device: UsbDevice) -> None:
        known = self._plugged.get(device.path)
        if known and known.device.number == device.number:
            return
        if known:
            self._unplug(known.device)
        plugged = _Plugged(device, self._clock(), time.monotonic() + INTERFACES_WITHIN)
        self._plugged[device.path] = plugged
        if device.triple[0] or device.interfaces:
            self._connection(plugged)

    def _unplug(self, device: UsbDevice) -> None:
        known = self._plugged.pop(device.path, None)
        self._connection(known)
        self._tell(_usb_event("Disconnection", known.device if known else device), self._clock())

    def _connection(self, plugged: _Plugged | None) -> None:
        """Tell of it, unless that has been done."""
        if plugged and plugged.due is not None:
            plugged.due = None
            self._tell(_usb_event("Connection", plugged.device), plugged.seen)


class _Lost(msgspec.Struct, frozen=True):
    """A carrier loss that waits (until `due`, monotonic) for the removal that may follow."""

    event: Peripheral
    seen: float
    due: float


class EthernetLinks:
    """The Ethernet interfaces and their carriers; what of them is news is told.

    virtual: whether interfaces without hardware count.
    """

    def __init__(self, root: Path, tell: Tell, clock: Callable[[], float]) -> None:
        self.virtual = False
        self._root = root
        self._tell = tell
        self._clock = clock
        self._known: dict[int, tuple[Link, int | None]] = {}
        self._lost: dict[int, _Lost] = {}

    def take_stock(self, now: dict[int, Link]) -> None:
        """What is connected now is no news."""
        self._known = {index: (link, self._bus_number(link)) for index, link in now.items()}

    def take_in(self, changes: list[LinkChange], now: dict[int, Link] | None) -> None:
        """Tell what has happened. `now`: changes are missing, and this is what the kernel has now."""
        for change in changes:
            self._on(change.link, gone=change.gone)
        if now is not None:
            for index in [index for index in self._known if index not in now]:
                self._on(self._known[index][0], gone=True)
            for link in now.values():
                self._on(link, gone=False)

    def waiting(self) -> list[float]:
        """When something is due to be told (monotonic)."""
        return [lost.due for lost in self._lost.values()]

    def tell_waiting(self, now: float) -> None:
        """Tell what is due."""
        for index in [index for index, lost in self._lost.items() if lost.due <= now]:
            self._tell_lost(index)

    def _on(self, link: Link, *, gone: bool) -> None:
        before, bus = self._known.pop(link.index, (None, None))
        if not gone:
            bus = bus if before else self._bus_number(link)
            self._known[link.index] = link, bus
        if not self._counts(link):
            return
        if gone:
            self._lost.pop(link.index, None)
            if before:
                self._tell(_link_event("Disconnection", "device", link, bus), self._clock())
        elif before is None:
            self._tell(_link_event("Connection", "device", link, bus), self._clock())
        elif link.connected != before.connected:
            self._carrier(link, bus)

    def _carrier(self, link: Link, bus: int | None) -> None:
        if link.connected:
            self._tell_lost(link.index)
            self._tell(_link_event("Connection", "carrier", link, bus), self._clock())
        else:
            event = _link_event("Disconnection", "carrier", link, bus)
            self._lost[link.index] = _Lost(event, self._clock(), time.monotonic() + REMOVAL_WITHIN)

    def _tell_lost(self, index: int) -> None:
        if lost := self._lost.pop(index, None):
            self._tell(lost.event, lost.seen)

    def _counts(self, link: Link) -> bool:
        if link.device_type != ARPHRD_ETHER or (link.kind and not self.virtual):
            return False
        return not ethernet.is_radio(self._root, link.name)

    def _bus_number(self, link: Link) -> int | None:
        return ethernet.bus_number(self._root, link.name) if link.name and not link.kind else None


def _link_event(action: Action, cause: Cause, link: Link, bus: int | None) -> Peripheral:
    return Peripheral(
        action_type=action,
        peripheral_type="Ethernet",
        cause=cause,
        bus_number=bus,
        interface_name=link.name,
    )


def _usb_event(action: Action, device: UsbDevice) -> Peripheral:
    own = not device.triple[0]
    first = device.interfaces[0] if own and device.interfaces else (None, None, None)
    return Peripheral(
        action_type=action,
        peripheral_type="USB",
        bus_number=device.bus,
        kernel_device_number=device.number,
        device_class=device.triple[0],
        device_subclass=device.triple[1],
        device_protocol=device.triple[2],
        interface_class=first[0],
        interface_subclass=first[1],
        interface_protocol=first[2],
        interfaces=tuple("/".join(map(str, triple)) for triple in device.interfaces) if own else (),
        vendor_id=device.vendor_id,
        product_id=device.product_id,
        vendor_name=device.vendor_name,
        product_name=device.product_name,
    )
