"""Real programs sign users in; the collector tells each event once.

sshd, login, su, sudo and telnetd as the distribution ships them, in a private view of the file system.
"""

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from sandbox import Sandbox, converse, obstacle
from support import PATIENCE_S, free_port
from vedette.agent.collectors.login import LoginCollector
from vedette.wire.events import Login
from vedette.wire.twin import Settings

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(obstacle()), reason=obstacle()),
]

Script = Sequence[tuple[str, str]]
PASSWORD = "correct horse"
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
TELNETD = shutil.which("telnetd", path="/usr/sbin") or shutil.which("in.telnetd", path="/usr/sbin")
SUDO = shutil.which("sudo")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    box = Sandbox(tmp_path_factory.mktemp("logins"))
    box.user_id = box.add_user("alice", PASSWORD)
    box.other_id = box.add_user("carol", PASSWORD)
    yield box
    box.close()


@pytest.fixture(scope="module")
def sshd(box: Sandbox) -> Iterator["Sshd"]:
    if not SSHD:
        pytest.skip("needs openssh-server")
    server = Sshd(box)
    yield server
    server.stop()


@pytest.fixture
async def logins(box: Sandbox, tmp_path: Path) -> AsyncIterator["Logins"]:
    collector = LoginCollector(tmp_path / "login.json", box.root)
    await collector.start(Settings())
    yield Logins(collector, box)
    await collector.stop()


class Logins:
    """Waits for what the collector tells."""

    def __init__(self, collector: LoginCollector, box: Sandbox) -> None:
        self._collector = collector
        self._syslog = box.syslog

    async def told(self) -> list[tuple[str, str, str, str]]:
        """All events until now: everything before a failure that is logged here, behind what waits."""
        self._syslog.send("su[1]: FAILED SU (to carol) mark on none")
        told: list[Login] = []
        async with asyncio.timeout(PATIENCE_S):
            while not told or told[-1].process_id != 1:
                for event in (await self._collector.collect()).events:
                    told += [event.payload] * event.hits
                await asyncio.sleep(0.02)
        self.processes = [login.process_id for login in told[:-1]]
        return [
            (login.operation, login.user_name, login.executable, login.remote_address) for login in told[:-1]
        ]


