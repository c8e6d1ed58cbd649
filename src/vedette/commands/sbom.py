"""`vedette sbom`: the software on this machine, as a table or as a standard document."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from vedette.commands import UsageError, add_command, add_state, print_json, print_table

if TYPE_CHECKING:
    from vedette.wire.events import Package

EXAMPLES = """\
  vedette sbom
  vedette sbom --format cyclonedx --output sbom.cdx.json
  vedette sbom --format spdx --root /mnt/image
  vedette sbom --vulnerabilities --root /mnt/image"""

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
    sbom.add_argument(
        "--vulnerabilities",
        action="store_true",
        help="list what the advisories of a hub on this machine say of them (vedette intel import --osv)",
    )
    add_state(sbom)
    sbom.add_argument("--json", action="store_true", help="print JSON")
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
    if options.vulnerabilities:
        _vulnerabilities(packages, options)
    elif options.format:
        _document(packages, options)
    elif options.json:
        print_json(msgspec.to_builtins(packages))
    else:
        print_table(COLUMNS, [[getattr(package, name) for name in COLUMNS] for package in packages])
    notes += [f"{loss.hits} records left out: {loss.reason}" for loss in losses.take()]
    for note in notes:
        print(f"vedette: {note}", file=sys.stderr)
    return 1 if notes else 0


def _vulnerabilities(packages: Sequence[Package], options: argparse.Namespace) -> None:
    try:
        from vedette.commands.state import opened_database
        from vedette.hub.intel.matching import Advisories
    except ModuleNotFoundError as error:
        raise UsageError(f"--vulnerabilities needs the hub ({error.name} is missing)") from None
    import msgspec

    advisories = Advisories()
    with opened_database(options) as database, database.read.begin() as session:
        advisories.refresh(session)
        if not advisories.state:
            raise UsageError("the hub has no advisories; import some: vedette intel import --osv FILE")
        found = advisories.about(session, packages)
    if options.json:
        print_json(msgspec.to_builtins(found))
        return
    columns = ("severity", "score", "package", "version", "fixed in", "advisory", "summary")
    rows = [
        (one.severity, one.score, one.package, one.version, one.fixed, one.advisory, one.summary)
        for one in found
    ]
    print_table(columns, rows)
    print(f"{len(found)} known vulnerabilities of {len(packages)} packages")


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
