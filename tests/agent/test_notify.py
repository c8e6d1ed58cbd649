"""What the service manager is told: on a real datagram socket, as systemd listens."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import PATIENCE_S
from vedette.agent.notify import keep_watch, notify


@pytest.fixture(params=["/run", "@"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """Where a manager listens: a path, or an abstract name."""
    name = f"@vedette-{os.getpid()}" if request.param == "@" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listener


def test_a_message_is_one_datagram(manager: socket.socket):
    """systemd reads assignments, a line each."""
    notify("READY=1")
    assert manager.recv(100) == b"READY=1"


async def test_the_watchdog_is_fed_while_the_loop_turns(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
):
    """Several pings come without anybody asking."""
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    manager.setblocking(False)
    watch = asyncio.create_task(keep_watch())
    for _ in range(3):
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.get_running_loop().sock_recv(manager, 100) == b"WATCHDOG=1"
    watch.cancel()


@pytest.mark.parametrize(
    "variables", [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}]
)
async def test_a_watchdog_that_is_not_ours_is_not_fed(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    """A child process inherits the environment but must not answer for the service."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    await asyncio.wait_for(keep_watch(), PATIENCE_S)


def test_nobody_listening_is_no_fault(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Started by hand, or with a manager that has gone: the agent goes on, and says so in the second case."""
    notify("READY=1")
    assert not caplog.records
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    notify("READY=1")
    assert "READY=1" in caplog.text
