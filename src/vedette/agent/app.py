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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vedette.agent import meter
from vedette.agent.budget import Budget
from vedette.agent.collectors import Collector
from vedette.agent.collectors.baseline import BaselineCollector
from vedette.agent.collectors.dns import DnsCollector
from vedette.agent.collectors.filesystem import FileSystemCollector
from vedette.agent.collectors.firewall import FirewallCollector
from vedette.agent.collectors.hardware import HardwareCollector
from vedette.agent.collectors.heartbeat import HeartbeatCollector
from vedette.agent.collectors.listening_ports import ListeningPortsCollector
from vedette.agent.collectors.local_users import LocalUsersCollector
from vedette.agent.collectors.log import LogCollector
from vedette.agent.collectors.login import LoginCollector
from vedette.agent.collectors.network import NetworkCollector
from vedette.agent.collectors.peripheral import PeripheralCollector
from vedette.agent.collectors.process import ProcessCollector
from vedette.agent.collectors.sbom import SBoMCollector
from vedette.agent.collectors.statistics import Gauges, StatisticsCollector, Use
from vedette.agent.collectors.system_information import SystemInformationCollector
from vedette.agent.dialect import Dialect, Micro, Plan, Traffic
from vedette.agent.governor import Processor, Verdict
from vedette.agent.heap import share_one_heap
from vedette.agent.notify import keep_watch, notify
from vedette.agent.outbox import Outbox
from vedette.agent.roster import Batch, Roster, Status
from vedette.agent.schedule import Schedule
from vedette.agent.settings import Local, cached_document, save_cached
from vedette.agent.uplink import Uplink
from vedette.wire.iothub import CLASSIC_MODULE
from vedette.wire.message import Window
from vedette.wire.twin import VERSION_KEY, InvalidSettings, Settings

log = logging.getLogger(__name__)

DRAIN_S = 3.0
"""How long a stopping agent waits for acknowledgements; what is not acknowledged stays in the outbox."""

LOOK_S = 10.0
"""How often the agent looks at what it takes of the processor: six samples in the minute that counts."""

ALWAYS = {"Statistics", "Heartbeat", "LogCollector"}
"""Collectors that are never stopped for the processor's sake: they cost nothing and tell of the others."""


