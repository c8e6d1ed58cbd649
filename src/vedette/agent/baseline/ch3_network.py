"""Chapter 3 without the firewall: network parameters, TCP wrappers, protocols, wireless, IPv6."""

from __future__ import annotations

from vedette.agent.baseline.declare import (
    Finding,
    Severity,
    Tally,
    check,
    failed,
    on_device,
    only_full,
    passed,
    skipped,
)
from vedette.agent.baseline.device import Device
from vedette.agent.baseline.families import file_mode, module_blocked, sysctl
from vedette.agent.baseline.kernel import command_line, configured, sysctl_path
from vedette.agent.baseline.services import enabled, program

# 3.1, 3.2: parameters


def _gateway(device: Device) -> str | None:
    """Why a device has to forward: it is a router, an access point, or a host of containers."""
    if device.exists("/etc/openwrt_release"):
        return "/etc/openwrt_release: the device is a router"
    sign = program(device, "dockerd", "containerd", "podman", "lxc-start", "libvirtd", "aziotd")
    if sign:
        return f"{sign}: containers are reached by forwarding"
    sign = enabled(device, "hostapd", "isc-dhcp-server", "wg-quick@wg0", "openvpn", "frr", "bird")
    return f"{sign}: the device is a gateway" if sign else None


def _both(parameter: str, value: str, family: str = "ipv4") -> dict[str, str]:
    return {f"net.{family}.conf.{which}.{parameter}": value for which in ("all", "default")}


