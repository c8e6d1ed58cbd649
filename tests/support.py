"""What several tests need."""

import contextlib
import random
import socket
import sys
from pathlib import Path

VEDETTE = [sys.executable, "-m", "vedette.cli"]

LOWEST_PORT = 10_000
"""Below it live the services of this machine."""

PATIENCE_S = 60.0
"""Until a wait is given up as a failure; what is awaited takes seconds."""


def free_port() -> int:
    """A TCP port that nothing listens on now, and that no outgoing connection takes meanwhile."""
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(LOWEST_PORT, first_outgoing)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
