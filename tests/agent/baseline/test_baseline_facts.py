"""Formats are understood as the programs that own them understand them."""

import pytest

from vedette.agent.baseline import kernel, sshd
from vedette.agent.baseline.accounts import accounts, people, secrets
from vedette.agent.baseline.ch4_auditing import audit_rules
from vedette.agent.baseline.device import Device
from vedette.agent.baseline.firewall import Rule, rules4, rules6
from vedette.agent.baseline.mounts import mounts
from vedette.agent.baseline.search import KEPT_PATHS, Kind, search
from vedette.agent.baseline.services import (
    Listener,
    enabled_services,
    installed,
    internet_services,
    listeners,
    packages,
)
from vedette.agent.baseline.tree import Directory, Example, File, Link, MemoryTree


def device(example: Example) -> Device:
    """A device in memory."""
    return Device(MemoryTree(example))


def test_the_last_sysctl_line_decides_and_etc_hides_a_file_of_the_same_name():
    """systemd-sysctl(8): files in order of their names, whatever directory they are in."""
    it = device(
        {
            "/usr/lib/sysctl.d/50-default.conf": "net.ipv4.conf.*.rp_filter = 2\nkernel.sysrq = 16\n",
            "/etc/sysctl.d/60-own.conf": "net/ipv4/conf/all/rp_filter = 1\n",
            "/usr/lib/sysctl.d/60-own.conf": "net.ipv4.conf.all.rp_filter = 0\n",
            "/etc/sysctl.d/10-early.conf": "kernel.sysrq = 0\n",
        }
    )
    assert kernel.configured(it, "net.ipv4.conf.all.rp_filter").value == "1"
    assert kernel.configured(it, "net.ipv4.conf.default.rp_filter").value == "2"
    assert kernel.configured(it, "kernel.sysrq").value == "16"
    assert kernel.configured(it, "kernel.panic") is None


def test_modules_are_found_compressed_built_in_and_under_either_spelling():
    """modules.dep, modules.builtin, and bare .ko files as OpenWrt has them."""
    it = device(
        {
            "/proc/sys/kernel/osrelease": "6.1.0\n",
            "/lib/modules/6.1.0/modules.dep": "kernel/drivers/usb/usb-storage.ko.xz: kernel/x.ko\n",
            "/lib/modules/6.1.0/modules.builtin": "kernel/fs/fat/vfat.ko\n",
            "/lib/modules/6.1.0/sctp.ko": "",
            "/lib/modules/5.10/modules.dep": "kernel/net/dccp/dccp.ko:\n",
        }
    )
    assert set(kernel.module_files(it)) == {"usb_storage", "vfat", "sctp"}


def test_services_of_systemd_count_if_wanted_and_not_masked():
    """A mask wins, and a link to a unit that is gone starts nothing."""
    wants = "/etc/systemd/system/multi-user.target.wants"
    it = device(
        {
            "/lib/systemd/systemd": "",
            "/lib/systemd/system/cron.service": "",
            "/lib/systemd/system/cups.service": "",
            f"{wants}/cron.service": Link("/lib/systemd/system/cron.service"),
            f"{wants}/cups.service": Link("/lib/systemd/system/cups.service"),
            f"{wants}/gone.service": Link("/lib/systemd/system/gone.service"),
            "/etc/systemd/system/cups.service": Link("/dev/null"),
            "/etc/rc2.d/S01apache2": "",
        }
    )
    assert set(enabled_services(it)) == {"cron"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/etc/runlevels/default/crond", "crond"),
        ("/etc/rc.d/S50dropbear", "dropbear"),
        ("/etc/init.d/S40network", "network"),
        ("/etc/rc3.d/S01rsyslog", "rsyslog"),
    ],
)
def test_services_of_other_inits_are_their_links(path: str, name: str):
    """OpenRC, procd, BusyBox, System V."""
    assert enabled_services(device({path: ""})) == {name: path}


def test_a_script_that_is_not_started_is_no_service():
    """/etc/init.d holds what could start."""
    assert enabled_services(device({"/etc/init.d/telnetd": "", "/etc/rc.d/K50telnetd": ""})) == {}


def test_packages_of_dpkg_apk_and_opkg_count_if_installed():
    """A removed package whose configuration remains is not installed."""
    it = device(
        {
            "/var/lib/dpkg/status": "Package: a\nStatus: install ok installed\n\n"
            "Package: b\nStatus: deinstall ok config-files\n",
            "/lib/apk/db/installed": "C:Q1x\nP:c\nV:1\n\nP:d\n",
            "/usr/lib/opkg/status": "Package: e\nStatus: install user installed\n",
        }
    )
    assert packages(it) == {"a", "c", "d", "e"}
    assert installed(it, "x", "c") == "package c is installed"
    assert installed(it, "b") is None


