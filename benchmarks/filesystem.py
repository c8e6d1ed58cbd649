"""Changes to files: what the collector counts, loses and costs, against inotifywait on the same work.

A tree of 10,000 directories is watched by nobody, by the collector in a process of its own, and by
`inotifywait -m -r` (Debian: inotify-tools). In each round another process makes 100,000 changes as fast
as it can: in every directory twice a file created, written, given other permissions, renamed and deleted.

A rename is one event of the collector and two of inotifywait. CPU is user and system time of the watching
process alone, from the first change until all has been taken in; RSS is its peak in that time.

Usage: benchmarks/filesystem.py [--directories N] [--pause MICROSECONDS]
`--pause` slows the changes down: so much rest after each directory's ten.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, NamedTuple

CHANGES = 10
"""Changes in a directory."""

QUIET = 1.0
"""Seconds without CPU use after which a watcher has taken everything in."""

TICK = os.sysconf("SC_CLK_TCK")
EVENTS = "created,deleted,moved,modified,metadata"
KINDS = "create,delete,move,modify,attrib"
"""The same to the collector and to inotifywait."""

WORK = """
import os, sys, time
root, pause = sys.argv[1], float(sys.argv[2]) / 1e6
for first in sorted(os.listdir(root)):
    for second in sorted(os.listdir(f"{root}/{first}")):
        place = f"{root}/{first}/{second}"
        for name in "ab":
            path = f"{place}/{name}"
            fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
            os.write(fd, b"x")
            os.fchmod(fd, 0o640)
            os.close(fd)
            os.rename(path, path + "2")
            os.unlink(path + "2")
        if pause:
            time.sleep(pause)
"""


class Round(NamedTuple):
    """What one round of the work came to."""

    name: str
    seconds: float
    setup: float = 0.0
    cpu: float = 0.0
    rss: float = 0.0
    true: int = 0
    counted: int = 0
    note: str = ""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_rss(pid: int) -> float:
    """Largest resident size of a process until now, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def work(root: Path, pause: float) -> float:
    """Make the changes; seconds they took."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-S", "-c", WORK, str(root), str(pause)], check=True)
    return time.monotonic() - started


def settle(pid: int) -> None:
    """Wait until a process does nothing any more."""
    before = -1.0
    while (now := cpu_seconds(pid)) != before:
        before = now
        time.sleep(QUIET)


def make_tree(root: Path, directories: int) -> int:
    """So many directories, at most a hundred in one; their true number."""
    outer = -(-directories // 100)
    for first in range(outer):
        for second in range(min(100, directories - 100 * first)):
            (root / f"{first:04}/{second:02}").mkdir(parents=True)
    return directories


def bare(root: Path, pause: float) -> Round:
    """The work alone."""
    return Round("nobody", work(root, pause))


def with_collector(root: Path, pause: float, true: int) -> Round:
    """The work under the collector."""
    watcher = subprocess.Popen(
        [sys.executable, __file__, "--watch", str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watcher.stdin
    assert watcher.stdout
    watcher.stdout.readline()
    setup = cpu_seconds(watcher.pid)
    seconds = work(root, pause)
    settle(watcher.pid)
    cpu, rss = cpu_seconds(watcher.pid) - setup, peak_rss(watcher.pid)
    told = json.loads(watcher.communicate("stop\n")[0])
    note = ", ".join(f"{reason}: {hits:,}" for reason, hits in told["losses"].items())
    return Round("vedette", seconds, setup, cpu, rss, true, told["counted"], note)


def with_inotifywait(root: Path, pause: float, true: int) -> Round:
    """The work under inotifywait, its lines counted."""
    with tempfile.TemporaryFile("w+") as lines:
        watcher = subprocess.Popen(
            [
                "inotifywait",
                "-m",
                "-r",
                "-e",
                "create,delete,move,modify,attrib",
                "--format",
                "%e %w%f",
                root,
            ],
            stdout=lines,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watcher.stderr
        while "established" not in watcher.stderr.readline():
            pass
        setup = cpu_seconds(watcher.pid)
        seconds = work(root, pause)
        settle(watcher.pid)
        cpu, rss = cpu_seconds(watcher.pid) - setup, peak_rss(watcher.pid)
        watcher.terminate()
        watcher.wait()
        watcher.stderr.close()
        return Round("inotifywait", seconds, setup, cpu, rss, true, count_lines(lines))


def count_lines(lines: IO[str]) -> int:
    """Changes in inotifywait's output, the halves of a rename as one."""
    lines.seek(0)
    return sum(not line.startswith("MOVED_FROM") for line in lines)


async def watch(root: str) -> None:
    """Be the collector's process: watch until told to stop, then print what was counted."""
    from vedette.agent.collectors.filesystem import FileSystemCollector
    from vedette.agent.losses import CACHE_FULL
    from vedette.wire.twin import settings_from

    collector = FileSystemCollector()
    await collector.start(settings_from({"FileSystem_Paths": root, "FileSystem_Events": EVENTS}))
    while "still scanning" in collector.source:
        await collector.collect()
    print(collector.source, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    told = await collector.stop()
    losses = {loss.reason: loss.hits for loss in told.losses}
    counted = sum(event.hits for event in told.events) + losses.get(CACHE_FULL, 0)
    print(json.dumps({"counted": counted, "losses": losses}))


def report(rounds: list[Round]) -> None:
    """The table, and the ratios between the last two."""
    print(
        f"{'watched by':<12}{'work s':>8}{'set-up s':>10}{'CPU s':>8}{'RSS MB':>8}{'true':>10}{'counted':>10}"
    )
    for one in rounds:
        print(
            f"{one.name:<12}{one.seconds:>8.2f}{one.setup:>10.2f}{one.cpu:>8.2f}{one.rss:>8.1f}"
            f"{one.true:>10,}{one.counted:>10,}  {one.note}"
        )
    ours = next(one for one in rounds if one.name == "vedette")
    print(
        f"vedette: {ours.counted / ours.true:.2%} counted, {ours.cpu / ours.true * 1e6:.1f} µs CPU a change"
    )
    for other in rounds:
        if other.name == "inotifywait" and other.cpu:
            print(
                f"vedette / inotifywait: CPU {ours.cpu / other.cpu:.2f}, RSS {ours.rss / other.rss:.2f}, "
                f"counted {ours.counted / max(1, other.counted):.4f}"
            )


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directories", type=int, default=10_000)
    parser.add_argument("--pause", type=float, default=0.0, help="microseconds of rest after each directory")
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        asyncio.run(watch(options.watch))
        return
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as place:
        root = Path(place).resolve()
        true = make_tree(root, options.directories) * CHANGES
        rounds = [bare(root, options.pause), with_collector(root, options.pause, true)]
        if shutil.which("inotifywait"):
            rounds.append(with_inotifywait(root, options.pause, true))
        else:
            print("inotifywait is not installed (Debian: apt-get install inotify-tools): not compared")
        report(rounds)


if __name__ == "__main__":
    main()