sysctl(
    "3.1.1",
    {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0"},
    "The device forwards nothing from one network to another.",
    off=on_device(_gateway),
)
sysctl(
    "3.1.2", _both("send_redirects", "0"), "The device, no router, tells nobody another way (ICMP redirects)."
)

for number, wanted, sentence in (
    (
        "3.2.1",
        _both("accept_source_route", "0") | _both("accept_source_route", "0", "ipv6"),
        "Packets whose sender dictates their way (source routing) are refused.",
    ),
    (
        "3.2.2",
        _both("accept_redirects", "0") | _both("accept_redirects", "0", "ipv6"),
        "Nobody on the network can change the device's routes by ICMP redirects.",
    ),
    ("3.2.3", _both("secure_redirects", "0"), "Not even a listed gateway can change the routes by ICMP."),
    ("3.2.4", _both("log_martians", "1"), "Packets with impossible addresses are logged."),
    (
        "3.2.5",
        {"net.ipv4.icmp_echo_ignore_broadcasts": "1"},
        "Pings to everybody are ignored, so that the device amplifies no flood.",
    ),
    (
        "3.2.6",
        {"net.ipv4.icmp_ignore_bogus_error_responses": "1"},
        "ICMP errors that break the standard do not fill the log.",
    ),
    ("3.2.7", _both("rp_filter", "1"), "Packets that come from where answers would not go are dropped."),
    ("3.2.8", {"net.ipv4.tcp_syncookies": "1"}, "A flood of half-open connections cannot use the queue up."),
    (
        "3.2.9",
        _both("accept_ra", "0", "ipv6"),
        "Nobody on the network can become the IPv6 router by saying so.",
    ),
):
    sysctl(number, wanted, sentence)

# 3.3: TCP wrappers

_OFF_WRAPPERS = only_full("current services are built without TCP wrappers; use the firewall")


@check(
    "3.3.1",
    "The TCP wrappers library is there for services that can use it.",
    "Install tcpd or libwrap0.",
    severity=Severity.INFORMATIONAL,
    off=_OFF_WRAPPERS,
    passing={"/usr/lib/x86_64-linux-gnu/libwrap.so.0": ""},
    failing={"/usr/lib/x86_64-linux-gnu/libc.so.6": ""},
)
def _wrappers(device: Device) -> Finding:
    patterns = (
        "/lib/libwrap.so*",
        "/usr/lib/libwrap.so*",
        "/usr/lib64/libwrap.so*",
        "/usr/lib/*/libwrap.so*",
    )
    found = [path for pattern in patterns for path in device.glob(pattern)]
    return passed(*found) if found else failed("no libwrap.so in the library directories")


def _wrapper_rule(number: str, path: str, rule: str, sentence: str) -> None:
    @check(
        number,
        sentence,
        f"Write `{rule}` to {path}.",
        severity=Severity.INFORMATIONAL,
        off=_OFF_WRAPPERS,
        passing={path: f"{rule}\n"},
        failing={path: "# nothing\n"},
    )
    def probe(device: Device) -> Finding:
        lines = device.lines(path)
        if path.endswith("deny"):
            lines = [line for line in lines if line.text.replace(" ", "").upper().startswith("ALL:ALL")]
        return passed(*lines) if lines else failed(f"{path}: no such rule")


_wrapper_rule("3.3.2", "/etc/hosts.allow", "ALL: 192.168.1.", "Who may connect is listed in hosts.allow.")
_wrapper_rule("3.3.3", "/etc/hosts.deny", "ALL: ALL", "Everybody else is denied in hosts.deny.")

for number, path in (("3.3.4", "/etc/hosts.allow"), ("3.3.5", "/etc/hosts.deny")):
    file_mode(number, [path], 0o644, f"Only root changes {path}.", off=_OFF_WRAPPERS)

# 3.4: protocols

for number, module, name in (
    ("3.4.1", "dccp", "DCCP"),
    ("3.4.2", "sctp", "SCTP"),
    ("3.4.3", "rds", "RDS"),
    ("3.4.4", "tipc", "TIPC"),
):
    module_blocked(
        number,
        module,
        f"The protocol {name} cannot be loaded: it is rarely used and its code has had many holes.",
        severity=Severity.WARNING,
    )

# 3.6, 3.7: wireless and IPv6


@check(
    "3.6",
    "No wireless interface is up.",
    "Run `rfkill block wifi`, or `ip link set <interface> down` and remove its configuration.",
    severity=Severity.INFORMATIONAL,
    off=on_device("many devices have no other network"),
    passing={"/sys/class/net/wlan0/phy80211/name": "", "/sys/class/net/wlan0/flags": "0x1002"},
    failing={"/sys/class/net/wlan0/phy80211/name": "", "/sys/class/net/wlan0/flags": "0x1003"},
    skipping={"/sys/class/net/eth0/flags": "0x1003"},
)
def _wireless(device: Device) -> Finding:
    tally = Tally()
    for path in device.glob("/sys/class/net/*"):
        if {"phy80211", "wireless"} & set(device.names(path)):
            flags = int(device.value(f"{path}/flags") or "0", 16)
            tally.add(not flags & 1, f"{path}/flags: {flags:#x} ({'up' if flags & 1 else 'down'})")
    return tally.finding("there is no wireless interface")


@check(
    "3.7",
    "IPv6 is off where the network does not use it.",
    "Start the kernel with ipv6.disable=1, or set net.ipv6.conf.all.disable_ipv6 = 1 in sysctl.d.",
    severity=Severity.INFORMATIONAL,
    off=only_full("networks use IPv6; its firewall is checked instead (3.5.1)"),
    passing={"/proc/cmdline": "root=/dev/sda1 ipv6.disable=1"},
    failing={"/proc/cmdline": "root=/dev/sda1", "/proc/sys/net/ipv6/conf/all/disable_ipv6": "0"},
    skipping={"/proc/sys/kernel/ostype": "Linux"},
)
def _ipv6(device: Device) -> Finding:
    if "ipv6.disable=1" in command_line(device):
        return passed("kernel command line: ipv6.disable=1")
    key = "net.ipv6.conf.all.disable_ipv6"
    now, setting = device.value(sysctl_path(key)), configured(device, key)
    if now is None and device.exists("/proc/sys/kernel"):
        return skipped("this kernel has no IPv6")
    if now in {None, "1"} and setting is not None and setting.value == "1":
        return passed(setting.line)
    return failed(f"{sysctl_path(key)}: {now}", setting.line if setting else f"{key} is not configured")