def test_inetd_and_xinetd_offer_what_is_not_commented_or_disabled():
    """One super server has lines, the other blocks."""
    it = device(
        {
            "/etc/inetd.conf": "#echo stream tcp nowait root x\ntime stream tcp nowait root internal\n",
            "/etc/xinetd.d/telnet": "service telnet\n{\n  disable = no\n}\n",
            "/etc/xinetd.d/tftp": "service tftp\n{\n  disable = yes\n}\n",
        }
    )
    assert set(internet_services(it)) == {"time", "telnet"}


def test_listeners_are_waiting_tcp_and_unconnected_udp_sockets():
    """/proc/net: state 0A listens, 07 is a UDP socket without a peer; loopback in both families."""
    it = device(
        {
            "/proc/net/tcp": "  sl  local_address rem_address   st\n"
            "   0: 00000000:0016 00000000:0000 0A\n"
            "   1: 0100007F:0CEA 00000000:0000 0A\n"
            "   2: 0100007F:0016 0100007F:9C40 01\n",
            "/proc/net/udp6": "  sl  local_address rem_address   st\n"
            "   0: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07\n",
        }
    )
    assert listeners(it) == [
        Listener("tcp", 22, False, 4),
        Listener("tcp", 3306, True, 4),
        Listener("udp", 53, True, 6),
    ]


def test_password_fields_are_judged_where_they_are_read_and_go_no_further():
    """Nothing that leaves the module holds the hash."""
    it = device(
        {
            "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nguest::1001:1001::/home/g:/bin/sh\n"
            "svc:x:33:33::/:/usr/sbin/nologin\n+nis::::::\nbroken:line\nodd:x:ten:x::/:/bin/sh\n",
            "/etc/shadow": "root:$6$salt$hash:19000:0:99999:7:::\nguest::19000::::::\nsvc:!*:19000::::::\n",
        }
    )
    states = {name: secret.state for name, secret in secrets(it).items()}
    assert states == {"root": "set", "guest": "empty", "svc": "locked"}
    assert "hash" not in repr((accounts(it), secrets(it)))
    assert [(account.name, account.uid) for account in accounts(it)][-1] == ("odd", -1)
    assert [account.name for account in people(it)] == ["root", "guest", "odd"]


def test_sshd_takes_the_first_line_of_an_option_and_ignores_match_blocks():
    """sshd_config(5): the first value counts; Include stands for its files in that place."""
    it = device(
        {
            "/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin yes\n"
            "maxauthtries=3\nMatch User x\nX11Forwarding yes\n",
            "/etc/ssh/sshd_config.d/10-own.conf": "PermitRootLogin\tno\n",
        }
    )
    options = sshd.options(it)
    assert sshd.value(options["permitrootlogin"]) == "no"
    assert options["permitrootlogin"].path == "/etc/ssh/sshd_config.d/10-own.conf"
    assert sshd.value(options["maxauthtries"]) == "3"
    assert sshd.value(options["x11forwarding"]) == "no"


def test_an_include_that_includes_itself_ends():
    """A loop costs a bounded number of files."""
    it = device({"/etc/ssh/sshd_config": "Include sshd_config\nPort 22\n"})
    assert sshd.value(sshd.options(it)["port"]) == "22"


@pytest.mark.parametrize(
    ("setting", "has_sha1"),
    [("hmac-sha1", True), ("hmac-sha2-256", False), ("+hmac-md5", True), ("-hmac-sha1*,umac-*", False)],
)
def test_lists_of_algorithms_can_change_the_default(setting: str, has_sha1: bool):
    """`+` adds to OpenSSH's own list, `-` takes patterns away."""
    it = device({"/etc/ssh/sshd_config": f"MACs {setting}\n"})
    assert ("hmac-sha1" in sshd.algorithms(sshd.options(it)["macs"])) == has_sha1


def test_sshd_itself_is_believed_before_its_files():
    """What the program says is what counts."""
    it = device({"/etc/ssh/sshd_config": "PermitRootLogin yes\n", "$ sshd -T": "permitrootlogin no\n"})
    assert str(sshd.options(it)["permitrootlogin"]) == "sshd -T: permitrootlogin no"


NFT = """
table inet filter {
    set blocked {
        type ipv4_addr
        elements = { 192.0.2.1, 192.0.2.2 }
    }
    chain ssh { tcp dport { 22, 2222 } accept; }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state vmap { established : accept,
                        related : accept }
        jump ssh
    }
    chain prerouting { type nat hook prerouting priority dstnat; policy accept; }
}
table ip6 raw { chain input { type filter hook input priority raw; policy accept; } }
"""


