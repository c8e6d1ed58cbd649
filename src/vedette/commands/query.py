"""`vedette query`: ask the lake, in KQL or SQL, whether the hub runs or not."""

from __future__ import annotations

import argparse
import csv
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from vedette.commands import UsageError, add_command, add_state, print_json, print_table
from vedette.commands.state import state_of

if TYPE_CHECKING:
    from vedette.hub.findings import Findings
    from vedette.hub.lake import Limits, QueryError, Result
    from vedette.hub.lake.storage import Where

EXAMPLES = """\
  vedette query 'Process | summarize Executions=sum(HitCount) by Commandline | top 10 by Executions'
  vedette query 'Login | where Operation == "LoginFailed" and TimeGenerated > ago(7d) | count'
  vedette query 'Devices | join kind=leftanti (Process | where TimeGenerated > ago(1d)) on DeviceId'
  vedette query --sql 'SELECT DeviceId, max(TimeGenerated) FROM SecurityIoTRawEvent GROUP BY 1' --csv
  vedette query --engine spark --remote sc://spark:15002 - < question.kql

What KQL there is, the tables, and the engines: docs/query.md"""

SILENT_S = 1.0
"""How long a query runs before the terminal says how far it is."""

ENGINE_LIMIT_S = 300.0
"""Time limit on an engine of several machines, which is asked what takes one machine too long."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    query = add_command(
        subparsers,
        "query",
        "ask the lake in KQL (default) or SQL",
        "Tables: SecurityIoTRawEvent and DefenderIoTRawEvent (all events), one for each type of event"
        " (Process, NetworkActivity, Login, Baseline, …), SecurityAlert, SecurityRecommendation, Devices,"
        " Twins. 'Process | getschema' shows the columns of one. A query reads what is committed when it"
        " begins, and changes nothing.",
        EXAMPLES,
    )
    query.add_argument("text", help="the query; - reads it from standard input")
    query.add_argument("--sql", action="store_true", help="the query is SQL, in the engine's dialect")
    form = query.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV")
    query.add_argument(
        "--rows", type=_positive, metavar="N", help="show at most so many rows (default: 10000)"
    )
    query.add_argument(
        "--timeout",
        type=_positive,
        metavar="S",
        help=f"give up after so many seconds (default: 30; on Spark {ENGINE_LIMIT_S:g})",
    )
    query.add_argument(
        "--engine",
        choices=("duckdb", "spark"),
        default="duckdb",
        help="duckdb: in this process (default); spark: Spark or Sail, which read the same lake",
    )
    where = query.add_mutually_exclusive_group()
    where.add_argument("--remote", metavar="URL", help="spark: a Connect server, such as sc://host:15002")
    where.add_argument(
        "--master", metavar="URL", help="spark: a master without Connect, such as spark://host:7077"
    )
    add_state(query)
    query.set_defaults(run=_run)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _run(options: argparse.Namespace) -> int:
    from vedette.hub.detect.schema import Database
    from vedette.hub.findings import findings
    from vedette.hub.lake import QueryError
    from vedette.hub.registry import RegistryError
    from vedette.hub.settings import HubError

    if (options.engine == "spark") != bool(options.remote or options.master):
        raise UsageError("--engine spark goes with --remote sc://host:port or --master spark://host:port")
    text = sys.stdin.read() if options.text == "-" else options.text
    state = state_of(options)
    try:
        state.load()
        with closing(Database(state.registry_url)) as database:
            ask = _spark if options.engine == "spark" else _duckdb
            result = ask(options, text, state.lake, findings(database))
    except QueryError as error:
        raise UsageError(_pointed(text, error)) from None
    except (HubError, RegistryError) as error:
        raise UsageError(str(error)) from None
    _print(options, result)
    return 0


def _limits(options: argparse.Namespace, seconds: float) -> Limits:
    from vedette.hub.lake import Limits

    return Limits(seconds=options.timeout or seconds, rows=options.rows or Limits().rows)


def _duckdb(options: argparse.Namespace, text: str, lake: Where, beside: Findings) -> Result:
    from vedette.hub.lake import Lake, Limits
    from vedette.hub.lake.query import Watch

    watch = Watch()
    with _progress(lambda: f"{watch.share():.0%}"):
        return Lake(lake, beside).query(
            text,
            "sql" if options.sql else "kql",
            limits=_limits(options, Limits().seconds),
            watch=watch,
        )


def _spark(options: argparse.Namespace, text: str, lake: Where, beside: Findings) -> Result:
    from vedette.hub.lake.spark import SparkLake, connect

    began = time.monotonic()
    with _progress(lambda: f"{time.monotonic() - began:.0f} s"):
        session = connect(options.remote or "", options.master or "")
        try:
            return SparkLake(lake, session, beside).query(
                text, "sql" if options.sql else "kql", limits=_limits(options, ENGINE_LIMIT_S)
            )
        finally:
            session.stop()


@contextmanager
def _progress(share: Callable[[], str]) -> Iterator[None]:
    """Say on a terminal how far it is, once a second, when it takes longer than that."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()

    def show() -> None:
        while not done.wait(SILENT_S):
            print(f"\rrunning … {share()} ", end="", file=sys.stderr, flush=True)
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    shown = threading.Thread(target=show, name="query-progress", daemon=True)
    shown.start()
    try:
        yield
    finally:
        done.set()
        shown.join()


def _pointed(text: str, error: QueryError) -> str:
    """The error, and below it the line with a mark where it is."""
    if not error.line:
        return str(error)
    line = text.splitlines()[error.line - 1 : error.line] or [""]
    return f"{error}\n  {line[0].replace(chr(9), ' ')}\n  {' ' * (error.column - 1)}^"


def _print(options: argparse.Namespace, result: Result) -> None:
    if options.json:
        print_json([dict(zip(result.columns, row, strict=True)) for row in result.rows])
    elif options.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(result.columns)
        writer.writerows(result.rows)
    else:
        print_table(result.columns, result.rows)
    if result.truncated:
        print(f"only the first {len(result.rows)} rows are shown; --rows shows more", file=sys.stderr)
