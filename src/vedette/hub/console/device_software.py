"""The software of a device: what is installed, what is known to be wrong with it, and both as files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.device_query import PAGE, Asked
from vedette.hub.console.investigate_table import csv_of
from vedette.hub.console.parts import SEVERITY_TONE, Column, count
from vedette.hub.console.questions import Row, listed
from vedette.hub.intel.matching import Vulnerability
from vedette.hub.intel.vulnerabilities import of_device
from vedette.hub.lake import Result
from vedette.wire.events import Package, SBoM, pascal
from vedette.wire.inventory import Incomplete, assembled
from vedette.wire.sbom import FORMATS, Subject

REPORTS = 500
"""Parts of software snapshots that are read back: ten whole ones of a large server."""

FIELDS = ("name", "version", "architecture", "vendor", "purl")


async def software(backend: Backend, asked: Asked) -> None:
    """The installed packages, and the advisories that fit them."""
    known = await call(lambda: of_device(backend.database, asked.device_id))
    if known:
        _weaknesses(known)
    rows = await backend.questions.ask(
        "SELECT SnapshotId, Part, Parts, PreviousId, Packages, Removed, Total FROM SBoM "  # noqa: S608
        f"WHERE {asked.where} ORDER BY TimeGenerated DESC, Part DESC LIMIT {REPORTS}"
    )
    try:
        packages = await call(lambda: list(assembled(_report(row) for row in reversed(rows)).values()))
    except Incomplete as error:
        with parts.panel("Software"):
            parts.text(f"The inventory is not complete: {error}.", "empty")
        return
    text = asked.q.lower()
    found = sorted((p for p in packages if text in f"{p.name} {p.vendor}".lower()), key=lambda p: p.name)
    with parts.panel("Software", f"{count(len(found))} of {count(len(packages))} packages."):
        with parts.block("row"):
            parts.search("Search packages", asked.q, lambda text: asked.at(q=text))
            _exports(asked.device_id, packages)
        _installed(found, asked, {one.package for one in known} | {one.purl for one in known})


def _weaknesses(known: Sequence[Vulnerability]) -> None:
    rows = [
        {
            "severity": one.severity,
            "severity_tone": SEVERITY_TONE.get(one.severity, ""),
            "score": "" if one.score is None else f"{one.score:.1f}",
            "advisory": one.advisory,
            "cves": ", ".join(cve for cve in one.cves if cve != one.advisory),
            "package": one.package,
            "version": one.version,
            "fixed": one.fixed or "no fix yet",
            "summary": one.summary,
        }
        for one in known
    ]
    columns = (
        Column("severity", "Severity", "badge"),
        Column("score", "CVSS", "number"),
        Column("advisory", "Advisory", "mono"),
        Column("cves", "CVE", "code"),
        Column("package", "Package", sortable=True),
        Column("version", "Installed", "mono"),
        Column("fixed", "Fixed in", "mono"),
        Column("summary", "What it is", "wrap"),
    )
    with parts.panel("Known vulnerabilities", f"{count(len(known))}, the worst first."):
        parts.table(columns, rows, empty="", page=20)


def _installed(found: Sequence[Package], asked: Asked, weak: set[str]) -> None:
    first = (asked.page - 1) * PAGE
    rows = [
        {name: getattr(package, name) for name in FIELDS}
        | ({"state": "vulnerable", "state_tone": "bad"} if weak & {package.name, package.purl} else {})
        for package in found[first : first + PAGE]
    ]
    columns = (
        Column("name", "Package"),
        *([Column("state", "", "badge")] if any("state" in row for row in rows) else []),
        Column("version", "Version", "mono"),
        Column("architecture", "Architecture"),
        Column("vendor", "Vendor"),
        Column("purl", "Package URL", "cut"),
    )
    parts.table(columns, rows, empty="No package fits.")
    parts.pages(asked.page, len(found) > first + PAGE, lambda number: asked.at(page=number))


def _exports(device_id: str, packages: Sequence[Package]) -> None:
    """All packages as a file: for a spreadsheet, or as a standard document."""

    async def table(*_: object) -> None:
        rows = [tuple(getattr(package, name) for name in FIELDS) for package in packages]
        ui.download(await call(lambda: csv_of(Result(FIELDS, rows))), "software.csv", "text/csv")

    def document(form: str, ending: str) -> Any:
        async def made(*_: object) -> None:
            subject = Subject(device_id, datetime.now(UTC), uuid4())
            try:
                text = await call(lambda: FORMATS[form](packages, subject))
            except ModuleNotFoundError as error:
                raise ValueError(f"This hub lacks {error.name}: pip install 'vedette[sbom]'") from None
            ui.download(text.encode(), f"software.{ending}.json", "application/json")

        return made

    for name, export in (
        ("CSV", table),
        ("CycloneDX", document("cyclonedx", "cdx")),
        ("SPDX", document("spdx", "spdx")),
    ):
        button = ui.button(name, icon="download", on_click=parts.guarded(export))
        button.props("outline dense").classes("small")


_S = TypeVar("_S", bound=msgspec.Struct)


def _report(row: Row) -> SBoM:
    return SBoM(
        snapshot_id=row["SnapshotId"],
        part=row["Part"],
        parts=row["Parts"],
        previous_id=row["PreviousId"] or "",
        packages=tuple(_of(Package, entry) for entry in listed(row["Packages"])),
        removed=tuple(msgspec.json.decode(row["Removed"] or "[]")),
        total=row["Total"] or 0,
    )


def _of(kind: type[_S], entry: dict[str, Any]) -> _S:
    """A structure from its form in EventDetails."""
    return msgspec.convert({f: entry[pascal(f)] for f in kind.__struct_fields__ if pascal(f) in entry}, kind)
