"""Chapter 2: services that a device offers or uses, and its clock."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vedette.agent.baseline.declare import (
    Finding,
    Severity,
    Tally,
    check,
    failed,
    on_device,
    passed,
    skipped,
    verdict,
)
from vedette.agent.baseline.device import Device, container
from vedette.agent.baseline.families import not_installed, service_example, service_off
from vedette.agent.baseline.services import enabled, installed, internet_services, listeners
from vedette.agent.baseline.tree import File

# 2.1: services of inetd, and their like under systemd


def _internet_service(number: str, names: Sequence[str], sentence: str, severity: Severity) -> None:
    @check(
        number,
        sentence,
        f"Remove the line of {names[0]} from /etc/inetd.conf, or set `disable = yes` in /etc/xinetd.d, or run"
        f" `systemctl disable --now {names[-1]}.socket`.",
        severity=severity,
        passing={"/etc/inetd.conf": f"#{names[0]} stream tcp nowait root internal\n"},
        failing={"/etc/inetd.conf": f"{names[0]} stream tcp nowait root internal\n"},
    )
    def probe(device: Device) -> Finding:
        offered = internet_services(device)
        signs = [offered[name] for name in names if name in offered]
        started = enabled(device, *names)
        if started:
            signs.append(f"{started} starts it")
        return failed(*signs) if signs else passed(f"neither inetd nor systemd offers {', '.join(names)}")


for number, name, purpose in (
    ("2.1.1", "chargen", "answers with endless characters, good for reflected floods"),
    ("2.1.2", "daytime", "tells the time to anybody, in the clear"),
    ("2.1.3", "discard", "takes data and throws it away"),
    ("2.1.4", "echo", "sends everything back, good for reflected floods"),
    ("2.1.5", "time", "tells the time to anybody, in the clear"),
):
    sentence = f"The test service {name} is off: it {purpose}."
    _internet_service(number, [name, f"{name}-stream", f"{name}-dgram"], sentence, Severity.WARNING)

for number, names, sentence in (
    (
        "2.1.6",
        ["shell", "login", "exec", "rsh", "rlogin", "rexec"],
        "The r services (rsh, rlogin, rexec), which trust addresses, are off.",
    ),
    ("2.1.7", ["talk", "ntalk"], "The talk service, unencrypted and unused, is off."),
    ("2.1.8", ["telnet", "telnetd"], "The telnet server, which takes passwords in the clear, is off."),
    ("2.1.9", ["tftp", "tftpd-hpa", "atftpd"], "The TFTP server, which asks nobody who he is, is off."),
):
    _internet_service(number, names, sentence, Severity.CRITICAL)

service_off("2.1.10", ["xinetd"], "The super server xinetd does not run, as nothing should need it.")

# 2.2.1: time

_CLOCKS = ("systemd-timesyncd", "chronyd", "chrony", "ntp", "ntpd", "ntpsec", "openntpd", "sysntpd", "S49ntp")


@check(
    "2.2.1.1",
    "The clock is kept right from the network: without it logs, certificates and tokens mislead.",
    "Enable one of systemd-timesyncd, chrony, ntp, or BusyBox ntpd.",
    severity=Severity.IMPORTANT,
    passing=service_example("systemd-timesyncd"),
    failing=service_example("systemd-timesyncd", started=False),
    skipping={"/.dockerenv": ""},
)
def _clock(device: Device) -> Finding:
    host = container(device)
    if host:
        return skipped(f"{host}: a container has its host's clock")
    sign = enabled(device, *_CLOCKS)
    return passed(sign) if sign else failed(f"nothing starts any of {', '.join(_CLOCKS)}")


_NTP = ("/etc/ntp.conf", "/etc/ntpsec/ntp.conf")


@check(
    "2.2.1.2",
    "ntpd asks servers that were chosen, answers strangers nothing but the time, and is not root.",
    "In /etc/ntp.conf give server or pool, and `restrict default kod nomodify notrap nopeer noquery`; start"
    " it with `-u ntp`.",
    passing={
        "/usr/sbin/ntpd": File("", 0o755),
        "/etc/ntp.conf": "pool pool.ntp.org\nrestrict default kod nomodify notrap nopeer noquery\n",
    },
    failing={"/usr/sbin/ntpd": File("", 0o755), "/etc/ntp.conf": "pool pool.ntp.org\nrestrict default\n"},
    skipping={},
)
def _ntp(device: Device) -> Finding:
    lines = device.lines_of(*_NTP)
    if not lines or not installed(device, "ntpd", "ntp", "ntpsec"):
        return skipped("ntpd is not installed")
    tally = Tally()
    servers = [line for line in lines if line.text.split()[0] in {"server", "pool", "peer"}]
    tally.add(bool(servers), servers[0] if servers else f"{lines[0].path}: no server")
    defaults = [line for line in lines if re.match(r"restrict\s+(-[46]\s+)?default\b", line.text)]
    for line in defaults:
        tally.add({"nomodify", "noquery"} <= set(line.text.split()), line)
    if not defaults:
        tally.add(False, f"{lines[0].path}: no `restrict default`")
    for line in device.lines_of("/etc/sysconfig/ntpd"):
        if line.text.startswith("OPTIONS="):
            tally.add("-u" in line.text, line)
    return tally.finding("")


_CHRONY = ("/etc/chrony.conf", "/etc/chrony/chrony.conf", "/etc/chrony/conf.d/*.conf", "/etc/chrony.d/*.conf")


@check(
    "2.2.1.3",
    "chrony asks servers that were chosen, and is not root.",
    "Give server or pool in chrony.conf; do not set `user root`.",
    passing={"/usr/sbin/chronyd": File("", 0o755), "/etc/chrony/chrony.conf": "pool pool.ntp.org iburst\n"},
    failing={"/usr/sbin/chronyd": File("", 0o755), "/etc/chrony/chrony.conf": "driftfile /var/lib/x\n"},
    skipping={},
)
def _chrony(device: Device) -> Finding:
    if not installed(device, "chronyd", "chrony"):
        return skipped("chrony is not installed")
    lines = device.lines_of(*_CHRONY, "/etc/chrony/sources.d/*.sources", comment="#!;%")
    tally = Tally()
    servers = [line for line in lines if line.text.split()[0] in {"server", "pool", "peer", "refclock"}]
    tally.add(bool(servers), servers[0] if servers else "chrony.conf: no server")
    for line in lines:
        if line.text.split()[0] == "user":
            tally.add(line.text.split()[-1] != "root", line)
    return tally.finding("")


@check(
    "2.2.1.4",
    "systemd-timesyncd, where installed, is what keeps the clock, or something else does.",
    "Run `systemctl enable --now systemd-timesyncd`; disable it if chrony or ntpd runs.",
    passing=service_example("systemd-timesyncd"),
    failing=service_example("systemd-timesyncd") | service_example("chrony"),
    skipping={},
)
def _timesyncd(device: Device) -> Finding:
    sign = enabled(device, "systemd-timesyncd")
    other = enabled(device, *_CLOCKS[1:])
    if sign and other:
        return failed(sign, other)
    if sign:
        servers = device.lines_of("/etc/systemd/timesyncd.conf", "/etc/systemd/timesyncd.conf.d/*.conf")
        return passed(sign, *(line for line in servers if re.match(r"(Fallback)?NTP=.", line.text)))
    return skipped("systemd-timesyncd does not run here")


# 2.2: servers


@check(
    "2.2.2",
    "No X server is installed: a device shows one program, or nothing.",
    "Remove xserver-xorg-core and its dependants.",
    off=on_device(
        lambda device: "a display manager runs: the device has a screen" if _screen(device) else None
    ),
    passing={"/usr/bin/env": ""},
    failing={"/usr/bin/Xorg": File("", 0o755)},
)
def _x_server(device: Device) -> Finding:
    sign = installed(device, "Xorg", "xserver-xorg-core", "xorg-x11-server-Xorg", "xorg-server")
    return failed(sign) if sign else passed("no X server")


def _screen(device: Device) -> bool:
    return enabled(device, "gdm", "gdm3", "lightdm", "sddm", "nodm") is not None or device.exists(
        "/etc/systemd/system/display-manager.service"
    )


for number, services, sentence, severity in (
    (
        "2.2.3",
        "avahi-daemon",
        "The device does not announce itself and its services (avahi).",
        Severity.WARNING,
    ),
    ("2.2.4", "cups cupsd", "No print server runs (CUPS): a device has nothing to print.", Severity.WARNING),
    (
        "2.2.5",
        "isc-dhcp-server isc-dhcp-server6 dhcpd dhcpd6 kea-dhcp4-server udhcpd",
        "No DHCP server runs: it would hand out addresses and routes.",
        Severity.WARNING,
    ),
    ("2.2.6", "slapd openldap", "No LDAP server runs: directories belong on servers.", Severity.WARNING),
    (
        "2.2.7",
        "nfs-server nfs-kernel-server nfs rpcbind portmap nfsd",
        "No NFS server and no RPC port mapper runs.",
        Severity.IMPORTANT,
    ),
    (
        "2.2.8",
        "named bind9 bind knot nsd pdns",
        "No DNS server for others runs: an open one serves floods.",
        Severity.WARNING,
    ),
    (
        "2.2.9",
        "vsftpd proftpd pure-ftpd ftpd",
        "No FTP server runs: it takes passwords in the clear.",
        Severity.IMPORTANT,
    ),
    (
        "2.2.10",
        "apache2 httpd nginx lighttpd uhttpd caddy",
        "No web server runs, unless the device's purpose is to have one.",
        Severity.WARNING,
    ),
    (
        "2.2.11",
        "dovecot cyrus-imapd courier-imap",
        "No mailbox server runs (IMAP, POP3): mail belongs on servers.",
        Severity.WARNING,
    ),
    (
        "2.2.12",
        "smbd smb samba samba-ad-dc ksmbd",
        "No file server for Windows runs (Samba), often attacked by worms.",
        Severity.IMPORTANT,
    ),
    (
        "2.2.13",
        "squid tinyproxy privoxy",
        "No web proxy runs: others would reach the network through it.",
        Severity.WARNING,
    ),
    (
        "2.2.14",
        "snmpd",
        "No SNMP agent runs: versions 1 and 2 have no passwords worth the name.",
        Severity.IMPORTANT,
    ),
    ("2.2.16", "rsync rsyncd", "No rsync service runs: its own protocol is unencrypted.", Severity.IMPORTANT),
    (
        "2.2.17",
        "nis ypserv ypbind yppasswdd",
        "No NIS service runs: it hands out password hashes.",
        Severity.IMPORTANT,
    ),
):
    service_off(number, services.split(), sentence, severity=severity)


@check(
    "2.2.15",
    "A mail server, if there is one, takes mail from this device only.",
    "Set inet_interfaces = loopback-only (postfix) or dc_local_interfaces='127.0.0.1 ; ::1' (exim).",
    passing={"/etc/postfix/main.cf": "inet_interfaces = loopback-only\n"},
    failing={"/etc/postfix/main.cf": "inet_interfaces = all\n"},
)
def _local_mail(device: Device) -> Finding:
    if device.exists("/proc/net/tcp"):
        outside = [it for it in listeners(device) if it.protocol == "tcp" and it.port in {25, 465, 587}]
        outside = [it for it in outside if not it.loopback]
        return failed(*outside) if outside else passed("/proc/net/tcp: no mail port is open to others")
    for line in device.lines("/etc/postfix/main.cf"):
        key, _, value = (part.strip() for part in line.text.partition("="))
        if key == "inet_interfaces":
            return verdict(value in {"loopback-only", "localhost", "127.0.0.1"}, line)
    return passed("no mail server is configured")


# 2.3: clients

for number, programs, sentence in (
    ("2.3.1", "ypbind yp-tools nis", "The client of NIS, which trusts the network, is not installed."),
    (
        "2.3.2",
        "rsh rlogin rcp rsh-client",
        "The r commands, which send passwords in the clear, are not installed.",
    ),
    ("2.3.3", "talk ntalk", "The talk client, unencrypted and unused, is not installed."),
    (
        "2.3.4",
        "telnet inetutils-telnet",
        "The telnet client, which sends passwords in the clear, is not installed.",
    ),
    ("2.3.5", "ldapsearch ldap-utils openldap-clients", "LDAP clients are not installed unless used."),
):
    not_installed(number, programs.split(), sentence, severity=Severity.INFORMATIONAL)
