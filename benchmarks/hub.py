"""How much one hub process bears: connections, messages until they are durable, questions to its lake.

    python benchmarks/hub.py [--connections N] [--seconds N] [--rows N] [--only PART …]

Everything is on this machine, over TLS. The devices are simulated (`vedette hub simulate`), in this process;
what is measured is another one: a gateway with its registry and lake on the local disk and, in the same run
and with the same devices, mosquitto, which acknowledges and stores nothing. Figures for a processor second
count all threads of that process, user and system time, so that other work on the machine disturbs them less
than it disturbs times. A lake of 20 million rows (--rows 20000000) takes some minutes and 3 GB of disk.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import inf
from pathlib import Path
from typing import NamedTuple

import uvloop

from vedette.hub.lake import Lake, Limits
from vedette.hub.limits import Limits as ClientLimits
from vedette.hub.registry import Registry
from vedette.hub.settings import HubSettings, HubState
from vedette.hub.simulate.accounts import accounts
from vedette.hub.simulate.device import Account
from vedette.hub.simulate.figures import Figures
from vedette.hub.simulate.fleet import Fleet
from vedette.hub.simulate.mix import KINDS, ONE_EVENT, Kind, Mix
from vedette.hub.tls import ensure_pki

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from fleet_rig import Hub  # noqa: E402 - found in the tests, which it serves, too
from made_lake import make  # noqa: E402
from query import QUESTIONS  # noqa: E402
from support import free_port  # noqa: E402

HOST = "localhost"
DEVICES = 400
"""Under load, each with five messages under way: what comes in a second or two on a busy machine."""

WARM_S = 2.0
ONE: Mapping[str, Mapping[Kind, float]] = {"one event": ONE_EVENT}
MIXES = {**ONE, "as agents": KINDS}
TICKS = os.sysconf("SC_CLK_TCK")
UNLIMITED = ClientLimits(
    messages_per_second=1e6, message_burst=10**9, connects_per_second=1e3, connect_burst=10**6
)


class Server(NamedTuple):
    """What is measured: its processes and where devices reach each."""

    name: str
    pids: Sequence[int]
    ports: Sequence[int]


class Load(NamedTuple):
    """What came of some seconds of load. cpu: processor seconds of the server."""

    seconds: float
    cpu: float
    figures: Figures

    @property
    def messages(self) -> int:
        """Acknowledged ones."""
        return self.figures.acknowledged


def main() -> None:
    """Measure the parts that are asked for."""
    parts = {
        "connections": _connections,
        "messages": _messages,
        "gateways": _gateways,
        "growth": _growth,
        "queries": _queries,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=2_000, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=8, help="of each load (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the lake (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="default: all")
    options = parser.parse_args()
    for name in options.only:
        print(f"-- {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="vedette-hub-") as root:
            parts[name](Path(root), options)


def _connections(root: Path, options: argparse.Namespace) -> None:
    """Resident memory of idle connections that have fetched their twin."""
    state, known = _state(root, DEVICES + options.connections)
    for server in _servers(state, 1):
        with server as running:
            size, cpu, seconds = uvloop.run(_grown(running, state, known))
        each = size / options.connections
        print(
            f"{running.name:<12} {each / 1024:6.1f} KB a connection with TLS, {2**30 / each:9,.0f} in 1 GB;"
            f" {cpu / options.connections * 1e3:5.2f} ms of processor to let one in ({seconds:.0f} s for all)"
        )


async def _grown(server: Server, state: HubState, known: Sequence[Account]) -> tuple[int, float, float]:
    """Bytes by which a server grew, its processor seconds, and the time until all were connected.

    The first connections are not counted: what they need is loaded once.
    """
    async with _fleet(server, state, known[:DEVICES], Mix(random.Random(1))) as first:
        await _all_up(server, first, DEVICES)
        before, spent, began = _resident(server), _spent(server), time.monotonic()
        async with _fleet(server, state, known[DEVICES:], Mix(random.Random(1))) as fleet:
            await _all_up(server, fleet, len(known) - DEVICES)
            seconds, cpu = time.monotonic() - began, _spent(server) - spent
            await asyncio.sleep(WARM_S)
            return _resident(server) - before, cpu, seconds


async def _all_up(server: Server, fleet: Fleet, count: int) -> None:
    """Until so many devices are connected and, at a hub, have their twins."""
    while fleet.connected < count or (server.name == "hub" and fleet.figures.twins < count):  # noqa: ASYNC110
        await asyncio.sleep(0.1)


def _messages(root: Path, options: argparse.Namespace) -> None:
    """As fast as they are acknowledged, then half as fast for the latency; both messages and both servers."""
    state, known = _state(root, DEVICES)
    costs: dict[str, list[Load]] = {}
    for server in _servers(state, 1):
        with server as running:
            costs[running.name] = uvloop.run(_loads(running, state, known, MIXES, options.seconds))
    if len(costs) > 1:
        for mix, ours, theirs in zip(MIXES, *costs.values(), strict=True):
            ratio = ours.cpu / ours.messages / (theirs.cpu / theirs.messages)
            print(f"{mix}: processor time of a message, hub / mosquitto: {ratio:.1f}")


def _gateways(root: Path, options: argparse.Namespace) -> None:
    """One gateway, then two on one registry and one lake."""
    for count in (1, 2):
        print(f"{count} gateway(s)")
        state, known = _state(root / str(count), DEVICES)
        with _hub(state, count) as running:
            uvloop.run(_loads(running, state, known, ONE, options.seconds))


def _growth(root: Path, options: argparse.Namespace) -> None:
    """The same load on an empty lake and on one that has rows."""
    for rows in (0, options.rows):
        print(f"{rows:,} rows before")
        state, known = _state(root / str(rows), DEVICES)
        if rows:
            make(Path(state.lake.uri), rows)
        with _hub(state, 1) as running:
            uvloop.run(_loads(running, state, known, ONE, options.seconds))


def _queries(root: Path, options: argparse.Namespace) -> None:
    """Seconds that the hub's engine takes for each question, once warm."""
    lake = Lake(make(root / "lake", options.rows))
    limits = Limits(seconds=600)
    for question, text in QUESTIONS.items():
        lake.query(text, limits=limits)
        began = time.perf_counter()
        lake.query(text, limits=limits)
        print(f"{question:<40} {time.perf_counter() - began:7.3f} s on {options.rows:,} rows")


