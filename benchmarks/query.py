"""The same questions to DuckDB, and to Sail and a Spark cluster of two workers, on one lake.

    python benchmarks/query.py [--rows N] [--engines duckdb,sail,spark] [--runs N]

Makes a lake of N rows in a temporary directory, starts the engines on loopback, asks each question once to
warm up and then `runs` times, and prints the median in seconds. Sail and Spark come from an environment of
their own, 800 MB, which the first run makes; Spark needs Java 17. The KQL is the same for all; every row of
the table is one translation of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vedette.hub.lake import Lake, Limits
from vedette.hub.lake.spark import SparkLake, connect

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

import spark_rig  # noqa: E402 - found in the tests, which it serves, too
import spark_venv  # noqa: E402

from made_lake import make  # noqa: E402

QUESTIONS = {
    "events by device and type, last day": "SecurityIoTRawEvent | where TimeGenerated > datetime(2026-01-05)"
    " | summarize Events=count() by DeviceId, RawEventName",
    "top command lines": "Process | summarize Hits=sum(HitCount), Devices=dcount(DeviceId) by Commandline"
    " | top 20 by Hits",
    "one device's last 100 events": "SecurityIoTRawEvent | where DeviceId == 'dev7'"
    " | top 100 by TimeGenerated",
    "failed checks, latest of each device": "Baseline | where BaselineCheckResult == 'FAIL'"
    " | summarize arg_max(TimeGenerated, BaselineCheckDescription) by DeviceId, BaselineCheckId",
    "a term in the command line": "Process | where Commandline has 'tmp' | count",
    "a join of logins and processes": "Login | summarize Last=max(TimeGenerated) by DeviceId"
    " | join kind=inner (Process | summarize Runs=count() by DeviceId) on DeviceId",
}
LIMITS = Limits(seconds=600)


def main() -> None:
    """Print a table: a line a question, a column an engine."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500_000, help="events in the lake (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="times that count (default: %(default)s)")
    parser.add_argument("--engines", default="duckdb,sail,spark", help="default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vedette-query-") as root:
        lake = make(Path(root) / "lake", options.rows)
        measured = {
            name: _measure(name, lake, Path(root), options.runs) for name in options.engines.split(",")
        }
    print(f"{options.rows:,} events, median of {options.runs} in seconds")
    print(f"{'':40}" + "".join(f"{name:>10}" for name in measured))
    for question in QUESTIONS:
        print(f"{question:40}" + "".join(f"{times[question]:10.3f}" for times in measured.values()))


def _measure(name: str, lake: Path, root: Path, runs: int) -> dict[str, float]:
    with _engine(name, lake, root) as engine:
        return {question: _median(engine, text, runs) for question, text in QUESTIONS.items()}


def _median(engine: Lake | SparkLake, text: str, runs: int) -> float:
    engine.query(text, limits=LIMITS)
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        engine.query(text, limits=LIMITS)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@contextmanager
def _engine(name: str, lake: Path, root: Path) -> Iterator[Lake | SparkLake]:
    if name == "duckdb":
        yield Lake(lake)
        return
    spark_venv.interpreter()
    with ExitStack() as stack:
        if name == "sail":
            remote = stack.enter_context(spark_rig.sail(root))
        else:
            remote = stack.enter_context(spark_rig.cluster(root)).remote
        session = connect(remote=remote)
        stack.callback(session.stop)
        yield SparkLake(lake, session)


if __name__ == "__main__":
    main()
