"""What a device says of itself, on five kinds of device."""

import logging
import shutil
from ipaddress import ip_address
from pathlib import Path

import pytest

from vedette import __version__
from vedette.agent.collectors.system_information import MAX_NICS, Network, SystemInformationCollector
from vedette.agent.losses import TOO_MANY_ITEMS, Loss
from vedette.agent.sources.hwdata import id_names, mac_vendors
from vedette.agent.sources.rtnetlink import ARPHRD_ETHER, ARPHRD_LOOPBACK, Address, Link
from vedette.wire.events import Nic, NicAddress, SystemInformation
from vedette.wire.twin import Settings

ROOTFS = Path(__file__).parent.parent / "fixtures" / "rootfs"
ARPHRD_CAN, ARPHRD_NONE = 280, 0xFFFE


def link(index: int, name: str, mac: str = "", device_type: int = ARPHRD_ETHER, **more: object) -> Link:
    """An interface that is up."""
    usual = {"kind": "", "flags": 1, "carrier": True, "parent": 0, "master": 0, "vlan": None}
    return Link(index=index, name=name, device_type=device_type, mac=mac, **(usual | more))


def network(links: list[Link], addresses: dict[int, list[str]]) -> Network:
    """What rtnetlink tells."""
    return {each.index: each for each in links}, [
        Address(index, ip_address(text), 24) for index, texts in addresses.items() for text in texts
    ]


LOOPBACK = link(1, "lo", "00:00:00:00:00:00", ARPHRD_LOOPBACK)
NETWORKS = {
    "pc": network(
        [
            LOOPBACK,
            link(2, "enp0s31f6", "54:ee:75:00:00:01"),
            link(3, "wlp2s0", "d0:c6:37:00:00:02"),
            link(4, "wwan0", "", ARPHRD_NONE),
            link(5, "enp0s31f6.42", "54:ee:75:00:00:01", kind="vlan", parent=2, vlan=42),
            link(6, "veth12ab", "0a:00:00:00:00:01", kind="veth"),
        ],
        {
            1: ["127.0.0.1", "::1"],
            2: ["192.0.2.10", "2001:db8::10", "fe80::1"],
            3: ["192.0.2.11"],
            4: ["198.51.100.4"],
            5: ["203.0.113.5"],
            6: ["fe80::2"],
        },
    ),
    "raspberrypi": network(
        [LOOPBACK, link(2, "eth0", "dc:a6:32:00:00:01"), link(3, "wlan0", "b8:27:eb:00:00:02")],
        {2: ["192.0.2.20"]},
    ),
    "imx": network(
        [LOOPBACK, link(2, "eth0", "00:04:9f:00:00:01"), link(3, "can0", "", ARPHRD_CAN)], {2: ["192.0.2.30"]}
    ),
    "openwrt": network(
        [
            LOOPBACK,
            link(2, "eth0", "94:83:c4:00:00:01"),
            link(3, "br-lan", "94:83:c4:00:00:01", kind="bridge"),
        ],
        {3: ["192.0.2.1", "fd00::1"]},
    ),
    "container": network([LOOPBACK, link(7, "eth0", "02:42:ac:11:00:02", kind="veth")], {7: ["172.17.0.2"]}),
}


async def information(root: Path, known: Network, settings: Settings | None = None) -> SystemInformation:
    """The payload of one cycle."""
    collector = SystemInformationCollector(root=root, network=lambda: known, clock=lambda: 1.8e9)
    await collector.start(settings or Settings())
    ((event,), losses) = await collector.collect()
    assert losses == []
    assert isinstance(event.payload, SystemInformation)
    return event.payload


async def on(device: str, settings: Settings | None = None) -> SystemInformation:
    """What a device of the fixtures says."""
    return await information(ROOTFS / device, NETWORKS[device], settings)


@pytest.mark.parametrize(
    ("device", "expected"),
    {
        "pc": ("LENOVO", "20KHCTO1WW", "PF0FIXTR", "LENOVO", "N23ET85W (1.60 )"),
        "raspberrypi": (
            "Raspberry Pi",
            "Raspberry Pi 4 Model B Rev 1.4",
            "10000000f1x7u4e0",
            "Raspberry Pi",
            "2b4ad63e92c7c9a2d3a0c2b6f5f3d44aebd3f0b1",
        ),
        "imx": ("Sentinel Gateways", "SG-8", "SG8-000417", "Sentinel Gateways", "3.2.1"),
        "openwrt": ("GL.iNet", "GL.iNet GL-MT300N-V2", "", "", ""),
        "container": ("", "", "", "", ""),
    }.items(),
)
async def test_hardware_and_firmware(device: str, expected: tuple[str, ...]):
    """DMI on the PC, device tree on the Pi, sysinfo.json on the board, OpenWrt's files on the router."""
    told = await on(device)
    assert (
        told.hardware_vendor,
        told.hardware_model,
        told.hardware_serial_number,
        told.firmware_vendor,
        told.firmware_version,
    ) == expected