def all_collectors(state: Path) -> list[Collector]:
    """Every collector of this agent. A new one is registered here and nowhere else.

    state: the directory in which some remember, across restarts, what they have told.
    """
    dns = DnsCollector()
    return [
        ProcessCollector(),
        NetworkCollector(dns.answered),
        dns,
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


def dialect_of(module_id: str, state: Path, traffic: Callable[[], Traffic], choice: str = "") -> Dialect:
    """The dialect that is chosen (`micro`, `classic`), or else the one that the module's name implies."""
    if (choice or ("classic" if module_id == CLASSIC_MODULE else "micro")) == "micro":
        return Micro()
    from vedette.agent.classic import Classic, agent_id  # who does not speak it spares its memory

    return Classic(agent_id(state), traffic)


class Agent:
    """One device's agent. `run` returns after SIGTERM, SIGINT or `stop`."""

    def __init__(self, local: Local, collectors: Iterable[Collector] | None = None) -> None:
        self._local = local
        self._statistics = StatisticsCollector(self._gauges, uses=self._uses)
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
        self._dialect = dialect_of(
            local.connection.identity.module_id, local.state, self._traffic, local.dialect
        )
        self._plan = self._dialect.remembered(local.state)
        self._version = int(cached_document(local.state, self._dialect.cache).get(VERSION_KEY, 0))
        self._invalid: Mapping[str, str] = {}
        self._units = 0
        self._outbox = Outbox(local.state / "outbox.db", max_bytes=self._plan.settings.outbox_bytes)
        self._made = self._outbox.depth
        self._budget = Budget(local.state, self._plan.settings.daily_units, self._unpaid)
        self._processor = Processor(self._plan.settings.max_cpu, time.monotonic())
        self._uplink = Uplink(
            local.connection,
            self._outbox,
            route=local.route,
            on_desired=self._desired,
            pay=self._budget.pay,
            find_hub=local.find_hub,
        )
        self._schedule = Schedule(self._plan.timers, phase=_phase(local), now=time.monotonic())
        self._owed: set[str] = set()
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Collect, keep and send until stopped; then flush everything into the outbox."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self._roster.start(self._plan.settings)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._uplink.run())
            sending = tasks.create_task(self._send_when_due())
            looking = tasks.create_task(self._look_after_processor())
            watching = tasks.create_task(keep_watch())
            notify("READY=1")
            await self._stop.wait()
            notify("STOPPING=1")
            # Stop order: no more sends by the clock (one that is at it ends first, or it would lose what it
            # has drained); collectors, whose last cycle goes into the outbox; the uplink, which has a moment
            # to empty it; the outbox.
            async with self._turn:
                sending.cancel()
                looking.cancel()
                self._keep(await self._roster.stop(), self._plan.timers)
            await self._uplink.close(DRAIN_S)
            watching.cancel()
        self._outbox.close()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    async def _send_when_due(self) -> None:
        while True:
            await self._pause(min(self._schedule.next_at(), self._roster.retry_at()) - time.monotonic())
            async with self._turn:
                await self._roster.revive(self._plan.settings)
                await self._flush(self._affordable(self._schedule.due(time.monotonic())))
                self._outbox.expire(self._plan.settings.message_timeout * 60)

    async def _pause(self, seconds: float) -> None:
        """Sleep, or until the settings change."""
        self._changed.clear()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _affordable(self, due: set[str]) -> set[str]:
        """The timers to serve now: without those that the day's units do not allow, with what is owed."""
        wanted = due | self._owed if due else due
        held = self._budget.held()
        self._owed = (self._owed | due) & held
        return wanted - held

    async def _flush(self, due: Collection[str]) -> None:
        plan = self._plan
        self._statistics.record("Outbox", losses=self._outbox.losses.take())
        self._statistics.record("Dialect", losses=self._dialect.losses.take())
        batches = await self._roster.collect(lambda collector: self._dialect.timer(plan, collector) in due)
        self._keep(batches, due)

    def _keep(self, batches: list[Batch], due: Collection[str]) -> None:
        """Make messages of what was collected, into the outbox."""
        if news := self._budget.news():
            batches = [*batches, Batch("Budget", [news], Window(news.first_seen, news.first_seen), [])]
        for message in self._dialect.messages(self._plan, batches, due):
            self._outbox.put(message)
            self._made += 1
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

    def _unpaid(self) -> int:
        return self._outbox.units - self._uplink.unacknowledged

    def _uses(self) -> dict[str, Use]:
        spent = meter.spent()
        return {name: Use(spent.get(name, 0.0), self._roster.rested(name)) for name in self._roster.names}

    def _traffic(self) -> Traffic:
        sent = self._uplink.counters.sent.messages
        return Traffic(sent, self._made - sent - self._outbox.depth)

    async def _desired(self, document: dict[str, Any], version: int) -> None:
        """A desired document: send what is held, then apply it, or refuse it whole; report the verdict."""
        try:
            wanted = self._dialect.plan(document)
        except InvalidSettings as error:
            log.warning("twin version %d refused: %s", version, error)
            self._invalid = error.fields
            self._dialect.refused(self._plan, error)
        else:
            self._invalid = {}
            await self._adopt(wanted, version)
        self._uplink.report(self._dialect.report(self._plan, self._invalid))

    async def _adopt(self, wanted: Plan, version: int) -> None:
        if wanted != self._plan:
            await self._apply(wanted)
            self._dialect.adopted(self._plan)
            log.info("twin version %d applied", version)
        elif version == self._version:
            return
        self._version = version
        save_cached(
            self._local.state, self._dialect.document(wanted) | {VERSION_KEY: version}, self._dialect.cache
        )

    async def _apply(self, wanted: Plan) -> None:
        old = self._plan.settings
        async with self._turn:
            if self._stop.is_set():  # the next start does it: nothing may be started any more
                return
            await self._flush(self._plan.timers)
            self._keep(await self._roster.apply(old, wanted.settings), self._plan.timers)
            self._schedule.change(wanted.timers, time.monotonic())
            self._outbox.max_bytes = wanted.settings.outbox_bytes
            self._budget.limit(wanted.settings.daily_units)
            self._processor.limit = wanted.settings.max_cpu
            self._plan = wanted
        self._changed.set()

    async def _look_after_processor(self) -> None:
        """Stop the collector that costs most while the agent takes more than it may, and let it come back."""
        while True:
            await asyncio.sleep(LOOK_S)
            spent = {name: used for name, used in meter.spent().items() if name not in ALWAYS}
            if verdict := self._processor.observe(time.monotonic(), time.process_time(), spent):
                async with self._turn:
                    await self._carry_out(verdict)

    async def _carry_out(self, verdict: Verdict) -> None:
        settings = self._plan.settings
        if verdict.what == "restore":
            log.warning("%s: works again; the agent takes %.1f %% of a core", verdict.name, verdict.percent)
            await self._roster.restore(verdict.name, settings)
            return
        log.warning(
            "%s: stopped for a while: the agent takes %.1f %% of a core, Agent_MaxCpuPercent is %d",
            verdict.name,
            verdict.percent,
            settings.max_cpu,
        )
        self._keep(await self._roster.shed(verdict.name), ())


def serve(local: Local) -> None:
    """Run an agent in an event loop that knows what each collector costs."""
    share_one_heap()
    with asyncio.Runner(loop_factory=meter.MeteredLoop) as runner:
        runner.run(Agent(local).run())


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
    from tempfile import TemporaryDirectory  # brings two compressors, which a running agent never needs

    settings = settings or Settings()
    with TemporaryDirectory(prefix="vedette-") as state:
        chosen = [c for c in all_collectors(Path(state)) if only is None or c.name in only]
        roster = Roster(chosen, clock=time.time, monotonic=time.monotonic)
        await roster.start(settings)
        status = roster.status()
        await asyncio.sleep(seconds)
        collected = await roster.collect(lambda collector: True)
        return status, collected + await roster.stop()
