"""Fixtures of the agent's tests."""

import ctypes
import os
import subprocess

import pytest

CLONE_NEWNET = 0x4000_0000


@pytest.fixture
def network_namespace():
    """The test's thread, and every program it starts, is in an empty network namespace. Needs root.

    Sockets opened in it stay in it; threads that existed before are not in it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)
