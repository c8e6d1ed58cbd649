"""`vedette query`: ask the lake, in KQL or SQL, whether the hub runs or not."""

from __future__ import annotations

import argparse
import csv
import sys
from contextlib import closing

from vedette.commands import UsageError, add_command, add_state, print_json, print_table
from vedette.commands.hub import state_of

EXAMPLES = """\
  vedette query 'Process | summarize Executions=sum(HitCount) by Commandline | top 10 by Executions'
  vedette query 'SecurityIoTRawEvent | summarize Events=count() by DeviceId, RawEventName'
  vedette query --sql 'SELECT DeviceId, max(TimeGenerated) FROM SecurityIoTRawEvent GROUP BY 1' --csv"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    query = add_command(
        subparsers,
        "query",
        "ask the lake in KQL (default) or SQL",
        "Tables: SecurityIoTRawEvent, DefenderIoTRawEvent, SecurityAlert, SecurityRecommendation, and one"
        " for each type of event.",
        EXAMPLES,
    )
    query.add_argument("text", help="the query; - reads it from standard input")
    query.add_argument("--sql", action="store_true", help="the query is SQL (DuckDB's dialect)")
    form = query.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV")
    add_state(query)
    query.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from vedette.hub.detect.schema import Database
    from vedette.hub.findings import findings
    from vedette.hub.lake import Lake, QueryError
    from vedette.hub.registry import RegistryError
    from vedette.hub.settings import HubError

    text = sys.stdin.read() if options.text == "-" else options.text
    state = state_of(options)
    try:
        state.load()
        with closing(Database(state.registry_url)) as database:
            lake = Lake(state.lake, findings(database))
            result = lake.query(text, language="sql" if options.sql else "kql")
    except (HubError, QueryError, RegistryError) as error:
        raise UsageError(str(error)) from None
    if options.json:
        print_json([dict(zip(result.columns, row, strict=True)) for row in result.rows])
    elif options.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(result.columns)
        writer.writerows(result.rows)
    else:
        print_table(result.columns, result.rows)
        if result.truncated:
            print(f"only the first {len(result.rows)} rows are shown", file=sys.stderr)
    return 0
