"""`vedette baseline`: the security baseline of this machine, or of an image, in the terminal."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.commands import UsageError, add_command, print_json
from vedette.wire.twin import InvalidSettings, Settings, settings_from

if TYPE_CHECKING:
    from vedette.agent.baseline.scan import Outcome

EXAMPLES = """\
  vedette baseline
  vedette baseline --profile server --groups-disabled 'Auditing, TCP Wrappers'
  vedette baseline --root /mnt/image --json"""

_COLOURS = {"PASS": "32", "FAIL": "31", "SKIP": "90", "ERROR": "35"}
_SEVERITIES = ("Critical", "Important", "Warning", "Informational")
_BAR = 30


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    parser = add_command(
        subparsers,
        "baseline",
        "check this machine against the CIS benchmark",
        "Reads files below one root and changes nothing. The exit status is 0 if no check failed, else 1.",
        EXAMPLES,
    )
    parser.add_argument("--profile", choices=("device", "server", "full"), default="device")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="check another system's files"
    )
    parser.add_argument("--groups-disabled", default="", metavar="NAMES", help="leave out groups of checks")
    parser.add_argument("--checks-disabled", default="", metavar="NUMBERS", help="leave out single checks")
    parser.add_argument("--custom", type=Path, metavar="YAML", help="add checks of your own")
    parser.add_argument("--all-file-systems", action="store_true", help="search beyond the root file system")
    parser.add_argument("--all", action="store_true", help="show passed and skipped checks too")
    parser.add_argument("--json", action="store_true", help="print all results as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Scan and print; 1 if a check failed or could not be made."""
    import msgspec

    settings = _settings(options)
    if not options.root.is_dir():
        raise UsageError(f"{options.root}: there is no such directory")
    outcomes = list(_watched(options.root, settings))
    if options.json:
        print_json(msgspec.to_builtins(outcomes))
    else:
        _print_details(outcomes, show_all=options.all)
        _print_summary(outcomes)
    return int(any(outcome.result in {"FAIL", "ERROR"} for outcome in outcomes))


def _settings(options: argparse.Namespace) -> Settings:
    document: dict[str, Any] = {
        "Baseline_Profile": options.profile,
        "Baseline_GroupsDisabled": options.groups_disabled,
        "Baseline_ChecksDisabled": options.checks_disabled,
        "Baseline_OneFileSystem": not options.all_file_systems,
    }
    if options.custom:
        document |= _pinned(options.custom)
    try:
        return settings_from(document)
    except InvalidSettings as error:
        raise UsageError(str(error)) from None


def _pinned(path: Path) -> dict[str, str]:
    """Settings for a file of custom checks, as it is now: who starts the command vouches for it."""
    import hashlib

    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return {"Baseline_CustomChecks": str(path.resolve()), "Baseline_CustomChecksSha256": digest}


def _watched(root: Path, settings: Settings) -> Iterator[Outcome]:
    """The outcomes of a scan, with a bar on standard error while somebody looks at it."""
    from vedette.agent.baseline.run import planned, run
    from vedette.agent.baseline.tree import DiskTree

    total, done = len(planned(settings)), 0
    watched = sys.stderr.isatty()
    for outcome in run(DiskTree(root), settings):
        done += outcome is not None
        if watched:
            bar = "#" * (_BAR * min(done, total) // max(total, 1))
            what = outcome.number if outcome else "searching the file system"
            print(f"\r[{bar:<{_BAR}}] {done}/{total} {what:<26.26}", end="", file=sys.stderr)
        if outcome is not None:
            yield outcome
    if watched:
        print("\r\x1b[K", end="", file=sys.stderr)


def _print_details(outcomes: Iterable[Outcome], *, show_all: bool) -> None:
    """Each result with its evidence and what to do, the worst last, where the eye is."""
    shown = [outcome for outcome in outcomes if show_all or outcome.result in {"FAIL", "ERROR"}]
    for outcome in sorted(shown, key=lambda outcome: -_SEVERITIES.index(outcome.severity)):
        print(f"{_coloured(outcome.result)} {outcome.check_id}  ({outcome.severity})")
        print(f"     {outcome.description}")
        for line in filter(None, (*outcome.evidence, outcome.reason)):
            print(f"     > {line}")
        if outcome.result == "FAIL" and outcome.remediation:
            print(f"     {outcome.remediation}")
        print()


def _print_summary(outcomes: Iterable[Outcome]) -> None:
    """How many of each group passed, failed, were skipped or went wrong."""
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        counts.setdefault(outcome.group, Counter())[outcome.result] += 1
    total = sum(counts.values(), Counter[str]())
    width = max(map(len, (*counts, "all")), default=3)
    print(f"{'':{width}}" + "".join(f"  {_coloured(result, 5)}" for result in _COLOURS))
    for group, count in (*counts.items(), ("all", total)):
        cells = "".join(f"  {_coloured(result, 5, count[result])}" for result in _COLOURS)
        print(f"{group:{width}}{cells}")


def _coloured(result: str, width: int = 0, number: int | None = None) -> str:
    """A verdict (or how often it was given) in its colour, where the terminal has colours."""
    text = f"{result if number is None else number:>{width}}" if width else result
    if number == 0 or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{_COLOURS[result]}m{text}\x1b[0m"
