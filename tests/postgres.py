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

PATIENCE_S = 60
USER = "vedette"


def programs() -> Path | None:
    """Where PostgreSQL's server programs are; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def cluster(bin_directory: Path) -> Iterator[int]:
    """A running cluster; yields its port."""
    directory = Path(tempfile.mkdtemp(prefix="vedette-pg-"))
    # The server refuses to run as root.
    account = pwd.getpwnam("nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
    who = {"user": account.pw_uid, "group": account.pw_gid} if os.geteuid() == 0 else {}
    os.chown(directory, account.pw_uid, account.pw_gid)
    data = directory / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": directory}
    initdb = [bin_directory / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
    subprocess.run([*initdb, "--no-sync"], check=True, **who, **quiet)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            *(bin_directory / "postgres", "-D", data, "-p", str(port), "-k", directory),
            *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=60"),
        ],
        **who,
        **quiet,
    )
    try:
        _wait(server, port)
        yield port
    finally:
        server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients
        server.wait(PATIENCE_S)
        shutil.rmtree(directory)


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
