"""What is plugged into the PCI and USB buses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import time

from msgspec.structs import asdict

from vedette.agent.collectors.snapshot import Part, SnapshotCollector
from vedette.agent.losses import Losses
from vedette.agent.sources.buses import devices
from vedette.wire.events import ConnectedHardware, HardwareDevice
from vedette.wire.twin import Priority, Settings


class HardwareCollector(SnapshotCollector[HardwareDevice]):
    """Devices on the buses. root: where the device's /sys is."""

    name = "ConnectedHardware"
    source = "sysfs"

    def __init__(self, state: Path, *, root: Path = Path("/"), clock: Callable[[], float] = time) -> None:
        super().__init__(state, clock=clock)
        self._root = root

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.hardware_disabled

    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""
        return settings.hardware_frequency

    def full_every(self, settings: Settings) -> int:
        """Days after which the devices are told again."""
        return settings.hardware_full_every

    def read(self, losses: Losses) -> Iterator[HardwareDevice]:
        """The devices that are there now."""
        return (HardwareDevice(**asdict(device)) for device in devices(self._root))

    def payload(self, part: Part[HardwareDevice]) -> ConnectedHardware:
        """The event that tells a part."""
        return ConnectedHardware(
            snapshot_id=part.snapshot_id, part=part.number, parts=part.of, devices=part.items
        )
