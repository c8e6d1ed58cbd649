"""Whole devices: a Debian server, an Alpine board, an OpenWrt router, a bare BusyBox image, a container."""

import pytest

from vedette.agent.baseline.catalogue import all_checks
from vedette.agent.baseline.declare import Profile
from vedette.agent.baseline.device import Device
from vedette.agent.baseline.scan import TRIGGER, Outcome, presentable, scan
from vedette.agent.baseline.tree import Directory, Example, File, Link, MemoryTree
from vedette.wire.baseline import GROUPS

HASH = "$6$rounds=5000$saltsalt$VeryS3cretHashValue"

DEBIAN: Example = {
    "/etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
    "/lib/systemd/systemd": File("", 0o755),
    "/usr/lib/systemd/systemd-journald": File("", 0o755),
    "/lib/systemd/system/ssh.service": "",
    "/etc/systemd/system/multi-user.target.wants/ssh.service": Link("/lib/systemd/system/ssh.service"),
    "/lib/systemd/system/systemd-timesyncd.service": "",
    "/etc/systemd/system/sysinit.target.wants/systemd-timesyncd.service": Link(
        "/lib/systemd/system/systemd-timesyncd.service"
    ),
    "/usr/sbin/sshd": File("", 0o755),
    "/usr/sbin/cron": File("", 0o755),
    "/etc/crontab": File("", 0o600),
    "/usr/bin/apt-get": File("", 0o755),
    "/usr/bin/passwd": File("", 0o4755),
    "/etc/ssh/sshd_config": File("PermitRootLogin no\n", 0o600),
    "/etc/ssh/ssh_host_ed25519_key": File("-----BEGIN OPENSSH PRIVATE KEY-----", 0o600),
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"
    "ann:x:1000:1000::/home/ann:/bin/bash\n",
    "/etc/shadow": File(
        f"root:{HASH}:19000:0:99999:7:::\ndaemon:*:1::::::\nann:{HASH}:19000:7:365:7:30::\n", 0o640, gid=42
    ),
    "/etc/group": "root:x:0:\ndaemon:x:1:\nshadow:x:42:\nann:x:1000:\n",
    "/root": Directory(0o700),
    "/home/ann": Directory(0o750, 1000, 1000),
    "/home/ann/.netrc": File(f"machine example.org login ann password {HASH}\n", 0o644, 1000, 1000),
    "/boot/grub/grub.cfg": File(f"password_pbkdf2 root {HASH}\n", 0o600),
    "/etc/apt/sources.list": f"deb https://ann:{HASH}@deb.example.org/debian bookworm main\n",
    "/etc/pam.d/common-password": "password [success=1] pam_unix.so yescrypt\n",
    "/proc/sys/kernel/ostype": "Linux",
    "/proc/sys/kernel/randomize_va_space": "2",
    "/proc/sys/net/ipv4/ip_forward": "0",
    "/proc/cmdline": "root=/dev/sda1 ro quiet",
    "/proc/mounts": "/dev/sda1 / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec 0 0\n",
    "/proc/net/dev": "",
    "/proc/net/tcp": "sl\n0: 00000000:0016 00000000:0000 0A\n",
    "/proc/net/if_inet6": "",
}

ALPINE: Example = {
    "/etc/os-release": "ID=alpine\nVERSION_ID=3.20.1\n",
    "/bin/busybox": File("", 0o755),
    "/usr/sbin/crond": Link("/bin/busybox"),
    "/usr/bin/telnet": Link("/bin/busybox"),
    "/sbin/apk": File("", 0o755),
    "/etc/apk/repositories": "https://dl.example.org/alpine/v3.20/main\n",
    "/etc/apk/keys/alpine.rsa.pub": "",
    "/lib/apk/db/installed": "P:chrony\nP:openssh-server\n",
    "/etc/init.d/crond": "",
    "/etc/init.d/chronyd": "",
    "/etc/runlevels/default/crond": Link("/etc/init.d/crond"),
    "/etc/runlevels/default/chronyd": Link("/etc/init.d/chronyd"),
    "/etc/chrony/chrony.conf": "pool pool.ntp.org iburst\n",
    "/etc/crontabs/root": "0 2 * * * run-parts /etc/periodic/daily\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/ash\n",
    "/etc/shadow": File("root:*::0:::::\n", 0o640, gid=42),
    "/etc/group": "root:x:0:\nshadow:x:42:\n",
    "/etc/inittab": "::sysinit:/sbin/openrc sysinit\ntty1::respawn:/sbin/getty 38400 tty1\n",
}

