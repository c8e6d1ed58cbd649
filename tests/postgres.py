"""A PostgreSQL cluster of the test run's own: unprivileged, on a free port of loopback, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pg8000.native

from support import PATIENCE_S

USER = "vedette"


def programs() -> Path | None:
    """Where PostgreSQL's server programs are; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class Server:
    """A cluster in a directory of its own; what it was told stays there while it is stopped or killed."""

    def __init__(self, bin_directory: Path) -> None:
        self._bin = bin_directory
        self._home = Path(tempfile.mkdtemp(prefix="vedette-pg-"))
        # The server refuses to run as root.
        account = pwd.getpwnam("nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
        who = {"user": account.pw_uid, "group": account.pw_gid} if os.geteuid() == 0 else {}
        self._how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": self._home, **who}
        os.chown(self._home, account.pw_uid, account.pw_gid)
        initdb = [
            bin_directory / "initdb",
            "-D",
            self._home / "data",
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        subprocess.run([*initdb, "--locale=C", "--no-sync"], check=True, **self._how)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = (f"port={self.port}", "listen_addresses=127.0.0.1", "fsync=off", "max_connections=60")
        options = [word for setting in settings for word in ("-c", setting)]
        program = [self._bin / "postgres", "-D", self._home / "data", "-k", self._home]
        self._process = subprocess.Popen([*program, *options], **self._how)
        _wait(self._process, self.port)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it: at once, but in order (SIGTERM would wait for clients), or as it is told."""
        self._process.send_signal(number)
        self._process.wait(PATIENCE_S)

    def remove(self) -> None:
        """Remove what it kept."""
        shutil.rmtree(self._home)


@contextmanager
def cluster(bin_directory: Path) -> Iterator[Server]:
    """A running cluster."""
    server = Server(bin_directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        server.remove()


def connect(port: int) -> pg8000.native.Connection:
    return pg8000.native.Connection(USER, host="127.0.0.1", port=port, database="postgres")


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            connect(port).close()
            return
        except (pg8000.InterfaceError, pg8000.DatabaseError):
            assert server.poll() is None, "PostgreSQL has ended"
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.1)
