"""The agent, composed: collectors → schedule → messages → outbox → uplink, and the twin back.

`Agent.run` reads as the pipeline. One lock orders the two things that touch the collectors: a send that
is due, and a change of settings (which sends first).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vedette.agent.collectors import Collector
from vedette.agent.collectors.baseline import BaselineCollector
from vedette.agent.collectors.filesystem import FileSystemCollector
from vedette.agent.collectors.firewall import FirewallCollector
from vedette.agent.collectors.hardware import HardwareCollector
from vedette.agent.collectors.heartbeat import HeartbeatCollector
from vedette.agent.collectors.listening_ports import ListeningPortsCollector
from vedette.agent.collectors.local_users import LocalUsersCollector
from vedette.agent.collectors.log import LogCollector
from vedette.agent.collectors.login import LoginCollector
from vedette.agent.collectors.peripheral import PeripheralCollector
from vedette.agent.collectors.process import ProcessCollector
from vedette.agent.collectors.sbom import SBoMCollector
from vedette.agent.collectors.statistics import Gauges, StatisticsCollector
from vedette.agent.collectors.system_information import SystemInformationCollector
from vedette.agent.outbox import Outbox
from vedette.agent.roster import Batch, Roster, Status
from vedette.agent.schedule import Schedule
from vedette.agent.settings import Local, load_cached, save_cached
from vedette.agent.uplink import Uplink
from vedette.wire.message import pack
from vedette.wire.twin import InvalidSettings, Priority, Settings, reported_document, settings_from

log = logging.getLogger(__name__)

DRAIN_S = 3.0
"""How long a stopping agent waits for acknowledgements; what is not acknowledged stays in the outbox."""


def all_collectors(state: Path) -> list[Collector]:
    """Every collector of this agent. A new one is registered here and nowhere else.

    state: the directory in which some remember, across restarts, what they have told.
    """
    return [
        ProcessCollector(),
        LoginCollector(state / "login.json"),
        FileSystemCollector(),
        PeripheralCollector(),
        SystemInformationCollector(),
        SBoMCollector(state),
        ListeningPortsCollector(state),
        LocalUsersCollector(state),
        FirewallCollector(state),
        HardwareCollector(state),
        BaselineCollector(),
        LogCollector(),
    ]


class Agent:
    """One device's agent. `run` returns after SIGTERM, SIGINT or `stop`."""

    def __init__(self, local: Local, collectors: Iterable[Collector] | None = None) -> None:
        self._local = local
        self._settings = load_cached(local.state)
        self._invalid: Mapping[str, str] = {}
        self._units = 0
        self._version = 0
        self._statistics = StatisticsCollector(self._gauges)
        self._roster = Roster(
            [
                *(all_collectors(local.state) if collectors is None else collectors),
                HeartbeatCollector(lambda: self._version),
                self._statistics,  # last: it tells what became of the others in the same send
            ],
            clock=time.time,
            monotonic=time.monotonic,
            drained=self._record,
        )
        self._outbox = Outbox(local.state / "outbox.db", max_bytes=self._settings.outbox_bytes)
        self._uplink = Uplink(
            local.connection,
            self._outbox,
            ca_file=local.ca_file,
            port=local.port,
            on_desired=self._desired,
        )
        self._schedule = Schedule(self._settings.intervals, phase=_phase(local), now=time.monotonic())
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Collect, keep and send until stopped; then flush everything into the outbox."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self._roster.start(self._settings)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._uplink.run())
            sending = tasks.create_task(self._send_when_due())
            await self._stop.wait()
            # Stop order: no more sends by the clock; collectors, whose last cycle goes into the outbox;
            # the uplink, which has a moment to empty it; the outbox.
            sending.cancel()
            async with self._turn:
                self._keep(await self._roster.stop())
            await self._uplink.close(DRAIN_S)
        self._outbox.close()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    async def _send_when_due(self) -> None:
        while True:
            await self._pause(min(self._schedule.next_at(), self._roster.retry_at()) - time.monotonic())
            async with self._turn:
                await self._roster.revive(self._settings)
                await self._flush(self._schedule.due(time.monotonic()))
                self._outbox.expire(self._settings.message_timeout * 60)

    async def _pause(self, seconds: float) -> None:
        """Sleep, or until the settings change."""
        self._changed.clear()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _flush(self, priorities: set[Priority]) -> None:
        self._statistics.record("Outbox", losses=self._outbox.losses.take())
        self._keep(await self._roster.collect(priorities, self._settings))

    def _keep(self, batches: Sequence[Batch]) -> None:
        """Pack what was collected into the outbox."""
        for message in pack(
            [(batch.events, batch.window) for batch in batches],
            max_bytes=self._settings.message_bytes,
            timezone=time.localtime().tm_gmtoff // 3600,
        ):
            self._outbox.put(message)
            self._units += message.units
        self._uplink.wake()

    def _record(self, batch: Batch) -> None:
        """Tell the statistics what became of a collector's cycle."""
        self._statistics.record(
            batch.name,
            events=len(batch.events),
            hits=sum(event.hits for event in batch.events),
            losses=batch.losses,
        )

    def _gauges(self) -> Gauges:
        return Gauges(self._outbox.depth, self._outbox.bytes, self._units)

    async def _desired(self, document: dict[str, Any], version: int) -> None:
        """A desired document: send what is held, then apply it, or refuse it whole; report the verdict."""
        try:
            wanted = settings_from(document)
        except InvalidSettings as error:
            log.warning("twin version %d refused: %s", version, error)
            self._invalid = error.fields
        else:
            self._invalid = {}
            self._version = version
            if wanted != self._settings:
                await self._apply(wanted)
                log.info("twin version %d applied", version)
        self._uplink.report(reported_document(self._settings, self._invalid))

    async def _apply(self, wanted: Settings) -> None:
        async with self._turn:
            await self._flush(set(Priority))
            self._keep(await self._roster.apply(self._settings, wanted))
            self._schedule.change(wanted.intervals, time.monotonic())
            self._outbox.max_bytes = wanted.outbox_bytes
            self._settings = wanted
        save_cached(self._local.state, wanted)
        self._changed.set()


def _phase(local: Local) -> float:
    """This device's place in the fleet, 0 to 1: fixed, and spread evenly whatever the ids look like."""
    digest = hashlib.sha256(local.connection.identity.client_id.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


async def try_collectors(state: Path, settings: Settings) -> Sequence[Status]:
    """Start every collector, ask how it works, and stop it again."""
    roster = Roster(all_collectors(state), clock=time.time, monotonic=time.monotonic)
    await roster.start(settings)
    status = roster.status()
    await roster.stop()
    return status


async def collect_once(
    seconds: float, only: Sequence[str] | None, settings: Settings | None = None
) -> tuple[Sequence[Status], list[Batch]]:
    """One cycle without a hub: start the collectors (those named, or all), wait, stop them."""
    settings = settings or Settings()
    with TemporaryDirectory(prefix="vedette-") as state:
        chosen = [c for c in all_collectors(Path(state)) if only is None or c.name in only]
        roster = Roster(chosen, clock=time.time, monotonic=time.monotonic)
        await roster.start(settings)
        status = roster.status()
        await asyncio.sleep(seconds)
        collected = await roster.collect(set(Priority), settings)
        return status, collected + await roster.stop()
