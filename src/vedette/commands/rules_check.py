"""`vedette rules check`: what of a directory of Sigma rules can run here."""

from __future__ import annotations

import argparse
from pathlib import Path

from vedette.commands import UsageError, add_command, print_json, print_table


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    check = add_command(
        actions,
        "check",
        "count what of a directory of Sigma rules can run here, and why the rest cannot",
        "Nothing is installed: copy what is wanted into the `rules` directory of the hub's state. The exit"
        " status is 0 whatever is refused; --files names each file.",
        "  vedette rules check sigma/rules/linux\n  vedette rules check sigma/rules/linux --files",
    )
    check.add_argument("places", nargs="+", type=Path, metavar="DIR", help="directories or rule files")
    check.add_argument("--files", action="store_true", help="name each file that is refused")
    check.add_argument("--json", action="store_true", help="print JSON: every file with its reason")
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from vedette.hub.detect.survey import survey, tallies

    for place in options.places:
        if not place.exists():
            raise UsageError(f"{place}: no such file or directory")
    files = survey(*options.places)
    if options.json:
        print_json([file._asdict() for file in files])
        return 0
    counted = tallies(files)
    print_table(("log source", "loaded", "refused"), [(t.source, t.loaded, t.refused) for t in counted])
    print()
    for tally in counted:
        for reason, count in tally.reasons:
            print(f"{tally.source}: {count} x {reason}")
    if options.files:
        print()
        for file in files:
            if file.reason:
                print(f"{file.path}: {file.reason}")
    loaded = sum(tally.loaded for tally in counted)
    print(f"\n{len(files)} files, {loaded} loaded, {len(files) - loaded} refused")
    return 0
