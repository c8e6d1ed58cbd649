"""What survives kill -9: real processes, real sockets, real disks.

The device's side is the agent's own outbox and uplink; the hub is `vedette hub run`.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from support import PATIENCE_S, VEDETTE, free_port
from vedette.agent.outbox import Outbox
from vedette.agent.route import Route
from vedette.agent.session import Pace
from vedette.agent.uplink import Uplink
from vedette.hub.lake import Lake
from vedette.wire.events import Event, Process
from vedette.wire.iothub import ConnectionString
from vedette.wire.message import Window, pack


class Hub:
    """`vedette hub run` with a state directory of its own, killed and started as a test likes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port, self.https_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        ports = ["--mqtt-port", str(self.port), "--https-port", str(self.https_port), "--bind", "127.0.0.1"]
        self.vedette("hub", "init", *ports)
        self.connection = ConnectionString.parse(self.vedette("device", "add", "pump"))

    def vedette(self, *arguments: str) -> str:
        command = [*VEDETTE, *arguments, "--state", str(self.root)]
        return subprocess.run(command, check=True, text=True, capture_output=True).stdout

    async def start(self) -> None:
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*VEDETTE, "hub", "run", "--state", str(self.root)], stdout=log, stderr=log
            )
        context = ssl.create_default_context(cafile=self.root / "pki" / "ca.pem")
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("localhost", self.port, ssl=context)
                except OSError:
                    assert self.process.poll() is None, (self.root / "log").read_text()
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE_S)
            self.process = None

    def uplink(self, outbox: Outbox) -> Uplink:
        """The agent's own, impatient: it looks for the hub every moment."""
        return Uplink(
            self.connection,
            outbox,
            route=Route(address=self.connection.host, ca_file=self.root / "pki" / "ca.pem", port=self.port),
            on_desired=ignore,
            pace=Pace(first=0.2, ceiling=0.4),
        )

    def commands(self) -> dict[str, int]:
        """Command line → number of rows that hold it."""
        result = Lake(self.root / "lake").query("Process | summarize Rows=count() by Commandline")
        return {
            row[result.columns.index("Commandline")]: row[result.columns.index("Rows")] for row in result.rows
        }


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    made = Hub(tmp_path / "hub")
    yield made
    made.end(signal.SIGTERM)


@contextlib.contextmanager
def running(command: list[str], log: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped in any case."""
    with subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


async def ignore(document: dict[str, object], version: int) -> None:
    """No settings matter here."""


def fill(outbox: Outbox, count: int, first: int = 0) -> set[str]:
    """Messages of one event each, every event of its own."""
    commands = {f"command {number}" for number in range(first, first + count)}
    for command in sorted(commands):
        event = Event(
            Process(event_type="EXEC", process_id=1, parent_process_id=0, commandline=command, user_id=0), 1.0
        )
        for message in pack([([event], Window(0.0, 1.0))]):
            outbox.put(message)
    return commands


async def emptied(outbox: Outbox, to: int = 0) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while outbox.depth > to:
            await asyncio.sleep(0.02)


async def test_a_killed_hub_loses_nothing_acknowledged_and_doubles_nothing(hub: Hub, tmp_path: Path):
    """Killed several times in the middle of load, each event is in the lake exactly once in the end."""
    outbox = Outbox(tmp_path / "outbox.db", max_bytes=10_000_000)
    sent = fill(outbox, 600)
    uplink = hub.uplink(outbox)
    running = asyncio.create_task(uplink.run())
    for left in (450, 300, 150):
        await hub.start()
        await emptied(outbox, to=left)
        hub.end(signal.SIGKILL)
    await hub.start()
    await emptied(outbox)
    await uplink.close(1.0)
    await running
    assert outbox.losses.take() == []
    outbox.close()
    assert hub.commands() == dict.fromkeys(sent, 1)


async def test_the_outbox_drains_when_the_hub_comes_back(hub: Hub, tmp_path: Path):
    """What was collected while the hub was away arrives afterwards."""
    outbox = Outbox(tmp_path / "outbox.db", max_bytes=10_000_000)
    uplink = hub.uplink(outbox)
    running = asyncio.create_task(uplink.run())
    await hub.start()
    sent = fill(outbox, 20)
    uplink.wake()
    await emptied(outbox)
    hub.end(signal.SIGTERM)
    sent |= fill(outbox, 20, first=20)
    uplink.wake()
    await asyncio.sleep(0.5)
    assert outbox.depth == 20
    await hub.start()
    await emptied(outbox)
    await uplink.close(1.0)
    await running
    outbox.close()
    assert hub.commands() == dict.fromkeys(sent, 1)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the agent counts short processes in the kernel")
async def test_a_killed_agent_loses_nothing_that_reached_the_outbox(hub: Hub, tmp_path: Path):
    """The agent collects while no hub is there, is killed, starts again beside a hub: the events arrive."""
    config, state = tmp_path / "config", tmp_path / "state"
    config.mkdir()
    state.mkdir()
    (config / "connection_string.txt").write_text(hub.connection.format())
    (config / "connection_string.txt").chmod(0o600)
    (config / "ca.pem").write_bytes((hub.root / "pki" / "ca.pem").read_bytes())
    (state / "twin.json").write_text(json.dumps({"CollectorsCore_PriorityIntervals": "0.02,0.02,0.02"}))
    command = [
        *VEDETTE,
        "agent",
        "run",
        "--config",
        str(config),
        "--state",
        str(state),
        "--port",
        str(hub.port),
    ]
    marker = f"survivor-{os.getpid()}"

    def stored() -> bool:
        """Read from a copy, for the agent holds the file itself locked."""
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for path in state.glob("outbox.db*"):
            shutil.copy(path, copy)
        try:
            with contextlib.closing(sqlite3.connect(copy / "outbox.db")) as db:
                return any(marker.encode() in body for (body,) in db.execute("SELECT body FROM message"))
        except sqlite3.OperationalError:  # copied in the middle of a write, or before there was a table
            return False

    with (tmp_path / "agent.log").open("ab") as log:
        with running(command, log) as agent:
            async with asyncio.timeout(PATIENCE_S):
                while not stored():
                    subprocess.run(["true", marker], check=True)
                    await asyncio.sleep(0.1)
            agent.kill()
        await hub.start()
        with running(command, log) as agent:
            async with asyncio.timeout(PATIENCE_S):
                while f"true {marker}" not in hub.commands():
                    await asyncio.sleep(0.2)
    assert agent.returncode == 0, (tmp_path / "agent.log").read_text()
