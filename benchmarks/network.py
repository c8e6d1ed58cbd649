"""What counting network activity costs: throughput, CPU and memory of each way, and whether it is exact.

    python benchmarks/network.py [--seconds S] [--rounds N] [--json]      as root, with iproute2 and iperf3

iperf3 sends over a veth pair between two network namespaces: bulk TCP with offloads, and UDP datagrams of 64
bytes as fast as they go. The ways to count take turns, run by run, with the bare machine among them, so that
other load meets all alike. Watched is the sender's end.

The rate is that of the best run of each, `ratio` is it over the bare machine's; `median` is that of the
ratios of each round. `sender` is the sender's CPU time for a million packets, with what runs inside it in the
kernel, in the run that other load disturbed least, and `agent` that of the counting process over all runs.
`counted` compares the packets that were counted with those that the namespace's own protocol counters tell
(/proc/net/snmp); `lost` are those that the agent knows to be missing.

The capture is what a user-space agent does without eBPF: every packet is read from an AF_PACKET socket behind
a classic filter, as by libpcap, and counted in Python.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

BARE, TCX, TAP, CAPTURE = "bare", "tcx", "packet socket", "capture"
WAYS = (BARE, TCX, TAP, CAPTURE)
LOADS = {"TCP": (), "UDP": ("--udp", "--bitrate", "0", "--length", "64")}
NEAR, FAR = "10.79.0.1", "10.79.0.2"
SENT = {"TCP": ("OutSegs", "RetransSegs", "InSegs"), "UDP": ("OutDatagrams", "InDatagrams")}


class Run(NamedTuple):
    """One run: bits (TCP) or packets (UDP) a second, the sender's CPU seconds, packets that there were, those
    counted and those known to be lost, CPU seconds and RSS (kB) of the counting process."""

    rate: float
    sender: float
    packets: int
    counted: int
    lost: int
    agent: float
    rss: int


# -- the side that counts, in a process of its own


async def count(way: str) -> None:
    """Collect until standard input ends; report on each line read."""
    from vedette.agent.collectors.network import CAPTURE as PACKETS
    from vedette.agent.collectors.network import LADDER, NetworkCollector
    from vedette.agent.sources.flow_bpf import FlowCounter
    from vedette.wire.twin import Settings

    kernel = {"eBPF": lambda settings, told: FlowCounter(told, tcx=way == TCX)}
    collector = NetworkCollector(ladder={PACKETS: LADDER[PACKETS]} if way == CAPTURE else kernel)
    await collector.start(Settings(network_cache_size=4096))
    print(json.dumps(collector.source), flush=True)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while protocol := (await lines.readline()).decode().strip():
        collected = await collector.collect()
        hits = sum(event.hits for event in collected.events if event.payload.protocol == protocol)
        used = resource.getrusage(resource.RUSAGE_SELF)
        report = {
            "hits": hits,
            "lost": sum(loss.hits for loss in collected.losses),
            "cpu": used.ru_utime + used.ru_stime,
            "rss": rss(),
        }
        print(json.dumps(report), flush=True)
    await collector.stop()


def rss() -> int:
    """Resident memory of this process in kB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


class Counter:
    """A counting process in the sender's namespace; on the bare machine there is none."""

    def __init__(self, way: str, namespace: Namespace) -> None:
        self._process = None
        self._before = 0.0
        if way != BARE:
            command = [*namespace.enter, sys.executable, __file__, "--count", way]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
            print(f"{way}: {json.loads(self._process.stdout.readline())}", file=sys.stderr)

    def report(self, protocol: str) -> dict[str, float]:
        """What was counted since the last report; CPU since then, too."""
        if self._process is None:
            return {"hits": 0, "lost": 0, "cpu": 0.0, "rss": 0}
        self._process.stdin.write(f"{protocol}\n")
        report = json.loads(self._process.stdout.readline())
        report["cpu"], self._before = report["cpu"] - self._before, report["cpu"]
        return report

    def close(self) -> None:
        """End it."""
        if self._process:
            self._process.communicate()


# -- the side that sends


