"""A soak: hub and agent on this machine under mixed load, and what of it was counted, lost, and paid for.

    python benchmarks/soak.py [--minutes N]                                    as root, with gcc

`vedette up` runs in a state directory of its own, on loopback, with all collectors and eBPF. The load goes in
rounds: executions (of one command line, of distinct ones, and under passwords that change), changes to files
in a watched directory, connections over loopback. After each round memory and CPU of the agent are read.

The table compares what was done with what the hub's lake holds after the end. Dropped are the losses that
the agent's statistics tell; they cover every program on this machine, the soak's and others'. The exit
status is 1 if executions are missing: if what was counted, or counted and dropped, is not what was done.
Loopback is not a device whose traffic is counted: connections load the machine, not the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SPAWNER = Path(__file__).parent.parent / "tests" / "fixtures" / "spawner.c"
VEDETTE = [sys.executable, "-m", "vedette.cli"]
PATIENCE_S = 120.0
"""Until something that takes seconds is given up."""

REST_S = 1.0
"""Between two rounds: a load that leaves the machine some time for itself."""

SAME, DISTINCT, SECRET, FILES, CONNECTIONS = 400, 100, 50, 100, 50
"""Done in a round."""

SETTINGS = {
    "Process_CacheSize": 16_384,
    "FileSystem_CacheSize": 16_384,
    "FileSystem_Events": "created",
    "Agent_MaxCpuPercent": 100,
}
"""Room for all, and no rest for the busiest collector: what happens while one rests is not counted."""

WARM_UP = 0.2
"""Share of the soak that is left out of the slope: caches and arenas fill first."""

TICK = os.sysconf("SC_CLK_TCK")


class Reading(NamedTuple):
    """The agent at one moment: seconds since the beginning, RSS in MB, CPU seconds."""

    at: float
    rss: float
    cpu: float


class Row(NamedTuple):
    """What was done, what the lake holds of it, what the agent says it lost (by anybody's doing)."""

    name: str
    true: int
    counted: int
    dropped: int

    @property
    def adds_up(self) -> bool:
        """Without a loss all must be counted; with losses, whose share is not known, none may be missing."""
        return self.counted <= self.true <= self.counted + self.dropped


class Up:
    """A running `vedette up`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        ports = ["--mqtt-port", str(free_port()), "--https-port", str(free_port())]
        command = [*VEDETTE, "up", "--plain", "--state", str(root), "--bind", "127.0.0.1", *ports]
        with (root / "up.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, *arguments: str) -> list[dict[str, object]]:
        """What another `vedette` command answers in JSON; nothing while it cannot."""
        command = [*VEDETTE, *arguments, "--json", "--state", str(self._root / "hub")]
        done = subprocess.run(command, capture_output=True, text=True)
        return list(json.loads(done.stdout)) if done.returncode == 0 and done.stdout else []

    def total(self, query: str) -> int:
        """The hits of the events that a query finds."""
        rows = self.ask("query", f"{query} | summarize Hits=sum(HitCount)")
        return int(str(rows[0]["Hits"] or 0)) if rows else 0

    def agent(self) -> int:
        """The agent's process id."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return next(int(c) for c in children if b"\0agent\0" in Path(f"/proc/{c}/cmdline").read_bytes())

    def stop(self) -> None:
        """End it in order: what the agent holds reaches the hub."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()


class Load:
    """Rounds of work, and how much was done."""

    def __init__(self, spawner: Path, folder: Path) -> None:
        self._spawner, self._folder = str(spawner), folder
        self.tag = f"tag{uuid.uuid4().hex}"
        self.rounds = 0
        self._server = socket.create_server(("127.0.0.1", 0))

    def round(self) -> None:
        """One round of everything."""
        self._spawn("vfork", SAME, "same")
        self._spawn("distinct", DISTINCT, "")
        self._spawn("secrets", SECRET, "--token", "")
        for number in range(FILES):
            path = self._folder / f"file{number}"
            path.touch()
            path.unlink()
        for _ in range(CONNECTIONS):
            with (
                socket.create_connection(self._server.getsockname()) as client,
                self._server.accept()[0] as peer,
            ):
                client.sendall(bytes(1000))
                peer.recv(1000)
        self.rounds += 1

    def _spawn(self, kind: str, count: int, *arguments: str) -> None:
        subprocess.run([self._spawner, kind, str(count), self.tag, *arguments], check=True)


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def reading(pid: int, since: float) -> Reading:
    """Memory and CPU of a process now."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    rss = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return Reading(time.monotonic() - since, rss, (int(fields[11]) + int(fields[12])) / TICK)


def until(condition: Callable[[], object], what: str) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"soak: gave up waiting for {what}")
        time.sleep(1)


