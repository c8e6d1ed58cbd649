"""What several tests need."""

import socket
import sys

VEDETTE = [sys.executable, "-m", "vedette.cli"]

PATIENCE_S = 60.0
"""Until a wait is given up as a failure; what is awaited takes seconds."""


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
