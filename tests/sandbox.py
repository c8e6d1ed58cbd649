"""A private view of the file system, in which real programs sign real users in and nothing outside changes.

A mount namespace: /etc and /usr are overlays (users, PAM files and a hook made in it vanish with it),
/var/log, /run and /home are directories of the test, /dev/log is a socket of the test. Processes, network
and terminals are the machine's own, so process ids and addresses are those that an agent outside sees; it
finds the files under `Sandbox.root`.
"""

import os
import pty
import re
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from support import PATIENCE_S

MOUNTS = r"""
set -e
mount --make-rprivate /
for dir in etc usr; do
    mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$1/$dir,workdir=$1/.$dir" "/$dir"
done
for dir in var/log run home; do mount --bind "$1/$dir" "/$dir"; done
mount -t tmpfs tmpfs "$1/dev"
for node in null zero full random urandom tty ptmx; do cp -a "/dev/$node" "$1/dev/$node"; done
mkdir "$1/dev/pts"
mount --bind /dev/pts "$1/dev/pts"
ln -s /run/devlog "$1/dev/log"
ln -s /proc/self/fd "$1/dev/fd"
mount --move "$1/dev" /dev
echo ready
exec cat
"""

NEEDS = ("unshare", "nsenter", "useradd", "chpasswd")


def obstacle() -> str:
    """Why there can be no sandbox here; empty if there can."""
    missing = [name for name in NEEDS if not shutil.which(name)]
    if os.geteuid() != 0:
        return "needs root"
    if missing:
        return f"needs {', '.join(missing)}"
    probe = (
        "mount -t tmpfs t /mnt && mkdir /mnt/a /mnt/b /mnt/c && "
        "mount -t overlay o -o lowerdir=/mnt/a,upperdir=/mnt/b,workdir=/mnt/c /mnt/a"
    )
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", probe], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"needs mount namespaces and overlays: {tried.stderr.strip()}"


class Sandbox:
    """One such view, with a syslog daemon in it that writes `root/var/log/auth.log`."""

    def __init__(self, directory: Path, *, iso_times: bool = True) -> None:
        self.root = directory / "root"
        for name in ("etc", ".etc", "usr", ".usr", "var/log", "run/sshd", "home", "dev"):
            (self.root / name).mkdir(parents=True)
        self.root.chmod(0o755)
        for name in ("wtmp", "btmp", "lastlog", "auth.log"):
            (self.root / "var/log" / name).touch(mode=0o600)
        self.syslog = Syslog(self.root / "run", self.root / "var/log/auth.log", iso_times=iso_times)
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", MOUNTS, "sandbox", str(self.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._keeper.stdout.readline() == b"ready\n"
        self._without_delays()

    def command(self, *argv: str) -> list[str]:
        """The argument vector that runs `argv` inside."""
        return ["nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt", *argv]

    def run(self, *argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program inside and wait for it; it must succeed."""
        return subprocess.run(self.command(*argv), input=text, text=True, capture_output=True, check=True)

    def _without_delays(self) -> None:
        """A wrong password is answered at once: seconds of waiting prove nothing."""
        self.run("sed", "-i", "s/pam_unix.so/pam_unix.so nodelay/", "/etc/pam.d/common-auth")
        self.run("sed", "-i", "/pam_faildelay/d", "/etc/pam.d/login")

    def add_user(self, name: str, password: str) -> int:
        """Make a user with a home; returns his id."""
        self.run("useradd", "--create-home", "--shell", "/bin/sh", name)
        self.run("chpasswd", text=f"{name}:{password}\n")
        return int(self.run("id", "-u", name).stdout)

    def close(self) -> None:
        """Everything in it is gone with its last process."""
        self._keeper.stdin.close()
        self._keeper.wait(PATIENCE_S)
        self._keeper.stdout.close()
        self.syslog.close()


class Syslog:
    """What stands at /dev/log: writes each message as one line, in the form of rsyslog's two formats."""

    _MESSAGE = re.compile(rb"<\d+>\w{3} [ \d]\d \d\d:\d\d:\d\d (?P<text>.*)", re.DOTALL)

    def __init__(self, directory: Path, file: Path, *, iso_times: bool) -> None:
        self._file = file
        self._iso_times = iso_times
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._directory = directory
        with self._address() as address:
            self._socket.bind(address)
        (directory / "devlog").chmod(0o666)
        self._thread = threading.Thread(target=self._serve, name="syslog")
        self._thread.start()

    @contextmanager
    def _address(self) -> Iterator[str]:
        """The socket's name by a short way: names are limited to 108 bytes, a test's directory is not."""
        holder = os.open(self._directory, os.O_PATH)
        try:
            yield f"/proc/self/fd/{holder}/devlog"
        finally:
            os.close(holder)

    def send(self, text: str) -> None:
        """Log a line behind all that programs have logged until now."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, self._address() as address:
            sender.sendto(f"<37>{time.strftime('%b %e %H:%M:%S')} {text}".encode(), address)

    def settle(self) -> None:
        """Wait until all that programs have logged until now stands in the file."""
        mark = f"mark[1]: {time.monotonic_ns()}"
        self.send(mark)
        deadline = time.monotonic() + PATIENCE_S
        while mark.encode() not in self._file.read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _serve(self) -> None:
        while message := self._socket.recv(65_536):
            match = self._MESSAGE.fullmatch(message.rstrip(b"\n\0"))
            if match:
                text = match["text"].replace(b"\n", b" ")
                with self._file.open("ab") as file:
                    file.write(f"{self._now()} device ".encode() + text + b"\n")

    def _now(self) -> str:
        if self._iso_times:
            return datetime.now(UTC).isoformat()
        return time.strftime("%b %e %H:%M:%S")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def converse(argv: Sequence[str], script: Sequence[tuple[str, str]], *, user_id: int = 0) -> str:
    """Run a program on a terminal of its own: wait for each text, type the answer, then wait for the end.

    Returns what it wrote. An answer of "" hangs up.
    """
    child, terminal = pty.fork()
    if child == 0:
        try:
            if user_id:
                os.setgroups([])
                os.setgid(user_id)
                os.setuid(user_id)
            os.execvpe(
                argv[0], argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "dumb", "LC_ALL": "C"}
            )
        finally:
            os._exit(127)
    written = seen = ""
    deadline = time.monotonic() + PATIENCE_S
    answers = iter(script)
    expected, answer = next(answers, (None, ""))
    try:
        while True:
            while expected is not None and expected in seen:
                seen = seen.split(expected, 1)[1]
                if not answer:
                    return written
                os.write(terminal, answer.encode())
                expected, answer = next(answers, (None, ""))
            if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{argv}: waited for {expected!r} after {written!r}")
            try:
                piece = os.read(terminal, 4_096).decode(errors="replace")
            except OSError:  # EIO: the other side has closed
                piece = ""
            if not piece:
                assert expected is None, f"{argv} ended before {expected!r}: {written!r}"
                return written
            written += piece
            seen += piece
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