def prepare(up: Up, folder: Path) -> None:
    """Wait for the agent, give it the settings, and wait until they are in force."""
    until(lambda: up.ask("device", "list"), "the hub")
    device = str(up.ask("device", "list")[0]["device"])
    wanted = {**SETTINGS, "FileSystem_Paths": str(folder)}
    up.ask("twin", "set", device, *(f"{key}={json.dumps(value)}" for key, value in wanted.items()))

    def watched() -> bool:
        (folder / "probe").touch()
        (folder / "probe").unlink()
        return up.total("FileSystem | where Path endswith '/probe'") > 0

    until(watched, "the first file event")
    until(lambda: up.total("Process") > 0, "the first process event")


def soak(up: Up, load: Load, minutes: float) -> list[Reading]:
    """Rounds for so long; the agent after each."""
    pid, begin = up.agent(), time.monotonic()
    readings = [reading(pid, begin)]
    while readings[-1].at < minutes * 60:
        load.round()
        time.sleep(REST_S)
        readings.append(reading(pid, begin))
    return readings


def slope(readings: list[Reading]) -> float:
    """RSS in MB an hour, by least squares over what follows the warm-up."""
    late = [r for r in readings if r.at >= readings[-1].at * WARM_UP]
    mean_at, mean_rss = (sum(column) / len(late) for column in (*zip(*late, strict=True),)[:2])
    spread = sum((r.at - mean_at) ** 2 for r in late)
    return 3600 * sum((r.at - mean_at) * (r.rss - mean_rss) for r in late) / spread if spread else 0.0


def dropped(up: Up, collector: str) -> int:
    """Losses that the statistics tell of a collector."""
    rows = up.ask("query", f"Statistics | where Name == '{collector}' | project Events")
    outcomes = [outcome for row in rows for outcome in json.loads(str(row["Events"]))]
    return sum(o["HitCount"] for o in outcomes if o["Description"].startswith("dropped"))


def compared(up: Up, load: Load) -> list[Row]:
    """What was done against what the lake holds."""
    run = f"Process | where EventType == 'EXEC' and Commandline contains ' {load.tag} '"
    own = f"{run} and not(Commandline contains ' vfork ' or Commandline contains ' distinct ' " + (
        "or Commandline contains ' secrets ')"
    )
    created = "FileSystem | where Path contains '/vedette-soak-watched/file'"
    executions = load.rounds * (SAME + DISTINCT + SECRET)
    return [
        Row("executions", executions, up.total(own), dropped(up, "Process")),
        Row("files created", load.rounds * FILES, up.total(created), dropped(up, "FileSystem")),
    ]


def print_table(readings: list[Reading], rows: list[Row]) -> None:
    """The result."""
    first, last = readings[0], readings[-1]
    print(f"{last.at / 60:.1f} minutes, {len(readings) - 1} rounds")
    print(f"{'RSS at the end':20}{last.rss:12.1f} MB")
    print(f"{'RSS slope':20}{slope(readings):12.2f} MB/hour")
    print(f"{'CPU':20}{100 * (last.cpu - first.cpu) / (last.at - first.at):12.2f} % of a core\n")
    print(f"{'':20}{'true':>12}{'counted':>12}{'dropped':>12}")
    for row in rows:
        print(f"{row.name:20}{row.true:12}{row.counted:12}{row.dropped:12}")


def main() -> int:
    """Run the soak; 1 if executions are missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: %(default)s)")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("gcc"):
        raise SystemExit("soak: skipped, needs root and gcc")
    with tempfile.TemporaryDirectory(prefix="vedette-soak-") as name:
        state, folder, spawner = (Path(name) / part for part in ("state", "vedette-soak-watched", "spawner"))
        state.mkdir()
        folder.mkdir()
        subprocess.run(["gcc", "-O2", "-static", "-pthread", SPAWNER, "-o", spawner], check=True)
        up, load = Up(state), Load(spawner, folder)
        try:
            prepare(up, folder)
            readings = soak(up, load, options.minutes)
        finally:
            up.stop()
        rows = compared(up, load)
    print_table(readings, rows)
    return 0 if rows[0].adds_up else 1


if __name__ == "__main__":
    raise SystemExit(main())
