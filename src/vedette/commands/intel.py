"""`vedette intel`: what is known to be bad, and what is known about software, imported from files."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.commands import (
    UsageError,
    add_command,
    add_common,
    print_json,
    print_record,
    print_removed,
    print_table,
)
from vedette.commands.state import opened_database, state_of

if TYPE_CHECKING:
    from vedette.hub.detect.schema import Database
    from vedette.hub.intel.store import IntelList

SHOWN = 100
"""Indicators that `show` prints without --all."""

EXAMPLES = """\
  vedette intel import feodo.txt --expires 30d
  vedette intel import urlhaus.csv --column url --name urlhaus
  vedette intel import bundle.json --name isac --since 7d      STIX 2.0 or 2.1; alerts for a week past
  vedette intel import misp-feed/*.json --name misp
  vedette intel import --osv Debian.zip --name debian          advisories: an ecosystem's zip from OSV
  vedette intel import --lifecycles mine.json                  until when distributions are maintained
  vedette intel check 203.0.113.66"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    intel = add_command(
        subparsers,
        "intel",
        "import, list and ask lists of bad addresses, names, URLs and hashes, and software advisories",
        "Nothing is downloaded: files come from you. A running hub follows an import within seconds.",
        EXAMPLES,
    )
    actions = intel.add_subparsers(metavar="ACTION", required=True)
    _declare_import(actions)
    listing = add_command(actions, "list", "list what was imported")
    listing.set_defaults(run=_list)
    show = add_command(actions, "show", "show a list: where it is from, what was refused, its indicators")
    show.add_argument("name", metavar="LIST")
    show.add_argument("--all", action="store_true", help=f"all indicators, not the first {SHOWN}")
    show.set_defaults(run=_show)
    remove = add_command(actions, "remove", "forget a list")
    remove.add_argument("name", metavar="LIST")
    remove.set_defaults(run=_remove)
    check = add_command(
        actions,
        "check",
        "tell which lists know a value",
        "An address is looked for in ranges, a name with those above it, a URL with its host and directories."
        " The exit status is 1 if no list knows it.",
        "  vedette intel check files.bad.example\n  vedette intel check https://203.0.113.66/x86 --json",
    )
    check.add_argument("value", metavar="VALUE", help="an address, a name, a URL or a file's hash")
    check.set_defaults(run=_check)
    for action in (listing, show, remove, check):
        add_common(action)


def _declare_import(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    importing = add_command(
        actions,
        "import",
        "make files a list, in place of what the list had",
        "Importing the same files again changes nothing. What cannot be used is counted by reason. Of STIX"
        " patterns those count that say that one thing by itself is bad: comparisons (=, IN, ISSUBSET) of"
        " addresses, names, URLs and file hashes, joined by OR; of MISP the attributes marked to_ids.",
        EXAMPLES,
    )
    importing.add_argument("files", nargs="+", type=Path, metavar="FILE")
    what = importing.add_mutually_exclusive_group()
    what.add_argument(
        "--format", choices=("list", "csv", "stix", "misp"), help="of the files (default: as they look)"
    )
    what.add_argument(
        "--osv", action="store_true", help="the files are OSV records, directories or zip files of them"
    )
    what.add_argument("--lifecycles", action="store_true", help="the files say when distributions end")
    importing.add_argument("--name", default="", metavar="LIST", help="default: the first file's name")
    importing.add_argument(
        "--kind", choices=("address", "name", "url", "hash"), help="of all entries of lists and CSV"
    )
    importing.add_argument("--column", default="", metavar="NAME", help="the CSV column with the values")
    importing.add_argument(
        "--confidence", type=int, metavar="0-100", help="of entries that have none of their own"
    )
    importing.add_argument("--expires", default="", metavar="SPAN", help="forget entries after 12h, 30d, …")
    importing.add_argument(
        "--since", default="", metavar="SPAN", help="raise alerts for what devices did in the last 12h, 7d, …"
    )
    importing.set_defaults(run=_import)
    add_common(importing)


def _import(options: argparse.Namespace) -> int:
    from vedette.hub.detect.rules import seconds

    if options.confidence is not None and not 0 <= options.confidence <= 100:
        raise UsageError("--confidence: a number from 0 to 100")
    for path in options.files:
        if not path.exists():
            raise UsageError(f"{path}: no such file or directory")
    with opened_database(options) as database:
        span = seconds(options.since) if options.since else 0
        if options.osv:
            made = _import_advisories(options, database)
        elif options.lifecycles:
            made = _import_lifecycles(options, database)
        else:
            made = _import_indicators(options, database)
        past = _look_back(options, database, span) if span else None
    if sys.stderr.isatty():
        print("\033[K", end="", file=sys.stderr, flush=True)  # the rest of a number that has grown
    if options.json:
        print_json(_plain(made) | ({"events": past[0], "alerts": past[1]} if past else {}))
        return 0
    print(f"{made.name}: {made.entries} {made.kind}")
    for reason, count in made.refused.items():
        print(f"  {count} left out: {reason}")
    if past:
        print(f"  {past[1]} new alerts of {past[0]} events")
    return 0


def _import_indicators(options: argparse.Namespace, database: Database) -> IntelList:
    from vedette.hub.detect.rules import seconds
    from vedette.hub.intel.formats import Reading, rated, read
    from vedette.hub.intel.store import Intel

    entries = chain.from_iterable(
        read(path, options.format, Reading(options.kind, options.column)) for path in options.files
    )
    expires = time.time() + seconds(options.expires) if options.expires else None
    return Intel(database).put_indicators(
        _name(options), _source(options), rated(entries, options.confidence, expires), _progress("indicators")
    )


def _import_advisories(options: argparse.Namespace, database: Database) -> IntelList:
    from vedette.hub.intel.imports import import_advisories

    return import_advisories(database, _name(options), _source(options), options.files, _progress("records"))


def _import_lifecycles(options: argparse.Namespace, database: Database) -> IntelList:
    from vedette.hub.intel.imports import import_lifecycles

    return import_lifecycles(database, _name(options), _source(options), options.files)


def _look_back(options: argparse.Namespace, database: Database, span: float) -> tuple[int, int]:
    from vedette.hub.detect.rulebook import Rulebook
    from vedette.hub.intel.lookback import look_back

    state, now = state_of(options), time.time()
    rules = Rulebook(database, state.rules).rules()
    return look_back(state.lake, database, rules, now - span, now, _progress("events"))


def _name(options: argparse.Namespace) -> str:
    return str(options.name or options.files[0].name.partition(".")[0])


def _source(options: argparse.Namespace) -> str:
    names = [path.name for path in options.files]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _progress(what: str) -> Callable[[int], None]:
    """A number that grows, for somebody who watches; what comes next takes its place."""

    def told(count: int) -> None:
        if sys.stderr.isatty():
            print(f"{count} {what}\r", end="", file=sys.stderr, flush=True)

    return told


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def _when(at: float | None) -> str:
    from vedette.hub.detect.correlate import utc_text

    return "" if at is None else utc_text(at)[:16].replace("T", " ")


def _list(options: argparse.Namespace) -> int:
    from vedette.hub.intel.store import Intel

    with opened_database(options) as database:
        lists = Intel(database).lists()
    if options.json:
        print_json(_plain(lists))
        return 0
    columns = ("list", "kind", "entries", "left out", "imported (UTC)", "source")
    rows = [
        (one.name, one.kind, one.entries, sum(one.refused.values()), _when(one.imported), one.source)
        for one in lists
    ]
    print_table(columns, rows)
    return 0


def _show(options: argparse.Namespace) -> int:
    from itertools import islice

    from vedette.hub.intel.store import Intel

    with opened_database(options) as database:
        intel = Intel(database)
        known = intel.get(options.name)
        indicators = [
            one for _, one in islice(intel.indicators(options.name), None if options.all else SHOWN)
        ]
    if options.json:
        entries = [{name: getattr(one, name) for name in one.__struct_fields__} for one in indicators]
        print_json(_plain(known) | {"indicators": entries})
        return 0
    refused = ", ".join(f"{reason} ({count})" for reason, count in known.refused.items())
    print_record(_plain(known) | {"imported": f"{_when(known.imported)} UTC", "refused": refused})
    if indicators:
        print()
        rows = [(i.kind, i.value, i.confidence, _when(i.expires), i.note) for i in indicators]
        print_table(("kind", "value", "confidence", "expires (UTC)", "note"), rows)
    if len(indicators) < known.entries and known.kind == "indicators":
        print(f"the first {SHOWN} of {known.entries}; --all shows them all")
    return 0


def _remove(options: argparse.Namespace) -> int:
    from vedette.hub.intel.store import Intel

    with opened_database(options) as database:
        Intel(database).remove(options.name)
    print_removed(options.name, options)
    return 0


def _check(options: argparse.Namespace) -> int:
    from vedette.hub.intel.store import Intel

    with opened_database(options) as database:
        hits = Intel(database).check(options.value)
    if options.json:
        print_json(
            [
                {"list": hit.list}
                | {name: getattr(hit.indicator, name) for name in hit.indicator.__struct_fields__}
                for hit in hits
            ]
        )
    elif hits:
        rows = [
            (hit.list, i.kind, i.value, i.confidence, _when(i.expires), i.note)
            for hit in hits
            for i in (hit.indicator,)
        ]
        print_table(("list", "kind", "value", "confidence", "expires (UTC)", "note"), rows)
    else:
        print(f"{options.value}: no list knows it")
    return 0 if hits else 1
