"""What the device is: hardware, firmware, operating system, agent, network interfaces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from time import time

from vedette import __version__
from vedette.agent.collectors import Collected
from vedette.agent.collectors.periodic import PeriodicCollector
from vedette.agent.losses import TOO_MANY_ITEMS, Losses
from vedette.agent.sources import rtnetlink
from vedette.agent.sources.board import Board, board, sysinfo
from vedette.agent.sources.nics import Nic as Interface
from vedette.agent.sources.nics import nics
from vedette.agent.sources.osrelease import operating_system, runs_edge
from vedette.wire.events import Event, Nic, NicAddress, SystemInformation
from vedette.wire.twin import Priority, Settings

log = logging.getLogger(__name__)

Network = tuple[Mapping[int, rtnetlink.Link], Iterable[rtnetlink.Address]]

MAX_NICS = 64
"""Interfaces told; a switch has 52 ports."""

MAX_ADDRESSES = 32
"""Addresses told of an interface, of each family."""


class SystemInformationCollector(PeriodicCollector):
    """One event a cycle.

    root: where the device's files are. network: interfaces by index, and all addresses. clock: Unix seconds.
    """

    name = "SystemInformation"
    source = "files, rtnetlink"

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        network: Callable[[], Network] = lambda: (rtnetlink.links(), rtnetlink.addresses()),
        clock: Callable[[], float] = time,
    ) -> None:
        self._root = root
        self._network = network
        self._clock = clock
        self._warned: dict[str, str] = {}

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.system_information_disabled

    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""
        return settings.system_information_frequency

    async def collect(self) -> Collected:
        """Everything that is known of the device now."""
        losses = Losses()
        payload = await asyncio.to_thread(self._look, losses)
        return Collected([Event(payload, self._clock())], losses.take())

    def _look(self, losses: Losses) -> SystemInformation:
        known = _overrides(self._settings).or_else(self._sysinfo()).or_else(board(self._root))
        system = operating_system(self._root)
        return SystemInformation(
            hardware_vendor=known.hardware_vendor,
            hardware_model=known.hardware_model,
            hardware_serial_number=known.hardware_serial_number,
            firmware_vendor=known.firmware_vendor,
            firmware_version=known.firmware_version,
            os_dist=system.name,
            os_version=system.pretty_name,
            os_arch=system.architecture,
            kernel=system.kernel,
            agent_type="Edge" if runs_edge(self._root) else "Standalone",
            agent_version=__version__,
            nics=self._nics(losses),
        )

    def _sysinfo(self) -> Board:
        try:
            return sysinfo(self._root)
        except ValueError as error:
            self._warn("sysinfo.json is not used", error)
            return Board()

    def _nics(self, losses: Losses) -> tuple[Nic, ...]:
        try:
            found = nics(self._root, *self._network())
        except OSError as error:
            self._warn("network interfaces are not known", error)
            return ()
        losses.count(TOO_MANY_ITEMS, hits=max(0, len(found) - MAX_NICS))
        return tuple(_nic(nic) for nic in found[:MAX_NICS])

    def _warn(self, what: str, reason: object) -> None:
        """Say what is wrong when it changes, not every cycle."""
        if self._warned.get(what) != str(reason):
            self._warned[what] = str(reason)
            log.warning("%s: %s: %s", self.name, what, reason)


def _overrides(settings: Settings) -> Board:
    """What the twin says about the hardware."""
    return Board(
        hardware_vendor=settings.system_information_hardware_vendor,
        hardware_model=settings.system_information_hardware_model,
        hardware_serial_number=settings.system_information_hardware_serial_number,
        firmware_vendor=settings.system_information_firmware_vendor,
        firmware_version=settings.system_information_firmware_version,
    )


def _nic(nic: Interface) -> Nic:
    pairs = zip_longest(nic.ipv4[:MAX_ADDRESSES], nic.ipv6[:MAX_ADDRESSES], fillvalue="")
    return Nic(
        name=nic.name,
        type=nic.type,
        vlans=nic.vlans,
        vendor=nic.vendor,
        info=tuple(NicAddress(v4, v6, nic.mac) for v4, v6 in list(pairs) or [("", "")]),
    )
