"""`vedette export`: whole events as files, in the forms that other systems read."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from vedette.commands import UsageError, add_command, add_state

FORMS = ("ocsf", "ecs", "ndjson", "csv", "parquet")
"""See `vedette.hub.lake.export`, which a device does not carry."""

WHOLE = "SELECT * FROM raw_events"

COPIED = 1_048_576
"""Bytes at a time on their way to standard output."""

EXAMPLES = """\
  vedette export --since 24h --form ocsf -o events.ndjson
  vedette export --device pump-17 --event Process --event NetworkActivity --form ecs | gzip >events.gz
  vedette export --query 'SecurityIoTRawEvent | where DeviceId startswith "pump"' --form ocsf"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    export = add_command(
        subparsers,
        "export",
        "write events to a file as OCSF, ECS, JSON lines, CSV or Parquet",
        "OCSF is version 1.7.0, ECS 8.17; both are newline-delimited JSON. A million events at most: ask for"
        " a part of the time where there are more.",
        EXAMPLES,
    )
    export.add_argument("--form", choices=FORMS, default="ocsf", help="default: %(default)s")
    export.add_argument("--since", metavar="SPAN", help="received within this time: 90m, 24h, 30d")
    export.add_argument("--device", metavar="ID", help="of this device")
    export.add_argument(
        "--event",
        action="append",
        default=[],
        metavar="NAME",
        help="of this name; may be given several times",
    )
    export.add_argument("--query", metavar="KQL", help="instead: the rows of a query; - reads standard input")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")
    add_state(export)
    export.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.output is None:
        if sys.stdout.isatty() and options.form == "parquet":
            raise UsageError("parquet is no text; name a file with --output")
        with tempfile.TemporaryFile() as file:
            rows = _export(options, file)
            file.seek(0)
            while chunk := file.read(COPIED):
                sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
    else:
        partial = options.output.with_name(options.output.name + ".partial")
        try:
            with partial.open("wb") as file:
                rows = _export(options, file)
            partial.replace(options.output)
        except OSError as error:
            raise UsageError(f"{options.output}: {error.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)
    print(f"{rows} events", file=sys.stderr)
    return 0


def _export(options: argparse.Namespace, file: IO[bytes]) -> int:
    """Write what was asked for; how many rows."""
    from vedette.commands.state import state_of
    from vedette.hub.detect.schema import Database
    from vedette.hub.findings import findings
    from vedette.hub.lake import Lake, QueryError
    from vedette.hub.lake.export import export
    from vedette.hub.registry import RegistryError
    from vedette.hub.settings import HubError

    state = state_of(options)
    try:
        state.load()
        with closing(Database(state.registry_url)) as database:
            lake = Lake(state.lake, findings(database))
            if options.query:
                text = sys.stdin.read() if options.query == "-" else options.query
                return export(lake, text, "kql", options.form, file)
            text, parameters = _chosen(options)
            return export(lake, text, "sql", options.form, file, parameters=parameters)
    except (HubError, QueryError, RegistryError) as error:
        raise UsageError(str(error)) from None


def _chosen(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The question for the events that were asked for, and its parameters."""
    given: dict[str, tuple[str, Any]] = {}
    if options.since:
        given["since"] = ("TimeGenerated >= $since", _since(options.since))
    if options.device:
        given["device"] = ("DeviceId = $device", options.device)
    if options.event:
        given["names"] = ("RawEventName IN $names", options.event)
    conditions = [condition for condition, _ in given.values()]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"{WHOLE}{where} ORDER BY TimeGenerated", {name: value for name, (_, value) in given.items()}


def _since(span: str) -> datetime:
    from vedette.hub.detect.rules import RuleError, seconds

    try:
        return (datetime.now(UTC) - timedelta(seconds=seconds(span))).replace(tzinfo=None)
    except RuleError as error:
        raise UsageError(f"--since: {error}") from None
