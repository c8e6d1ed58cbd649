"""Threat intelligence: the lists that were imported and their age, asking them, importing a file."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import Request
from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.intelligence_import import import_button
from vedette.hub.console.parts import Column, Tone, at, count
from vedette.hub.intel.indicators import MAX_VALUE
from vedette.hub.intel.store import Hit, Intel, IntelError, IntelList
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.users import Role

OLD_S = 30 * 86_400.0
"""Age from which a list is marked: addresses change hands within weeks."""

SHOWN = 100
"""Indicators that fit a value, of those that are shown."""

_OF = {"indicators": "note", "advisories": "warn", "lifecycles": ""}


def places(chosen: str) -> None:
    """The ways between the two pages of intelligence."""
    pages = {"Lists": at("/intelligence"), "Vulnerabilities": at("/vulnerabilities")}
    parts.segments(pages, chosen)


def routes(backend: Backend) -> None:
    """Add the page."""

    @ui.page("/intelligence", response_timeout=30)
    async def intelligence(request: Request, value: str = "") -> None:
        with parts.frame(request, "Intelligence", "/intelligence") as beside:
            if not parts.may(request, Role.ANALYST):
                parts.text("Intelligence needs the role analyst.", "empty")
                return
            intel, value = Intel(backend.database), value[:MAX_VALUE].strip()
            operates = parts.may(request, Role.OPERATOR)
            with beside:
                places("Lists")
                if operates:
                    import_button(backend, request)
            with parts.block("stack"):
                with parts.panel(
                    "Is something known to be bad?", "An address, a name, a URL or a file's hash."
                ):
                    parts.search("Value", value, lambda text: at("/intelligence", value=text))
                    if value:
                        await _ask(intel, value)
                about = "Nothing is downloaded: files come from you. Detection follows within seconds."
                with parts.panel("Lists", about):
                    table = _table(await call(intel.lists), selectable=operates)
                    if table is not None and operates:
                        with parts.block("row actions"):
                            _remove_button(backend, request, table)


async def _ask(intel: Intel, value: str) -> None:
    try:
        hits = await call(lambda: intel.check(value))
    except IntelError as error:
        parts.text(str(error), "error-line")
        return
    columns = (
        Column("list", "List"),
        Column("kind", "Kind", "badge"),
        Column("value", "Indicator", "mono"),
        Column("confidence", "Confidence", "number"),
        Column("until", "Until, UTC"),
        Column("note", "What its source says", "wrap"),
    )
    parts.table(columns, [_hit_row(hit) for hit in hits[:SHOWN]], empty="No list knows it.")


def _hit_row(hit: Hit) -> dict[str, object]:
    one = hit.indicator
    return {
        "list": hit.list,
        "kind": one.kind,
        "value": one.value,
        "confidence": "" if one.confidence is None else one.confidence,
        "until": parts.moment(one.expires)[:16],
        "note": one.note,
    }


def _table(lists: Sequence[IntelList], *, selectable: bool) -> ui.table | None:
    columns = [
        Column("name", "List"),
        Column("kind", "Holds", "badge"),
        Column("entries", "Entries", "number"),
        Column("age", "Imported", "badge"),
        Column("source", "From", "wrap"),
    ]
    if any(one.refused for one in lists):
        columns.append(Column("refused", "Left out", "wrap"))
    rows = [_row(one) for one in lists]
    empty = "No list yet. Import a feed of bad addresses, or the advisories of a distribution."
    return parts.table(columns, rows, empty=empty, page=50, selectable=selectable)


def _row(one: IntelList) -> dict[str, object]:
    now = time.time()
    tone: Tone = "warn" if now - one.imported > OLD_S else ""
    return {
        "name": one.name,
        "kind": one.kind,
        "kind_tone": _OF.get(one.kind, ""),
        "entries": count(one.entries),
        "age": parts.ago(one.imported, now),
        "age_tone": tone,
        "source": one.source,
        "refused": "; ".join(f"{count(number)} {reason}" for reason, number in one.refused.items()),
    }


def _remove_button(backend: Backend, request: Request, table: ui.table) -> None:
    async def remove(*_: object) -> None:
        user = await backend.demand(request, Role.OPERATOR)
        intel = Intel(backend.database)
        with acting_as(f"user:{user.name}"):
            for row in list(table.selected):
                await call(lambda name=row["name"]: intel.remove(name))  # type: ignore[misc]
        ui.navigate.reload()

    parts.marked_button(table, "Remove", remove, "Detection forgets what stands on the marked lists.")
