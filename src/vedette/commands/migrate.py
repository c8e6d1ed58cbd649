"""`vedette migrate`: take over a Defender micro agent's local files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.commands import UsageError, add_command, print_json, print_table

if TYPE_CHECKING:
    from vedette.agent.migrate import Step


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    from vedette.agent.settings import CONFIG_DIR

    migrate = add_command(
        subparsers,
        "migrate",
        "take over a Defender micro agent's local files",
        "Reads connection string, certificate, conf.json and sysinfo.json. If it understands them all, it"
        " writes ours and shows what it did. The old directory stays as it is. Secrets are never printed.",
        "  vedette migrate --dry-run\n  vedette migrate /mnt/etc/defender_iot_micro_agent --config ./config",
    )
    migrate.add_argument(
        "directory",
        type=Path,
        nargs="?",
        default=Path("/etc/defender_iot_micro_agent"),
        metavar="DIR",
        help="that agent's directory (default: %(default)s)",
    )
    migrate.add_argument(
        "--config", type=Path, default=CONFIG_DIR, metavar="DIR", help="ours (default: %(default)s)"
    )
    migrate.add_argument("--replace", action="store_true", help="overwrite files of ours that differ")
    migrate.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    migrate.add_argument("--json", action="store_true", help="print JSON")
    migrate.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from vedette.agent.migrate import carry_out, plan, refusals

    if not options.directory.is_dir():
        raise UsageError(f"{options.directory} is not a directory")
    steps = plan(options.directory, options.config, replace=options.replace)
    refused = refusals(steps)
    if not refused and not options.dry_run:
        try:
            carry_out(steps, options.config)
        except OSError as error:
            raise UsageError(f"{error.filename}: {error.strerror}") from None
    _show(options, steps, written=not refused and not options.dry_run)
    if refused:
        raise UsageError("nothing was written: " + "; ".join(f"{s.file}: {s.detail}" for s in refused))
    return 0


def _show(options: argparse.Namespace, steps: Sequence[Step], *, written: bool) -> None:
    rows = [{"file": step.file, "action": step.action, "detail": step.detail} for step in steps]
    if options.json:
        print_json(
            {"from": options.directory, "to": options.config, "dry_run": options.dry_run, "files": rows}
        )
        return
    print(f"{options.directory} → {options.config}{'' if written else ' (nothing is written)'}\n")
    print_table(["file", "action", "detail"], [list(row.values()) for row in rows], cut=140)
    if written and any(step.action == "write" for step in steps):
        print("\nnext: vedette agent check")
