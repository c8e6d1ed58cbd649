"""Who made the board and its firmware: SMBIOS (DMI), the device tree, or a file that an operator wrote.

Facts: the kernel's dmi-id attributes; the devicetree specification (`model`, `compatible`,
`serial-number`); U-Boot's and the Raspberry Pi boot loader's properties under `/chosen`; OpenWrt's
/tmp/sysinfo for boards of either age.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from vedette.agent.sources.files import attribute, content, text

DMI = "sys/class/dmi/id"
DEVICE_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")
SYSINFO = "etc/vedette/sysinfo.json"

NO_VALUE = frozenset(
    {
        "",
        "0",
        "none",
        "default string",
        "not applicable",
        "not available",
        "not specified",
        "o.e.m.",
        "oem",
        "system manufacturer",
        "system product name",
        "system serial number",
        "to be filled by o.e.m.",
        "undefined",
        "unknown",
    }
)
"""What board makers leave in fields that they did not fill, in lower case."""

VENDORS = {
    "brcm": "Broadcom",
    "fsl": "NXP",
    "glinet": "GL.iNet",
    "nvidia": "NVIDIA",
    "nxp": "NXP",
    "qcom": "Qualcomm",
    "raspberrypi": "Raspberry Pi",
    "rockchip": "Rockchip",
    "st": "STMicroelectronics",
    "ti": "Texas Instruments",
    "tplink": "TP-Link",
    "xlnx": "Xilinx",
}
"""Names behind the commonest vendor prefixes of `compatible`; any other prefix is told as it stands."""


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """A device's hardware and firmware; a text is empty where it is not known."""

    hardware_vendor: str = ""
    hardware_model: str = ""
    hardware_serial_number: str = ""
    firmware_vendor: str = ""
    firmware_version: str = ""

    def or_else(self, other: Board) -> Board:
        """This one, with what it does not know taken from another."""
        return Board(**{name: getattr(self, name) or getattr(other, name) for name in self.__struct_fields__})


class SysInfo(msgspec.Struct, rename="pascal"):
    """The file `sysinfo.json`, for boards that cannot tell who they are."""

    hardware_vendor: str = ""
    hardware_model: str = ""
    hardware_serial_number: str = ""
    firmware_vendor: str = ""
    firmware_version: str = ""


def board(root: Path) -> Board:
    """What the device knows of itself: by DMI, and where that is silent by the device tree."""
    return _dmi(root / DMI).or_else(_device_tree(root))


def sysinfo(root: Path) -> Board:
    """What an operator wrote down, nothing if there is no such file. Raises ValueError if it is wrong.

    It stands above `board`: the tree of a product often names the kit that it was built on.
    """
    path = root / SYSINFO
    raw = content(path)
    if not raw:
        return Board()
    try:
        said = msgspec.json.decode(raw, type=SysInfo)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return Board(**{name: text(getattr(said, name).encode()) for name in said.__struct_fields__})


def _dmi(directory: Path) -> Board:
    def first(*names: str) -> str:
        values = (attribute(directory / name) for name in names)
        return next((value for value in values if value.lower() not in NO_VALUE), "")

    return Board(
        hardware_vendor=first("sys_vendor", "board_vendor", "chassis_vendor"),
        hardware_model=first("product_name", "board_name"),
        hardware_serial_number=first("product_serial", "board_serial", "chassis_serial"),
        firmware_vendor=first("bios_vendor"),
        firmware_version=first("bios_version"),
    )


def _device_tree(root: Path) -> Board:
    tree = next((root / path for path in DEVICE_TREES if (root / path).is_dir()), root / DEVICE_TREES[0])
    compatible = text(content(tree / "compatible").partition(b"\0")[0])
    compatible = compatible or attribute(root / "tmp/sysinfo/board_name")
    prefix = compatible.partition(",")[0] if "," in compatible else ""
    u_boot = attribute(tree / "chosen/u-boot,version")
    boot_loader = attribute(tree / "chosen/bootloader/version")
    return Board(
        hardware_vendor=VENDORS.get(prefix, prefix),
        hardware_model=attribute(tree / "model") or attribute(root / "tmp/sysinfo/model"),
        hardware_serial_number=attribute(tree / "serial-number"),
        firmware_vendor="U-Boot" if u_boot else VENDORS.get(prefix, prefix) if boot_loader else "",
        firmware_version=u_boot or boot_loader,
    )
