"""`vedette sbom`: the software on this machine, as a table or as a standard document."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from vedette.commands import UsageError, add_command, print_json, print_table

if TYPE_CHECKING:
    from vedette.wire.events import Package

EXAMPLES = """\
  vedette sbom
  vedette sbom --format cyclonedx --output sbom.cdx.json
  vedette sbom --format spdx --root /mnt/image"""

COLUMNS = ("name", "version", "architecture", "vendor")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    sbom = add_command(
        subparsers,
        "sbom",
        "list the installed software",
        "Reads the databases of dpkg, rpm, apk, opkg, pip, npm, snap and flatpak; runs none of them.",
        EXAMPLES,
    )
    sbom.add_argument("--format", choices=("cyclonedx", "spdx"), help="print a standard document")
    sbom.add_argument("--json", action="store_true", help="print the packages as JSON")
    sbom.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="list another system's files"
    )
    sbom.add_argument("--output", type=Path, metavar="FILE", help="write into a file (with --format)")
    sbom.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what was asked for. The status is 1 if a package database could not be read."""
    import msgspec

    from vedette.agent.collectors.sbom import inventory
    from vedette.agent.losses import Losses

    notes: list[str] = []
    losses = Losses()
    packages = list(inventory(options.root, notes, losses))
    if options.format:
        _document(packages, options)
    elif options.json:
        print_json(msgspec.to_builtins(packages))
    else:
        print_table(COLUMNS, [[getattr(package, name) for name in COLUMNS] for package in packages])
    notes += [f"{loss.hits} records left out: {loss.reason}" for loss in losses.take()]
    for note in notes:
        print(f"vedette: {note}", file=sys.stderr)
    return 1 if notes else 0


def _document(packages: Iterable[Package], options: argparse.Namespace) -> None:
    from vedette.agent.sources.files import attribute
    from vedette.wire.sbom import FORMATS, Subject

    device = attribute(options.root / "etc/hostname") or "device"
    try:
        text = FORMATS[options.format](packages, Subject(device, datetime.now(UTC), uuid4()))
    except ModuleNotFoundError as error:
        raise UsageError(f"--format needs {error.name}: pip install 'vedette[sbom]'") from None
    if options.output is None:
        print(text)
        return
    try:
        options.output.write_text(text + "\n")
    except OSError as error:
        raise UsageError(f"{options.output}: {error.strerror}") from None
