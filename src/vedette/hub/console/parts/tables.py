"""Tables: columns of a few kinds, and the cells that each kind makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from nicegui import ui

from vedette.hub.console.parts.elements import text
from vedette.hub.console.parts.values import written


class Column(NamedTuple):
    """A column. kind: how values are shown.

    `link` takes the address from `<key>_href`, `badge` the tone from `<key>_tone`, `share` a percentage from
    `<key>_share`; `cut` ends in dots, `wrap` and `code` take several lines.
    """

    key: str
    label: str
    kind: Literal["text", "number", "mono", "cut", "wrap", "code", "link", "badge", "share"] = "text"
    sortable: bool = False


_CELLS = {
    "link": '<q-td :props="props"><a class="link" :href="props.row[props.col.field + \'_href\']">'
    "{{ props.value }}</a></q-td>",
    "badge": "<q-td :props=\"props\"><span :class=\"['badge', props.row[props.col.field + '_tone']]\">"
    "{{ props.value }}</span></q-td>",
    "share": '<q-td :props="props"><div class="share"><i :style="{width: 0.7 * props.row[props.col.field +'
    " '_share'] + 'px'}\"></i><span>{{ props.value }}</span></div></q-td>",
    "cut": '<q-td :props="props" class="cut mono" :title="props.value">{{ props.value }}</q-td>',
}


def table(
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    *,
    empty: str,
    page: int = 0,
    selectable: bool = False,
) -> ui.table | None:
    """Rows, or a sentence where there are none. page: rows a page, all at once if 0."""
    if not rows:
        text(empty, "empty")
        return None
    shown = [{"id": i, **{k: _cell(v) for k, v in row.items()}} for i, row in enumerate(rows)]
    made = ui.table(
        columns=[_column(c) for c in columns],
        rows=shown,
        row_key="id",
        pagination=page if page else None,
        selection="multiple" if selectable else None,
    )
    made.props("flat dense" + ("" if page and len(rows) > page else " hide-pagination hide-bottom"))
    if selectable:
        for slot, label in (("header-selection", "Mark all"), ("body-selection", "Mark")):
            made.add_slot(slot, f'<q-checkbox dense v-model="props.selected" aria-label="{label}" />')
    for column in columns:
        if column.kind in _CELLS:
            made.add_slot(f"body-cell-{column.key}", _CELLS[column.kind])
    return made


def _column(column: Column) -> dict[str, Any]:
    right = column.kind in ("number", "share")
    return {
        "name": column.key,
        "label": column.label,
        "field": column.key,
        "align": "right" if right else "left",
        "classes": column.kind if column.kind in ("mono", "wrap", "code") else "",
        "sortable": column.sortable,
    }


def _cell(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    return written(value)
