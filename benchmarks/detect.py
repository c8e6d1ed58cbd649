"""How many events detection judges in a second of CPU, by 150 rules, and whether that is linear in events.

Three mixes of ordinary process, login and file events: *fleet*, 1,000 command lines that many devices run;
*mixed*, half of them new; *new*, every command line different, which no real fleet comes near. What is
measured is all of detection: rows of parquet become events, events rows of Sigma, rules are judged,
correlations evaluated, alerts and recommendations stored. The rules are the built-in ones and copies of them,
up to the number asked for. *listed* is *new* with a list of a million indicators loaded.

*pySigma* is how fast its SQLite backend judges the command lines of *new*, used as it is documented: one
table, a query a rule, patterns as the backend writes them. Nothing but decoding, inserting and asking is
counted, and neither of *Judge*. Rules that it cannot express, and correlations, are left out on both sides.

    python benchmarks/detect.py [--rules 150] [--events 30000] [--indicators 1000000]
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml
from sigma.backends.sqlite.sqlite import sqliteBackend
from sigma.collection import SigmaCollection
from sigma.exceptions import SigmaError

from vedette.hub.detect.engine import Worker, collector_at_rest
from vedette.hub.detect.examples import steps
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.rules import RuleSet, load
from vedette.hub.detect.schema import Database
from vedette.hub.detect.taxonomy import PROCESS, Observed, column_type, common
from vedette.hub.intake import Inbound, rows_of
from vedette.hub.intel.indicators import Indicator, indicator
from vedette.hub.intel.store import Intel
from vedette.hub.lake.commit import TableWriter
from vedette.hub.lake.tables import RAW_EVENTS, open_table
from vedette.hub.posture import Posture
from vedette.wire.events import Event, FileSystem, Login, Payload, Process
from vedette.wire.iothub import Identity
from vedette.wire.message import INTERFACE_ID, MTI, Window, pack

NOON = 1_767_614_400.0
MESSAGE_EVENTS = 100
COMMIT_EVENTS = 5_000

PROGRAMS = (
    "/usr/bin/python3 /opt/app/collect.py --interval 30 --out /var/lib/app/{n}.json",
    "sh -c 'df -h / | tail -1 | cut -d\" \" -f{n}'",
    "/usr/sbin/logrotate /etc/logrotate.d/app-{n}",
    "curl -fsS -m 10 https://updates.example.org/v1/check?device={n}",
    "systemctl is-active app-{n}.service",
    "sudo -u app /opt/app/bin/report --batch {n} --quiet",
    "cat /proc/{n}/status",
    "busybox wget -q -O /tmp/firmware-{n}.sig https://updates.example.org/fw/{n}.sig",
    "iptables -L INPUT -n --line-numbers -t filter{n}",
    "find /var/log/app -name '*.{n}.gz' -mtime +7 -delete",
)


def rules(count: int, directory: Path) -> RuleSet:
    """The built-in rules and copies of their single-event ones with another id, up to `count`."""
    known = load()
    paths = sorted({Path(rule.path) for rule in known.rules})
    sources = [list(yaml.safe_load_all(path.read_text())) for path in paths]
    single = [documents[0] for documents in sources if len(documents) == 1 and _plain(documents[0])]
    missing = count - len(known.running().rules)
    for number, document in zip(range(missing), itertools.cycle(single), strict=False):
        copy = document | {"id": f"00000000-0000-4000-8000-{number:012d}"}
        copy["vedette"] = {"alert": f"Copy_{number}", "enabled": True}
        (directory / f"{number}.yml").write_text(yaml.safe_dump(copy))
    return load(directory)


def _plain(document: dict[str, dict[str, object]]) -> bool:
    return not document["vedette"].keys() & {"range", "silence"}


def payload(kind: float, number: int) -> Payload:
    """One event: seven in ten are processes."""
    if kind < 0.7:
        line = PROGRAMS[number % len(PROGRAMS)].format(n=number)
        return Process(event_type="EXEC", process_id=number, parent_process_id=1, user_id=0, commandline=line)
    if kind < 0.8:
        return Login(operation="Logout", user_name=f"user{number % 50}", remote_address="192.0.2.7")
    return FileSystem(mask="Access", mask_number=1, path=f"/var/lib/app/{number}")


def fill(lake: Path, events: int, fresh: float) -> None:
    """A lake with so many events, a part `fresh` of which are unlike all others."""
    chance = random.Random(7)
    serial = itertools.count(10_000)
    writer = TableWriter(lake, RAW_EVENTS)
    rows = []
    for first in range(0, events, MESSAGE_EVENTS):
        numbers = [
            next(serial) if chance.random() < fresh else chance.randrange(1_000)
            for _ in range(MESSAGE_EVENTS)
        ]
        made = [Event(payload(chance.random(), number), NOON + first) for number in numbers]
        [packed] = pack([(made, Window(NOON, NOON + 60))], max_bytes=250_000)
        device = Identity(f"device-{first // MESSAGE_EVENTS % 500}", "agent")
        properties = {"$.ifid": INTERFACE_ID, "mti": MTI, "$.mid": f"m{first}"}
        rows += rows_of(Inbound(device, properties, packed.body, NOON), f"m{first}").events
        if len(rows) >= COMMIT_EVENTS:
            writer.append(rows)
            rows = []
    if rows:
        writer.append(rows)


def made(count: int) -> Iterator[Indicator]:
    """Names and addresses that nothing here talks to."""
    for number in range(count // 2):
        yield indicator(f"host{number}.bad.example")
        yield indicator(f"198.{18 + number // 2**16 % 2}.{number // 256 % 256}.{number % 256}")


def judged(
    root: Path, loaded: RuleSet, events: int, fresh: float, indicators: int = 0
) -> tuple[float, int, int]:
    """CPU seconds that judging a new lake takes, events and alerts."""
    root.mkdir()
    lake = root / "lake"
    open_table(lake, RAW_EVENTS)
    database = Database(f"sqlite:///{root / 'registry.db'}")
    if indicators:
        Intel(database).put_indicators("benchmark", "made here", made(indicators))
    worker = Worker(lake, database, loaded, posture=Posture(), up_since=NOON)
    worker.step(NOON)  # without events: imports and first statements
    fill(lake, events, fresh)
    began = time.process_time()
    while worker.step(NOON):
        pass
    spent = time.process_time() - began
    worker.release()
    database.close()
    return spent, worker.state.events, worker.state.alerts


def compared(loaded: RuleSet, count: int) -> tuple[int, float, float]:
    """How many rules both can use; events a CPU second of theirs and of ours."""
    events = command_lines(count)
    paths = {rule.path for rule in loaded.running().rules if set(rule.events) & PROCESS.events}
    usable: dict[str, Sequence[str]] = {}
    for path in sorted(paths):
        text = Path(path).read_text()
        if "\ncorrelation:" in text:
            continue
        try:
            usable[path] = sqliteBackend(table="events").convert(SigmaCollection.from_yaml(text))
        except SigmaError:
            continue
    theirs = measured(lambda: naive(events, [query for some in usable.values() for query in some]))
    judge = Judge(load(*map(Path, usable), built_in=False).selections.values())
    ours = measured(lambda: judge.judge(events))
    judge.close()
    return len(usable), count / theirs, count / ours


def command_lines(count: int) -> list[Observed]:
    """Process events with as many different command lines."""
    lines = (PROGRAMS[number % len(PROGRAMS)].format(n=number) for number in range(count))
    return [step.event for line in lines for step in steps({"Process": line})[:1] if step.event]


def measured(work: Callable[[], object]) -> float:
    """CPU seconds of a piece of work."""
    with collector_at_rest():
        began = time.process_time()
        work()
        return time.process_time() - began


def naive(events: Sequence[Observed], queries: Sequence[str]) -> int:
    """Rows in a table, a query a rule."""
    fields = sorted(PROCESS.fields)
    database = sqlite3.connect(":memory:")
    database.create_function("REGEXP", 2, lambda pattern, text: re.search(pattern, text or "") is not None)
    columns = ", ".join(f'"{name}" {column_type(PROCESS, name)}' for name in fields)
    database.execute(f"CREATE TABLE events ({columns})")
    rows = [common(event) | row for event in events for row in PROCESS.rows(event.details)]
    insert = f"INSERT INTO events VALUES ({', '.join('?' * len(fields))})"
    database.executemany(insert, [[row[name] for name in fields] for row in rows])
    found = sum(len(database.execute(query).fetchall()) for query in queries)
    database.close()
    return found


def main() -> None:
    """Print events a CPU second for each mix, and for twice the events."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rules", type=int, default=150)
    options.add_argument("--events", type=int, default=30_000)
    options.add_argument("--indicators", type=int, default=1_000_000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "rules"
        directory.mkdir()
        loaded = rules(given.rules, directory)
        running = loaded.running()
        print(f"{len(running.rules)} rules, {len(running.selections)} conditions on single events")
        mixes = (("fleet", 0.0, 0), ("mixed", 0.5, 0), ("new", 1.0, 0), ("listed", 1.0, given.indicators))
        for name, fresh, indicators in mixes:
            for events in (given.events, 2 * given.events):
                place = Path(root) / f"{name}-{events}"
                spent, seen, raised = judged(place, loaded, events, fresh, indicators)
                rate = f"{seen / spent:9,.0f} a second, {raised} alerts"
                print(f"{name:6} {seen:7} events {spent:6.2f} s CPU {rate}")
        usable, theirs, ours = compared(loaded, given.events)
        print(f"pySigma {theirs:9,.0f} command lines a second by {usable} rules")
        print(f"Judge   {ours:9,.0f} command lines a second by the same, {ours / theirs:.1f} times as many")


if __name__ == "__main__":
    main()