@pytest.mark.parametrize(
    ("device", "expected"),
    {
        "pc": ("Debian GNU/Linux", "Debian GNU/Linux 12 (bookworm)", "x86_64", "6.1.0-22-amd64"),
        "raspberrypi": ("Raspbian GNU/Linux", "Raspbian GNU/Linux 11 (bullseye)", "aarch64", "6.1.21-v8+"),
        "openwrt": ("OpenWrt", "OpenWrt 22.03.5", None, "5.10.176"),
        "container": ("Alpine Linux", "Alpine Linux v3.19", None, "6.5.0-1022-azure"),
    }.items(),
)
async def test_operating_system(device: str, expected: tuple[str | None, ...]):
    """os-release and the kernel's own words."""
    told = await on(device)
    dist, version, arch, kernel = expected
    assert (told.os_platform, told.os_dist, told.os_version, told.kernel) == ("Linux", dist, version, kernel)
    assert arch is None or told.os_arch == arch
    assert told.os_arch


async def test_agent_type_tells_an_edge_device():
    """The configuration of the Edge runtime makes it one."""
    assert {device: (await on(device)).agent_type for device in NETWORKS} == {
        device: "Edge" if device == "imx" else "Standalone" for device in NETWORKS
    }
    assert (await on("pc")).agent_version == __version__


async def test_interfaces_of_a_pc():
    """Ethernet with its VLAN, WLAN, a modem, each with its vendor; idle virtual ones are left out."""
    ethernet, wifi, modem = (await on("pc")).nics
    assert ethernet == Nic(
        name="enp0s31f6",
        type="ETH",
        vlans=(42,),
        vendor="Intel Corporation",
        info=(
            NicAddress("192.0.2.10", "2001:db8::10", "54:ee:75:00:00:01"),
            NicAddress("203.0.113.5", "fe80::1", "54:ee:75:00:00:01"),
        ),
    )
    assert (wifi.name, wifi.type, wifi.vendor) == ("wlp2s0", "WIFI", "Intel Corporation")
    assert (modem.name, modem.type, modem.vendor) == ("wwan0", "MOBILE", "Sierra Wireless, Inc.")


async def test_interfaces_without_a_bus_take_their_vendor_from_the_mac_address():
    """The Pi's SDIO radio has a vendor id of another list, which must not be looked up as PCI's."""
    assert [(nic.name, nic.type, nic.vendor) for nic in (await on("raspberrypi")).nics] == [
        ("eth0", "ETH", "Raspberry Pi Trading Ltd"),
        ("wlan0", "WIFI", "Raspberry Pi Foundation"),
    ]


async def test_what_is_no_ethernet_is_unknown():
    """A CAN bus and a bridge are told as they are; vendors are not guessed."""
    assert [(nic.name, nic.type) for nic in (await on("imx")).nics] == [("eth0", "ETH"), ("can0", "UNKNOWN")]
    router = await on("openwrt")
    assert [(nic.name, nic.type) for nic in router.nics] == [("eth0", "ETH"), ("br-lan", "UNKNOWN")]
    (inside,) = (await on("container")).nics
    assert (inside.type, inside.vendor) == ("ETH", "")


async def test_a_satellite_receiver_is_told_by_its_name(tmp_path: Path):
    """IP over DVB."""
    dvb = network([link(2, "dvb0_0", "00:08:ca:00:00:01")], {2: ["192.0.2.2"]})
    assert [nic.type for nic in (await information(tmp_path, dvb)).nics] == ["SATELLITE"]


async def test_the_twin_overrides_what_the_device_says():
    """Field by field, above DMI and above sysinfo.json."""
    settings = Settings(system_information_hardware_vendor="Ours", system_information_firmware_version="9.9")
    pc, board = await on("pc", settings), await on("imx", settings)
    assert (pc.hardware_vendor, pc.hardware_model, pc.firmware_version) == ("Ours", "20KHCTO1WW", "9.9")
    assert (board.hardware_vendor, board.hardware_model) == ("Ours", "SG-8")


