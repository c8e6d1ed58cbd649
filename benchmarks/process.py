"""What counting processes costs: wall time, CPU and memory of each source, and what it captures.

    python benchmarks/process.py [--execs N] [--rounds N] [--no-auditd]       as root, with gcc

Bursts of executions of one command line run on every CPU at once; the ways to count take turns, burst by
burst, with the bare machine among them, so that other load meets all alike. `wall` is the best burst of
each. `work` is the CPU time of the executions themselves, with what runs inside them in the kernel, again of
the best burst: other load disturbs it less. `CPU s/100k` is the time of the counting process over all
bursts, its reports included.

auditd has a part of its own after the others, against its own bare bursts: once audit has been enabled, the
kernel keeps an audit record in every new process until the next boot, which costs the bare machine, too.
It is skipped where it is not installed or where audit is in use; its settings are put back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SPAWNER = Path(__file__).parent.parent / "tests" / "fixtures" / "spawner.c"
CPUS = sorted(os.sched_getaffinity(0))
EBPF, NETLINK, POLLING = "eBPF", "netlink", "polling"
MODES = {EBPF: 4, NETLINK: 2, POLLING: 3}
BACKLOG = "8192"
"""Records that audit may queue, as in the rules that Debian's package installs."""

QUIET = 0.2
"""Seconds between two bursts, so that what one left to be done does not burden the next."""


class Burst(NamedTuple):
    """One burst in seconds and CPU seconds; executions captured; CPU seconds and RSS (kB) of the counting."""

    wall: float
    work: float
    captured: int
    cpu: float
    rss: int


# -- the side that counts, in a process of its own


async def count(mode: int) -> None:
    """Collect until standard input ends; report before that on each line read."""
    from vedette.agent.collectors.process import ProcessCollector
    from vedette.wire.twin import ProcessMode, Settings

    collector = ProcessCollector()
    await collector.start(Settings(process_mode=ProcessMode(mode), process_cache_size=4096))
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while tag := (await lines.readline()).decode().strip():
        collected = await collector.collect()
        hits = sum(
            e.hits for e in collected.events if f"spawner {tag}" in getattr(e.payload, "commandline", "")
        )
        used = resource.getrusage(resource.RUSAGE_SELF)
        report = {"hits": hits, "cpu": used.ru_utime + used.ru_stime, "rss": rss(os.getpid())}
        print(json.dumps(report), flush=True)
    await collector.stop()