class Sshd:
    """A server on loopback, and its clients."""

    def __init__(self, box: Sandbox) -> None:
        self._port = str(free_port())
        self._key = box.root / "run/key"
        self._ssh_directory(box)
        box.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/host")
        (box.root / "run/sshd_config").write_text(
            f"Port {self._port}\nListenAddress 127.0.0.1\nListenAddress ::1\nHostKey /run/host\n"
            "UsePAM yes\nPidFile none\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\n"
        )
        self._server = subprocess.Popen(box.command(SSHD, "-D", "-f", "/run/sshd_config"))
        while not self._listens():
            assert self._server.poll() is None

    def _ssh_directory(self, box: Sandbox) -> None:
        box.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/key")
        directory = box.root / "home/alice/.ssh"
        directory.mkdir(mode=0o700)
        shutil.copy(self._key.with_suffix(".pub"), directory / "authorized_keys")
        box.run("chown", "-R", "alice", "/home/alice")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", int(self._port))).close()
        except ConnectionRefusedError:
            return False
        return True

    async def connect(self, *argv: str, script: Script = (), password: bool = False) -> None:
        """Run a client to its end, then wait until the server is done with it."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes")
        client = [
            *("ssh", "-F", "/dev/null", "-p", self._port, "-i", str(self._key)),
            *(f"-o{option}" for option in options),
            f"-oPubkeyAuthentication={'no' if password else 'yes'}",
            *argv,
        ]
        await asyncio.to_thread(converse, client, script)
        async with asyncio.timeout(PATIENCE_S):
            while psutil.Process(self._server.pid).children():
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait(PATIENCE_S)


async def test_a_session_without_a_terminal_is_one_login_and_one_logout(sshd: Sshd, logins: Logins):
    """Three lines of the log tell of it, and no record."""
    await sshd.connect("alice@127.0.0.1", "true")
    assert await logins.told() == [
        ("Login", "alice", "ssh:notty", "127.0.0.1"),
        ("Logout", "alice", "ssh:notty", "127.0.0.1"),
    ]
    assert logins.processes[0] == logins.processes[1]


async def test_a_session_on_a_terminal_is_one_login_and_one_logout(sshd: Sshd, logins: Logins):
    """wtmp knows the terminal, the log the address; the event has both."""
    await sshd.connect("-tt", "alice@::1", script=[("$ ", "tty; exit\n")])
    (login, user, terminal, remote), logout = await logins.told()
    assert (login, user, remote) == ("Login", "alice", "::1")
    assert terminal.startswith("pts/")
    assert logout == ("Logout", "alice", terminal, "::1")


async def test_each_wrong_password_is_one_failure(sshd: Sshd, logins: Logins):
    """btmp and the log tell of each; the login that follows is none."""
    script = [("password:", "wrong\n"), ("password:", "also wrong\n"), ("password:", f"{PASSWORD}\n")]
    await sshd.connect("alice@127.0.0.1", "true", script=script, password=True)
    assert await logins.told() == [
        ("LoginFailed", "alice", "ssh:notty", "127.0.0.1"),
        ("LoginFailed", "alice", "ssh:notty", "127.0.0.1"),
        ("Login", "alice", "ssh:notty", "127.0.0.1"),
        ("Logout", "alice", "ssh:notty", "127.0.0.1"),
    ]
    assert len(set(logins.processes)) == 1


async def test_an_unknown_user_is_one_failure_without_his_name(sshd: Sshd, logins: Logins):
    """Two records and four lines tell of it; the name may be a password and is withheld."""
    await sshd.connect("tr0ub4dor@127.0.0.1", script=[("password:", "x\n"), ("password:", "")], password=True)
    assert await logins.told() == [("LoginFailed", "UNKNOWN", "ssh:notty", "127.0.0.1")]


async def test_a_refused_key_is_a_failure_too(sshd: Sshd, logins: Logins):
    """The account was named and not obtained, though sshd calls it a closed connection."""
    await sshd.connect("-oBatchMode=yes", "carol@127.0.0.1", script=[("Permission denied", "")])
    assert await logins.told() == [("LoginFailed", "carol", "ssh:notty", "127.0.0.1")]


@pytest.mark.parametrize(
    "name",
    ["x from 203.0.113.9 port 1 ssh2", "x 203.0.113.9 port 1: y", "sshd[1]: Accepted password for root"],
)
async def test_a_crafted_name_forges_neither_event_nor_address(sshd: Sshd, logins: Logins, name: str):
    """What is written by sshd is the last in its sentence."""
    await sshd.connect(
        "-l", name, "127.0.0.1", script=[("password:", "x\n"), ("password:", "")], password=True
    )
    assert await logins.told() == [("LoginFailed", "UNKNOWN", "ssh:notty", "127.0.0.1")]


async def test_sessions_side_by_side_stay_apart(sshd: Sshd, logins: Logins):
    """Four of one user from one address at one time are four logins and four logouts."""
    await asyncio.gather(*(sshd.connect("-tt", "alice@127.0.0.1", "true") for _ in range(4)))
    told = await logins.told()
    assert sorted(operation for operation, *_ in told) == ["Login"] * 4 + ["Logout"] * 4
    assert len(set(logins.processes)) == 4


async def test_what_happens_while_the_agent_is_down_is_told_once(sshd: Sshd, box: Sandbox, tmp_path: Path):
    """Login before, logout after: the places and the open sessions outlive the agent."""
    first = LoginCollector(tmp_path / "state.json", box.root)
    await first.start(Settings())
    await sshd.connect("alice@127.0.0.1", "true")
    box.syslog.settle()
    assert len((await first.stop()).events) == 2
    await sshd.connect("carol@127.0.0.1", script=[("password:", "x\n"), ("password:", "")], password=True)
    box.syslog.settle()
    second = LoginCollector(tmp_path / "state.json", box.root)
    await second.start(Settings())
    told = [event.payload for event in (await second.stop()).events]
    assert [(login.operation, login.user_name) for login in told] == [("LoginFailed", "carol")]


async def test_login_on_a_terminal(box: Sandbox, logins: Logins):
    """A wrong password, the right one, and the end of the session; the terminal is from the records."""
    script = [
        *(("login:", "alice\n"), ("assword:", "wrong\n")),
        *(("login:", "alice\n"), ("assword:", f"{PASSWORD}\n"), ("$ ", "exit\n")),
    ]
    await asyncio.to_thread(converse, box.command("login"), script)
    told = await logins.told()
    assert [(operation, user, remote) for operation, user, _, remote in told] == [
        ("LoginFailed", "alice", "0.0.0.0"),
        ("Login", "alice", "0.0.0.0"),
        ("Logout", "alice", "0.0.0.0"),
    ]
    assert {terminal[:4] for _, _, terminal, _ in told} == {"pts/"}


async def test_su_from_another_user(box: Sandbox, logins: Logins):
    """The account that was asked for is named, not the one that asked."""
    su = box.command("setpriv", f"--reuid={box.other_id}", "--clear-groups", "su", "alice")
    await asyncio.to_thread(converse, su, [("assword:", "wrong\n")])
    await asyncio.to_thread(converse, su, [("assword:", f"{PASSWORD}\n"), ("$ ", "exit\n")])
    told = await logins.told()
    assert [(operation, user, terminal[:4], remote) for operation, user, terminal, remote in told] == [
        ("LoginFailed", "alice", "pts/", "0.0.0.0"),
        ("Login", "alice", "pts/", "0.0.0.0"),
        ("Logout", "alice", "pts/", "0.0.0.0"),
    ]


async def test_sshd_through_the_pam_hook(sshd: Sshd, box: Sandbox, tmp_path: Path):
    """A failure, a login and the end of its process, from our log alone."""
    installer = Path(__file__).parents[2] / "packaging" / "pam" / "install.py"
    box.run(sys.executable, str(installer), "install", "--yes")
    collector = LoginCollector(tmp_path / "state.json", box.root)
    await collector.start(Settings(login_use_pam=True))
    script = [("password:", "wrong\n"), ("password:", f"{PASSWORD}\n"), ("$ ", "exit\n")]
    await sshd.connect("-tt", "alice@127.0.0.1", script=script, password=True)
    told = [event.payload for event in (await collector.stop()).events]
    box.run(sys.executable, str(installer), "remove", "--yes")
    assert [(login.operation, login.user_name, login.executable, login.remote_address) for login in told] == [
        ("LoginFailed", "alice", "ssh:notty", "127.0.0.1"),
        ("Login", "alice", "ssh:notty", "127.0.0.1"),
        ("Logout", "alice", "ssh:notty", "127.0.0.1"),
    ]


@pytest.mark.skipif(not SUDO, reason="needs sudo")
async def test_sudo(box: Sandbox, logins: Logins):
    """Three refusals in one sentence are three failures; a command is a login as root and its end."""
    (box.root / "etc/sudoers").write_text("alice ALL=(ALL) ALL\n")
    sudo = box.command(
        "setpriv", f"--reuid={box.user_id}", "--clear-groups", SUDO, "-k", "-p", "word?", "true"
    )
    await asyncio.to_thread(converse, sudo, [("word?", "wrong\n")] * 3)
    await asyncio.to_thread(converse, sudo, [("word?", f"{PASSWORD}\n")])
    told = await logins.told()
    assert [(operation, user) for operation, user, *_ in told] == [
        *[("LoginFailed", "alice")] * 3,
        ("Login", "root"),
        ("Logout", "root"),
    ]


@pytest.mark.skipif(not TELNETD, reason="needs telnetd (inetutils-telnetd)")
async def test_telnet(box: Sandbox, logins: Logins):
    """telnetd lets login ask; the records know where the client is."""
    script = [
        *(("login:", "alice\n"), ("assword:", "wrong\n")),
        *(("login:", "alice\n"), ("assword:", f"{PASSWORD}\n"), ("$ ", "exit\n")),
    ]
    await asyncio.to_thread(telnet, box, script)
    told = await logins.told()
    assert [(operation, user, terminal[:4], remote) for operation, user, terminal, remote in told] == [
        ("LoginFailed", "alice", "pts/", "127.0.0.1"),
        ("Login", "alice", "pts/", "127.0.0.1"),
        ("Logout", "alice", "pts/", "127.0.0.1"),
    ]


def telnet(box: Sandbox, script: Script) -> None:
    """A telnetd for one connection, and a client that refuses every option."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            daemon = subprocess.Popen(box.command(TELNETD), stdin=server, stdout=server, stderr=server)
        client.settimeout(PATIENCE_S)
        received = b""
        for expected, answer in script:
            while expected.encode() not in received:
                received += refuse_options(client)
            received = received.split(expected.encode(), 1)[1]
            client.sendall(answer.replace("\n", "\r\n").encode())
        while refuse_options(client):
            pass
        daemon.wait(PATIENCE_S)


IAC, SB, SE, WILL, DO = 255, 250, 240, 251, 253


def refuse_options(client: socket.socket) -> bytes:
    """What the server sends next, without its commands; `WILL x` is answered `DONT x`, `DO x` `WONT x`."""
    data, text = client.recv(4_096), bytearray()
    at = 0
    while at < len(data):
        if data[at] != IAC:
            text.append(data[at])
            at += 1
        elif data[at + 1] == SB:
            at = data.index(bytes((IAC, SE)), at) + 2
        else:
            if data[at + 1] in {WILL, DO}:
                client.sendall(bytes((IAC, 254 if data[at + 1] == WILL else 252, data[at + 2])))
            at += 3
    return bytes(text) or (b"\0" if data else b"")