class Namespace:
    """A network namespace, as long as a process that does nothing lives in it."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._holder.stdout.readline()
        self.pid = self._holder.pid
        self.enter = ("nsenter", "--target", str(self.pid), "--net")

    def run(self, *command: str) -> str:
        """Run a program in it."""
        return subprocess.run([*self.enter, *command], check=True, capture_output=True, text=True).stdout

    def counters(self, protocol: str) -> int:
        """Packets of a protocol that this namespace has sent and received."""
        lines = self.run("cat", "/proc/net/snmp").splitlines()
        prefix = protocol.title() if protocol == "TCP" else "Udp"
        names, values = (line.split() for line in lines if line.startswith(f"{prefix}:"))
        found = dict(zip(names, values, strict=True))
        return sum(int(found[name]) for name in SENT[protocol])

    def close(self) -> None:
        """Let it go."""
        self._holder.communicate()


@contextmanager
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    """The sender's and the receiver's, joined by a veth pair, with an iperf3 server in the latter."""
    near, far = Namespace(), Namespace()
    try:
        near.run("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", str(far.pid))
        for side, device, address in ((near, "near0", NEAR), (far, "far0", FAR)):
            side.run("ip", "link", "set", device, "up")
            side.run("ip", "address", "add", f"{address}/24", "brd", "+", "dev", device)
        server = subprocess.Popen(
            [*far.enter, "iperf3", "--server", "--forceflush"], stdout=subprocess.PIPE, text=True
        )
        while "listening" not in server.stdout.readline():
            pass
        discarding = subprocess.Popen(["cat"], stdin=server.stdout, stdout=subprocess.DEVNULL)
        try:
            yield near, far
        finally:
            server.kill()
            server.wait()
            discarding.wait()
    finally:
        near.close()
        far.close()


def send(near: Namespace, protocol: str, seconds: float, counter: Counter) -> Run:
    """One run of one load."""
    counter.report(protocol)
    before = near.counters(protocol)
    arguments = ("--client", FAR, "--json", "--time", str(seconds), *LOADS[protocol])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    end = json.loads(near.run("iperf3", *arguments))["end"]
    then, used = used, resource.getrusage(resource.RUSAGE_CHILDREN)
    packets = near.counters(protocol) - before
    report = counter.report(protocol)
    if protocol == "TCP":
        rate = end["sum_received"]["bits_per_second"]
    else:
        rate = end["sum"]["packets"] / end["sum"]["seconds"]
    sender = used.ru_utime + used.ru_stime - then.ru_utime - then.ru_stime
    return Run(
        rate, sender, packets, int(report["hits"]), int(report["lost"]), report["cpu"], int(report["rss"])
    )


def measure(seconds: float, rounds: int) -> dict[str, dict[str, list[Run]]]:
    """Runs by load and way, in turn."""
    runs: dict[str, dict[str, list[Run]]] = {load: {way: [] for way in WAYS} for load in LOADS}
    with namespaces() as (near, _far):
        for number in range(rounds):
            for load in LOADS:
                turn = number % len(WAYS)
                for way in WAYS[turn:] + WAYS[:turn]:
                    counter = Counter(way, near)
                    runs[load][way].append(send(near, load, seconds, counter))
                    counter.close()
                    print(f"round {number + 1}: {load} {way} done", file=sys.stderr)
    return runs


def table(load: str, runs: dict[str, list[Run]]) -> Iterator[str]:
    """One load's table."""
    unit, scale = ("Gbit/s", 1e9) if load == "TCP" else ("kpackets/s", 1e3)
    head = f"{unit:>11}{'ratio':>7}{'median':>8}{'sender':>8}{'agent':>8}{'RSS MB':>8}"
    yield f"\n{load}{' bulk' if load == 'TCP' else ', 64 bytes'}"
    yield f"{'':<15}{head}{'packets':>12}{'counted':>9}{'lost':>9}{'exact':>9}"
    best_bare = max(run.rate for run in runs[BARE])
    for way in WAYS:
        best = max(run.rate for run in runs[way])
        median = statistics.median(
            run.rate / bare.rate for run, bare in zip(runs[way], runs[BARE], strict=True)
        )
        sender = min(run.sender / run.packets for run in runs[way]) * 1e6
        packets = sum(run.packets for run in runs[way])
        line = f"{way:<15}{best / scale:>11.2f}{best / best_bare:>7.3f}{median:>8.3f}{sender:>8.2f}"
        if way == BARE:
            yield f"{line}{'':>16}{packets:>12,}"
            continue
        agent = sum(run.agent for run in runs[way]) / packets * 1e6
        counted = sum(run.counted for run in runs[way]) / packets
        exact = sum(run.counted == run.packets for run in runs[way])
        yield (
            f"{line}{agent:>8.2f}{max(run.rss for run in runs[way]) / 1024:>8.1f}{packets:>12,}"
            f"{counted:>9.2%}"
            f"{sum(run.lost for run in runs[way]):>9,}{f'{exact}/{len(runs[way])}':>9}"
        )


def main() -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1, help="of each run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the runs as JSON")
    parser.add_argument("--count", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        asyncio.run(count(options.count))
        return 0
    if os.geteuid() != 0 or not all(map(shutil.which, ("iperf3", "ip", "nsenter", "unshare"))):
        print("skipped: needs root, iproute2, util-linux and iperf3")
        return 0
    runs = measure(options.seconds, options.rounds)
    if options.json:
        print(json.dumps(runs))
        return 0
    for load in LOADS:
        print("\n".join(table(load, runs[load])))
    print("\nsender, agent: CPU seconds for a million packets; exact: runs in which every packet was counted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