async def test_without_sysinfo_a_board_is_known_by_its_device_tree(tmp_path: Path):
    """Vendor prefix, model, and U-Boot's version."""
    shutil.copytree(ROOTFS / "imx", tmp_path, dirs_exist_ok=True, symlinks=True)
    (tmp_path / "etc/vedette/sysinfo.json").unlink()
    told = await information(tmp_path, NETWORKS["imx"])
    assert (told.hardware_vendor, told.hardware_model) == ("NXP", "NXP i.MX8MPlus EVK board")
    assert (told.firmware_vendor, told.firmware_version) == ("U-Boot", "2022.04-lf-5.15.71-2.2.0")


async def test_a_wrong_sysinfo_is_named_once_and_the_rest_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The file and the field stand in the warning."""
    shutil.copytree(ROOTFS / "imx", tmp_path, dirs_exist_ok=True, symlinks=True)
    (tmp_path / "etc/vedette/sysinfo.json").write_text('{"HardwareModel": 8}')
    collector = SystemInformationCollector(root=tmp_path, network=lambda: NETWORKS["imx"])
    await collector.start(Settings())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            ((event,), _) = await collector.collect()
    assert event.payload.hardware_model == "NXP i.MX8MPlus EVK board"
    (record,) = caplog.records
    assert "sysinfo.json" in record.getMessage()
    assert "HardwareModel" in record.getMessage()


async def test_placeholders_of_board_makers_are_no_values(tmp_path: Path):
    """`To be filled by O.E.M.` is nobody's name: the next attribute is asked."""
    dmi = tmp_path / "sys/class/dmi/id"
    dmi.mkdir(parents=True)
    for name, value in {
        "sys_vendor": "To be filled by O.E.M.\n",
        "board_vendor": "ASRock\n",
        "product_name": "System Product Name\n",
        "product_serial": "Default string\n",
    }.items():
        (dmi / name).write_text(value)
    told = await information(tmp_path, ({}, []))
    assert (told.hardware_vendor, told.hardware_model, told.hardware_serial_number) == ("ASRock", "", "")


async def test_more_interfaces_than_are_told_are_counted(tmp_path: Path):
    """A bound, and a loss that says so."""
    many = network(
        [link(index, f"eth{index}") for index in range(2, 72)],
        {index: [f"192.0.2.{index}"] for index in range(2, 72)},
    )
    collector = SystemInformationCollector(root=tmp_path, network=lambda: many)
    await collector.start(Settings())
    ((event,), losses) = await collector.collect()
    assert len(event.payload.nics) == MAX_NICS
    assert losses == [Loss(TOO_MANY_ITEMS, 0, 70 - MAX_NICS)]


async def test_without_rtnetlink_the_rest_is_told(tmp_path: Path):
    """A refused socket costs the interfaces only."""

    def refused() -> Network:
        raise PermissionError(1, "Operation not permitted")

    collector = SystemInformationCollector(root=ROOTFS / "pc", network=refused)
    await collector.start(Settings())
    ((event,), _) = await collector.collect()
    assert event.payload.nics == ()
    assert event.payload.hardware_vendor == "LENOVO"


async def test_this_machine():
    """The real kernel's interfaces and this system's os-release are told; loopback is not."""
    collector = SystemInformationCollector()
    await collector.start(Settings())
    ((event,), losses) = await collector.collect()
    assert losses == []
    assert event.payload.kernel == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert "lo" not in {nic.name for nic in event.payload.nics}


def test_id_lists_are_searched_for_vendors_and_products():
    """Subsystem lines and device classes are not mistaken for products."""
    wanted = {("8086", "15b8"), ("8086", ""), ("1043", ""), ("02  ", ""), ("10de", "1b06"), ("ffff", "")}
    assert id_names(ROOTFS / "pc", "pci", wanted) == {
        ("8086", ""): "Intel Corporation",
        ("8086", "15b8"): "Ethernet Connection (2) I219-V",
        ("10de", ""): "NVIDIA Corporation",
        ("10de", "1b06"): "GP102",
    }


@pytest.mark.parametrize("mac", ["02:27:eb:00:00:01", "", "00:00:00:00:00:00", "zz"])
def test_made_up_mac_addresses_have_no_vendor(mac: str):
    """Locally administered, empty, and malformed ones."""
    assert mac_vendors(ROOTFS / "pc", [mac]) == {}
