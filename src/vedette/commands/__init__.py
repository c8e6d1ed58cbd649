"""The `vedette` command, a subcommand a file: arguments, and what is printed. The work is done elsewhere."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_CELL = 80
"""Characters of a table cell before it is cut with an ellipsis; `--json` shows all."""

HELP_WIDTH = 90


class UsageError(Exception):
    """What was asked for cannot be done; the text is for the person at the terminal."""


def add_command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    details: str = "",
    examples: str = "",
) -> argparse.ArgumentParser:
    """A subcommand with a help page that teaches: what it does, then examples."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=textwrap.fill(f"{summary[0].upper()}{summary[1:]}. {details}", HELP_WIDTH),
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_state(parser: argparse.ArgumentParser) -> None:
    """The `--state` option of every hub command."""
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="the hub's state directory (default: $VEDETTE_STATE, /var/lib/vedette-hub, or the user's own)",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options of every hub command that prints: `--state` and `--json`."""
    add_state(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def print_json(value: Any) -> None:
    """A value as indented JSON, whatever types the database gave it."""
    json.dump(value, sys.stdout, indent=2, default=str, ensure_ascii=False)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, cut: int = MAX_CELL) -> None:
    """Rows under their column names, aligned; control characters made visible."""
    cells = [[_cell(value, cut) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    for line in (list(columns), ["-" * width for width in widths], *cells):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def print_rows(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], options: argparse.Namespace
) -> None:
    """The same fields of many things: as JSON if that was asked for, else as a table."""
    print_json(rows) if options.json else print_table(columns, [list(row.values()) for row in rows])


def print_removed(name: str, options: argparse.Namespace) -> None:
    """What is gone; people who asked for it need not be told."""
    if options.json:
        print_json({"removed": name})


def print_record(record: Mapping[str, Any]) -> None:
    """One thing, a line a field."""
    width = max(map(len, record), default=0)
    for key, value in record.items():
        print(f"{key.ljust(width)}  {_cell(value, 10_000)}")


def _cell(value: Any, cut: int) -> str:
    text = "" if value is None else str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= cut else text[: cut - 1] + "…"