class Counter:
    """A counting process, and what it reports."""

    def __init__(self, mode: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--count", str(mode)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._cpu = 0.0

    def begin(self) -> None:
        """Wait until it counts."""
        self.report("nothing")

    def report(self, tag: str) -> Burst:
        """Executions captured under a tag; CPU since the report before."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{tag}\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        before, self._cpu = self._cpu, told["cpu"]
        return Burst(0.0, 0.0, told["hits"], told["cpu"] - before, told["rss"])

    def stop(self) -> None:
        """End it."""
        self._process.communicate()


class Audit:
    """auditd with a rule for execve, in a folder of its own; audit is as before after `stop`."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "audit.log"
        (folder / "plugins.d").mkdir()
        (folder / "auditd.conf").write_text(
            f"log_file = {self._log}\nlog_format = RAW\nwrite_logs = yes\nmax_log_file = 500\n"
            f"flush = INCREMENTAL_ASYNC\nfreq = 50\nplugin_dir = {folder / 'plugins.d'}\n"
            "space_left = 2\nadmin_space_left = 1\n"
        )
        self._rule = [
            "always,exit",
            "-F",
            "arch=b64",
            "-S",
            "execve",
            "-S",
            "execveat",
            "-k",
            "vedette-bench",
        ]
        self._backlog = audit_status()["backlog_limit"]
        self._cpu = 0.0
        self._process = subprocess.Popen(["auditd", "-n", "-c", folder], stderr=subprocess.DEVNULL)

    def begin(self) -> None:
        """Wait until it counts."""
        while audit_status()["pid"] != str(self._process.pid):
            if self._process.poll() is not None:
                raise SystemExit("auditd does not start")
            time.sleep(QUIET)
        auditctl("-b", BACKLOG)
        auditctl("-a", *self._rule)
        self._cpu = self._used()

    def report(self, tag: str) -> Burst:
        """Executions in the log under a tag; CPU of auditd and kauditd since the report before."""
        size = -1
        while size != (size := self._log.stat().st_size):  # it writes on for a while
            time.sleep(QUIET)
        with self._log.open("rb") as log:
            wanted = tag.encode()
            hits = sum(b"type=EXECVE" in line and b"argc=2" in line and wanted in line for line in log)
        before, self._cpu = self._cpu, self._used()
        return Burst(0.0, 0.0, hits, self._cpu - before, rss(self._process.pid))

    def stop(self) -> None:
        """Take the rule away, end auditd, disable audit again."""
        subprocess.run(["auditctl", "-d", *self._rule], capture_output=True)  # it may not have come to be
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        auditctl("-e", "0")
        auditctl("-b", self._backlog)

    def _used(self) -> float:
        kauditd = next(
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/comm")
            if path.read_text().strip() == "kauditd"
        )
        return cpu_seconds(self._process.pid) + cpu_seconds(kauditd)


def auditctl(*arguments: str) -> str:
    """Run auditctl; its answer."""
    return subprocess.run(["auditctl", *arguments], capture_output=True, text=True, check=True).stdout


def audit_status() -> dict[str, str]:
    """The kernel's audit settings by name."""
    lines = (line.split(maxsplit=1) for line in auditctl("-s").splitlines())
    return {words[0]: words[1] for words in lines if len(words) == 2}


def why_no_auditd(wanted: bool) -> str:
    """Why auditd takes no part; empty if it does."""
    if not wanted:
        return "not asked for"
    if not shutil.which("auditd") or not shutil.which("auditctl"):
        return "not installed (Debian package auditd)"
    status = audit_status()
    if (status["enabled"], status["pid"]) != ("0", "0"):
        return "audit is in use on this machine"
    return ""


def rss(pid: int) -> int:
    """Resident memory in kB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def cpu_seconds(pid: int) -> float:
    """User and system time, to the clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the side that executes


def burst(spawner: Path, execs: int, tag: str) -> tuple[float, float]:
    """Seconds, and CPU seconds, that so many executions take, shared among the CPUs."""
    share = str(execs // len(CPUS))
    begin, used = time.perf_counter(), children_cpu()
    running = [subprocess.Popen(["taskset", "-c", str(cpu), spawner, "vfork", share, tag]) for cpu in CPUS]
    if sum(process.wait() for process in running):
        raise SystemExit("the spawner failed")
    return time.perf_counter() - begin, children_cpu() - used


def children_cpu() -> float:
    """CPU seconds of all children that have been waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(spawner: Path, execs: int, counter: Counter | Audit | None) -> Burst:
    """One burst, seen by a counter or by nobody."""
    tag = f"tag{uuid.uuid4().hex[:12]}"
    time.sleep(QUIET)
    wall, work = burst(spawner, execs, tag)
    seen = counter.report(tag) if counter else Burst(0.0, 0.0, 0, 0.0, 0)
    return seen._replace(wall=wall, work=work)


def rounds(spawner: Path, execs: int, count: int, ways: list[str], folder: Path) -> dict[str, list[Burst]]:
    """Let the ways take turns."""
    found: dict[str, list[Burst]] = {way: [] for way in ways}
    for number in range(count):
        for way in ways:
            with counting(way, folder / f"{way}{number}") as counter:
                found[way].append(measured(spawner, execs, counter))
            if sys.stderr.isatty():
                print(f"\r{sum(map(len, found.values()))} bursts ", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    return found


@contextmanager
def counting(way: str, folder: Path) -> Iterator[Counter | Audit | None]:
    """Something that counts in this way, for one burst."""
    if way == "bare":
        yield None
        return
    folder.mkdir()
    counter = Audit(folder) if way == "auditd" else Counter(MODES[way])
    try:
        counter.begin()
        yield counter
    finally:
        counter.stop()


def print_rows(found: dict[str, list[Burst]], execs: int) -> None:
    """One line for each way."""
    bare = min(b.wall for b in found["bare"]), min(b.work for b in found["bare"])
    for way, bursts in found.items():
        wall, work = min(b.wall for b in bursts), min(b.work for b in bursts)
        line = f"{way:10}{wall:9.3f}{wall / bare[0]:8.2f}{work:9.3f}{work / bare[1]:8.2f}"
        if way != "bare":
            done = execs * len(bursts)
            captured = 100 * sum(b.captured for b in bursts) / done
            cpu = sum(b.cpu for b in bursts) / done * 100_000
            line += f"{captured:12.2f}{cpu:12.2f}{max(b.rss for b in bursts) / 1024:8.1f}"
        print(line)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--execs", type=int, default=20_000, help="executions a burst (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="bursts of each way (default: %(default)s)")
    parser.add_argument("--no-auditd", action="store_true", help="leave auditd out")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        asyncio.run(count(options.count))
        return
    if os.geteuid() != 0 or not shutil.which("gcc"):
        raise SystemExit("process: skipped, needs root and gcc")
    execs = options.execs // len(CPUS) * len(CPUS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spawner = folder / "spawner"
        subprocess.run(["gcc", "-O2", "-static", "-pthread", SPAWNER, "-o", spawner], check=True)
        print(f"{execs} executions a burst on {len(CPUS)} CPUs, {options.rounds} bursts of each way\n")
        print(f"{'':10}   wall s   ratio   work s   ratio  captured %  CPU s/100k  RSS MB")
        print_rows(rounds(spawner, execs, options.rounds, ["bare", *MODES], folder), execs)
        if why := why_no_auditd(not options.no_auditd):
            print(f"auditd: skipped, {why}")
            return
        print_rows(rounds(spawner, execs, options.rounds, ["bare", "auditd"], folder), execs)


if __name__ == "__main__":
    main()
