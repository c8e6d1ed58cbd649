"""Fixtures of the agent's tests."""

import ctypes
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from uplink_rig import Desires, Hub

from vedette.agent.outbox import Outbox
from vedette.hub.tls import Pki, ensure_pki

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


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("pki"), ["127.0.0.1"])


@pytest.fixture
async def hub(pki: Pki, tmp_path: Path) -> AsyncIterator[Hub]:
    """The far side of an uplink."""
    hub = Hub(pki, tmp_path)
    await hub.start()
    yield hub
    hub.sink.open.set()
    await hub.stop()
    hub.registry.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox.db", 2_560_000)
    yield outbox
    outbox.close()


@pytest.fixture
def desires() -> Desires:
    return Desires()
