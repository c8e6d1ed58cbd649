"""What is on the PCI and USB buses."""

import shutil
from pathlib import Path

from vedette.agent.collectors.hardware import HardwareCollector
from vedette.agent.sources.buses import devices
from vedette.wire.events import ConnectedHardware, HardwareDevice
from vedette.wire.twin import Settings

ROOTFS = Path(__file__).parent.parent / "fixtures" / "rootfs"


async def hardware(collector: HardwareCollector) -> dict[str, HardwareDevice]:
    """The devices of one snapshot by address; empty if nothing is told."""
    collected = await collector.collect()
    assert collected.losses == []
    payloads = [event.payload for event in collected.events]
    assert all(isinstance(payload, ConnectedHardware) for payload in payloads)
    return {device.address: device for payload in payloads for device in payload.devices}


async def test_devices_are_told_with_their_names(tmp_path: Path):
    """By the system's id lists, and by the device's own texts where it has them; functions are left out."""
    collector = HardwareCollector(tmp_path, root=ROOTFS / "pc")
    await collector.start(Settings())
    found = await hardware(collector)
    assert list(found) == ["0000:00:14.0", "0000:00:1f.6", "0000:02:00.0", "1-2", "1-6"]
    assert found["0000:00:1f.6"] == HardwareDevice(
        bus="PCI",
        address="0000:00:1f.6",
        vendor_id="8086",
        product_id="15b8",
        device_class="020000",
        vendor="Intel Corporation",
        product="Ethernet Connection (2) I219-V",
        driver="e1000e",
    )
    assert (found["1-2"].vendor, found["1-2"].product) == ("Logitech, Inc.", "Keyboard K120")
    assert found["1-6"] == HardwareDevice(
        bus="USB",
        address="1-6",
        vendor_id="1199",
        product_id="9091",
        device_class="ef0201",
        vendor="Sierra Wireless, Incorporated",
        product="EM7565 LTE",
        serial_number="UF0FIXTURE",
        driver="usb",
    )


async def test_an_unplugged_device_is_a_change(tmp_path: Path):
    """And nothing is told while nothing changes."""
    root = tmp_path / "root"
    shutil.copytree(ROOTFS / "pc", root, symlinks=True)
    collector = HardwareCollector(tmp_path, root=root)
    await collector.start(Settings())
    assert "1-2" in await hardware(collector)
    assert await hardware(collector) == {}
    (root / "sys/bus/usb/devices/1-2").unlink()
    assert "1-2" not in await hardware(collector)


def test_a_device_without_buses_has_no_devices():
    """A container or a small board."""
    assert list(devices(ROOTFS / "container")) == []