def test_rules_of_nftables_are_those_of_filter_chains_with_what_they_jump_to():
    """One-line and many-line chains, sets inside rules, sets of their own, several families."""
    rules = rules4(device({"$ nft list ruleset": NFT}))
    assert [rule.text for rule in rules] == [
        "ct state vmap (established : accept, related : accept)",
        "jump ssh",
        "tcp dport (22, 2222) accept",
        "chain input ends with drop",
    ]
    assert {rule.hook for rule in rules} == {"input"}
    assert len(rules6(device({"$ nft list ruleset": NFT}))) == 5


def test_chains_that_jump_in_a_circle_end():
    """The kernel refuses such rules; a file may hold them."""
    text = """table ip f { chain a { jump b; }
    chain b { jump a; }
    chain input { type filter hook input priority 0; jump a; } }"""
    assert len(rules4(device({"/etc/nftables.conf": text}))) == 4


def test_rules_of_iptables_are_asked_or_saved():
    """`iptables -S` and iptables-save differ in how they state policies."""
    asked = rules4(device({"$ iptables -S": "-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n"}))
    saved = rules4(
        device(
            {
                "/etc/iptables/rules.v4": "*filter\n:INPUT DROP [0:0]\n"
                "-A INPUT -i lo -j ACCEPT\nCOMMIT\n*nat\n:INPUT ACCEPT\n"
            }
        )
    )
    assert (
        asked
        == saved
        == [
            Rule("input", "-i lo -j ACCEPT"),
            Rule("input", "chain INPUT ends with drop", "drop"),
        ]
    )


def test_an_audit_rule_is_the_same_in_either_spelling():
    """`-w` and `-F path= -F perm=`, one call an option or a list."""
    it = device(
        {
            "/etc/audit/rules.d/a.rules": "-w /etc/hosts -p wa -k net\n"
            "-a always,exit -F arch=b64 -F path=/etc/group -F perm=wa -F key=id\n"
            "-a always,exit -F arch=b64 -S adjtimex,settimeofday -S clock_settime -k time\n"
        }
    )
    hosts, group, clock = audit_rules(it)
    assert (hosts.paths, hosts.permissions) == ({"/etc/hosts"}, "wa")
    assert (group.paths, group.permissions) == ({"/etc/group"}, "wa")
    assert clock.calls == {"adjtimex", "settimeofday", "clock_settime"}


def test_a_mount_unit_counts_like_a_line_of_fstab():
    """An image has no /proc/mounts: what it would mount is what it asks for."""
    it = device(
        {
            "/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\nUUID=x /mnt/my\\040disk ext4 nodev 0 2\n",
            "/lib/systemd/system/tmp.mount": "[Mount]\nWhat=tmpfs\nWhere=/tmp\nOptions=nosuid,nodev\n",
            "/etc/systemd/system/local-fs.target.wants/tmp.mount": Link("/lib/systemd/system/tmp.mount"),
        }
    )
    assert set(mounts(it)) == {"/", "/mnt/my disk", "/tmp"}
    assert mounts(it)["/tmp"].options == {"nosuid", "nodev"}


TREE: Example = {
    "/etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "/etc/group": "root:x:0:\n",
    "/proc/mounts": "/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n"
    "srv:/x /net nfs rw 0 0\n/dev/b /data ext4 rw 0 0\n",
    "/proc/1/secret": File("", 0o666),
    "/net/remote": File("", 0o666),
    "/net": Directory(device=3),
    "/data": Directory(device=2),
    "/data/there": File("", 0o666),
    "/var/lib/docker/x": File("", 0o666),
    "/srv/link": Link("/proc"),
    "/srv/here": File("", 0o666),
}


def test_the_search_stays_on_the_root_file_system():
    """Other disks, other machines, pseudo file systems and containers are left out; so are links."""
    assert search(device(TREE)).found(Kind.WORLD_WRITABLE) == (["/srv/here"], 1)


def test_the_search_takes_in_local_disks_when_told_but_never_the_network():
    """`Baseline_OneFileSystem` false."""
    it = Device(MemoryTree(TREE), one_file_system=False)
    paths, count = search(it).found(Kind.WORLD_WRITABLE)
    assert (sorted(paths), count) == (["/data/there", "/srv/here"], 2)


def test_the_search_keeps_a_bounded_number_of_paths_and_counts_all():
    """A million bad files cost no more memory than a few."""
    files: Example = {f"/srv/{n}": File("", 0o666) for n in range(KEPT_PATHS + 10)}
    paths, count = search(device(files)).found(Kind.WORLD_WRITABLE)
    assert (len(paths), count) == (KEPT_PATHS, KEPT_PATHS + 10)


def test_the_search_goes_in_slices():
    """A step looks at so many files and no more."""
    it = search(device({f"/srv/{n}": "" for n in range(10)}))
    steps = 1
    while it.step(3):
        steps += 1
    assert steps == 4