OPENWRT: Example = {
    "/etc/os-release": 'ID="openwrt"\nVERSION_ID="23.05.3"\n',
    "/etc/openwrt_release": "DISTRIB_ID='OpenWrt'\n",
    "/bin/busybox": File("", 0o755),
    "/bin/opkg": File("", 0o755),
    "/usr/sbin/nft": File("", 0o755),
    "/usr/sbin/dropbear": File("", 0o755),
    "/etc/opkg/distfeeds.conf": "src/gz core https://downloads.example.org/core\n",
    "/etc/opkg/keys/abcd": "",
    "/etc/init.d/sysntpd": "",
    "/etc/rc.d/S98sysntpd": Link("../init.d/sysntpd"),
    "/etc/init.d/dnsmasq": "",
    "/etc/rc.d/S19dnsmasq": Link("../init.d/dnsmasq"),
    "/etc/passwd": "root:x:0:0:root:/root:/bin/ash\n",
    "/etc/shadow": File("root::0:0:99999:7:::\n", 0o600),
    "/etc/group": "root:x:0:\n",
    "/etc/inittab": "::sysinit:/etc/init.d/rcS S boot\n::askfirst:/usr/libexec/login.sh\n",
    "/proc/sys/kernel/ostype": "Linux",
    "/proc/sys/net/ipv4/ip_forward": "1",
    "/proc/filesystems": "nodev\tproc\n\tsquashfs\n\tjffs2\n",
    "/proc/mounts": "/dev/root /rom squashfs ro 0 0\noverlayfs:/overlay / overlay rw 0 0\n",
}

BUSYBOX: Example = {
    "/bin/busybox": File("", 0o755),
    "/sbin/telnetd": Link("/bin/busybox"),
    "/etc/init.d/S50telnet": File("", 0o755),
    "/etc/inittab": "::respawn:-/bin/sh\n",
    "/etc/passwd": "root::0:0:root:/root:/bin/sh\n",
}

CONTAINER: Example = {
    "/.dockerenv": "",
    "/etc/os-release": "ID=debian\nVERSION_ID=12\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
}

DEVICES = {"debian": DEBIAN, "alpine": ALPINE, "openwrt": OPENWRT, "busybox": BUSYBOX, "container": CONTAINER}


def results(example: Example, profile: Profile = Profile.DEVICE) -> dict[str, Outcome]:
    """Number → outcome of a whole scan."""
    steps = scan(Device(MemoryTree(example)), all_checks(), profile)
    return {outcome.number: outcome for outcome in steps if outcome is not None}


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("name", DEVICES)
def test_every_device_gets_an_answer_to_every_check(name: str, profile: Profile):
    """237 results, whatever the device lacks; errors only where a program would have to be asked."""
    found = results(DEVICES[name], profile)
    assert len(found) == 237
    errors = {number for number, outcome in found.items() if outcome.result == "ERROR"}
    assert errors <= {"1.8", "6.1.1", *GROUPS["Firewall"]}
    assert all(outcome.reason for outcome in found.values() if outcome.result in {"SKIP", "ERROR"})
    assert all(outcome.evidence for outcome in found.values() if outcome.result in {"PASS", "FAIL"})


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("debian", "2.2.1.1", "PASS"),
        ("debian", "5.1.1", "FAIL"),  # cron has jobs and nothing starts it
        ("debian", "5.2.10", "PASS"),
        ("debian", "6.1.3", "PASS"),
        ("debian", "6.2.12", "FAIL"),
        ("debian", "6.2.13", "FAIL"),
        ("debian", "3.5.2.4", "FAIL"),
        ("alpine", "2.2.1.1", "PASS"),
        ("alpine", "2.2.1.3", "PASS"),
        ("alpine", "2.3.4", "FAIL"),  # an applet of BusyBox is a telnet client too
        ("alpine", "5.1.1", "PASS"),
        ("alpine", "5.1.8", "SKIP"),  # BusyBox' crond has no lists of users
        ("alpine", "5.3.1", "SKIP"),
        ("alpine", "1.4.3", "PASS"),
        ("alpine", "4.2.2.3", "SKIP"),
        ("openwrt", "2.2.1.1", "PASS"),
        ("openwrt", "3.1.1", "SKIP"),
        ("openwrt", "1.1.1.6", "SKIP"),
        ("openwrt", "1.4.3", "FAIL"),  # OpenWrt comes without a password for root
        ("openwrt", "5.2.10", "SKIP"),  # dropbear
        ("openwrt", "6.2.1", "FAIL"),
        ("busybox", "1.4.3", "FAIL"),
        ("busybox", "2.1.8", "FAIL"),
        ("busybox", "6.2.1", "FAIL"),
        ("container", "2.2.1.1", "SKIP"),
        ("container", "1.4.2", "SKIP"),
    ],
)
def test_a_device_is_judged_as_its_owner_would(name: str, number: str, expected: str):
    """Facts of each kind of system lead to the verdict that a person would reach."""
    outcome = results(DEVICES[name])[number]
    assert outcome.result == expected, outcome