async def _loads(
    server: Server,
    state: HubState,
    known: Sequence[Account],
    mixes: Mapping[str, Mapping[Kind, float]],
    seconds: float,
) -> list[Load]:
    """Each mix as fast as it is acknowledged, and at half of that; what came of the former."""
    full = []
    async with _fleet(server, state, known, Mix(random.Random(1))) as fleet:
        await _all_up(server, fleet, len(known))
        for name, kinds in mixes.items():
            fleet.mix = Mix(random.Random(1), kinds)
            full.append(load := await _load(server, fleet, inf, seconds))
            _tell(server, name, load)
            half = load.messages / load.seconds / 2
            _tell(server, "… at half", await _load(server, fleet, half, seconds))
    return full


async def _load(server: Server, fleet: Fleet, rate: float, seconds: float) -> Load:
    """Some seconds at a rate, once the first messages are through."""
    fleet.go(rate)
    await asyncio.sleep(WARM_S)
    fleet.figures.take()
    began, spent = time.monotonic(), _spent(server)
    await asyncio.sleep(seconds)
    load = Load(time.monotonic() - began, _spent(server) - spent, fleet.figures.take())
    fleet.go(0.0)
    await fleet.settle()
    return load


def _tell(server: Server, what: str, load: Load) -> None:
    figures, cpu = load.figures, load.cpu
    p50, p99 = (figures.latencies.quantile(share) or inf for share in (0.5, 0.99))
    print(
        f"{server.name:<12} {what:<12} {load.messages / load.seconds:8,.0f} messages/s;"
        f" for a processor second {load.messages / cpu:8,.0f} messages, {figures.events / cpu:8,.0f} events;"
        f" PUBACK p50 {p50 * 1e3:6.1f} ms, p99 {p99 * 1e3:6.1f} ms",
        flush=True,
    )


def _fleet(server: Server, state: HubState, known: Sequence[Account], mix: Mix) -> Fleet:
    trust = ssl.create_default_context(cafile=state.pki / "ca.pem")
    return Fleet(known, [("127.0.0.1", port) for port in server.ports], HOST, trust, mix)


def _state(root: Path, devices: int) -> tuple[HubState, Sequence[Account]]:
    """A hub's state with registered devices."""
    state = HubState(root / "state")
    state.save(HubSettings(host_names=(HOST,), bind="127.0.0.1", limits=UNLIMITED))
    ensure_pki(state.pki, (HOST,))
    registry = Registry(state.registry_url)
    try:
        return state, accounts(registry, devices)
    finally:
        registry.close()


def _servers(state: HubState, gateways: int) -> Iterator[AbstractContextManager[Server]]:
    yield _hub(state, gateways)
    if program := shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"):
        yield _mosquitto(program, state)
    else:
        print("mosquitto is not installed: nothing to compare with")


@contextmanager
def _hub(state: HubState, gateways: int) -> Iterator[Server]:
    hubs = [Hub("gateway", state) for _ in range(gateways)]
    for hub in hubs:
        hub.again()
    try:
        yield Server("hub", [hub.pid for hub in hubs], [hub.mqtt for hub in hubs])
    finally:
        for hub in hubs:
            hub.end()


@contextmanager
def _mosquitto(program: str, state: HubState) -> Iterator[Server]:
    port, config = free_port(), state.root / "mosquitto.conf"
    pki = ensure_pki(state.pki, (HOST,))
    config.write_text(
        f"user root\nlistener {port} 127.0.0.1\ncertfile {pki.certificate}\nkeyfile {pki.key}\n"
        "allow_anonymous true\nmax_queued_messages 0\nlog_type none\n"
    )
    with subprocess.Popen([program, "-c", config], stderr=subprocess.DEVNULL) as running:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert running.poll() is None, "mosquitto has ended"
                time.sleep(0.02)
            yield Server("mosquitto", [running.pid], [port])
        finally:
            running.terminate()


def _spent(server: Server) -> float:
    """Processor seconds so far."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in server.pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / TICKS


def _resident(server: Server) -> int:
    """Bytes."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in server.pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
