"""What several tests need."""

import contextlib
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

VEDETTE = [sys.executable, "-m", "vedette.cli"]

LOWEST_PORT = 10_000
"""Below it live the services of this machine."""

PATIENCE_S = 120.0
"""Until a wait is given up as a failure; what is awaited takes seconds, on a busy machine many times that."""


def free_port() -> int:
    """A TCP port that nothing listens on now, and that no outgoing connection takes meanwhile."""
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(LOWEST_PORT, first_outgoing)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """A file system of its own, of so many bytes. Skips where mounting is not allowed."""
    at.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(at)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)