def test_the_device_profile_says_why_a_check_is_off():
    """A skipped check names the profile and the reason, so that its owner can disagree."""
    found = results(DEBIAN)
    assert found["1.3.1"].result == "SKIP"
    assert found["1.3.1"].reason.startswith("off in profile device: ")
    assert results(DEBIAN, Profile.SERVER)["1.3.1"].result == "FAIL"
    assert found["4.1.5"].reason == "off in profile device: auditd is not installed"


def test_a_conditional_check_is_on_where_its_condition_holds():
    """4.1 is on in the device profile once auditd is installed, and 3.1.1 where nothing is forwarded."""
    found = results({**DEBIAN, "/usr/sbin/auditd": File("", 0o755)})
    assert found["4.1.2"].result == "PASS"
    assert found["4.1.5"].result == "FAIL"
    assert found["3.1.1"].result != "SKIP"


def test_ids_name_the_distribution_and_its_version():
    """As the hub and its users know them."""
    assert results(DEBIAN)["1.1.2"].check_id == "CIS-debian-12-Filesystem-1.1.2"
    assert results(ALPINE)["3.1.1"].check_id == "CIS-alpine-3.20.1-Network_Parameters_Host-3.1.1"
    assert results(BUSYBOX)["1.1.2"].check_id == "CIS-linux-rolling-Filesystem-1.1.2"


def test_no_outcome_holds_a_secret():
    """Hashes, keys and passwords are judged where they stand and are never told."""
    text = repr(list(results(DEBIAN, Profile.FULL).values()))
    assert "VeryS3cret" not in text
    assert "saltsalt" not in text
    assert "PRIVATE KEY" not in text


def test_the_trigger_file_adds_one_failed_check():
    """The documented end-to-end test: recommendation IoT_CISBenchmarks_DIoTTest."""
    found = results({**CONTAINER, TRIGGER: ""})
    assert len(found) == 238
    assert found["DIoTTest"].result == "FAIL"
    assert found["DIoTTest"].check_id.endswith("-DIoTTest")
    assert found["DIoTTest"].evidence == (TRIGGER,)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("deb https://ann:hunter2@deb.example.org x", "deb https://ann:***@deb.example.org x"),
        (
            'action(type="omhttp" pwd="hunter2" usehttps="on")',
            'action(type="omhttp" pwd="***" usehttps="on")',
        ),
        ("root:$6$salt$hunter2:19000:", "root:***"),
        ("password [success=1] pam_unix.so obscure", "password [success=1] pam_unix.so obscure"),
        ("/etc/passwd: root (uid 0)", "/etc/passwd: root (uid 0)"),
    ],
)
def test_what_looks_like_a_secret_is_masked_in_evidence(text: str, told: str):
    """Even if a check quotes a line that it should not."""
    assert presentable(text) == told


def test_evidence_is_bounded_and_printable():
    """A hostile file cannot fill a message or steer a terminal."""
    hosts = "".join(f"name{n}\x1b[31m{'x' * 500} ALL\n" for n in range(100))
    issue = {
        **CONTAINER,
        "/etc/motd": "Debian \x1b[2J\u202e" + "x" * 5_000 + "\n" + "debian\n" * 500,
        "/x": hosts,
    }
    evidence = results(issue)["1.7.1.1"].evidence
    assert len(evidence) == 9
    assert evidence[-1].startswith("and ")
    assert all(len(line) <= 240 and line.isprintable() for line in evidence)
