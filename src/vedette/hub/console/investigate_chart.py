"""The chart that a query asks for with `render`, from its rows. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from vedette.hub.console.parts import GREY, PALETTE, written
from vedette.hub.lake import Result

MAX_POINTS = 2_000
"""Rows that are drawn: as many as a screen has columns."""

_RENDER = re.compile(r"\|\s*render\s+(?P<kind>\w+)[^|]*$")

KINDS = {
    "timechart": "line",
    "linechart": "line",
    "areachart": "line",
    "scatterchart": "scatter",
    "barchart": "bar",
    "columnchart": "bar",
    "piechart": "pie",
}
"""KQL's word → ECharts'. `table`, and every other word, is no chart."""


def chart_options(result: Result, query: str) -> dict[str, Any] | None:
    """ECharts options; None if the query asks for no chart or its rows make none."""
    asked = _RENDER.search(query.rstrip())
    kind = KINDS.get(asked["kind"], "") if asked else ""
    numbers = [i for i in range(len(result.columns)) if _numeric(result, i)]
    if not kind or not numbers or not result.rows:
        return None
    rows = result.rows[:MAX_POINTS]
    times = [i for i in range(len(result.columns)) if any(isinstance(row[i], datetime) for row in rows)]
    words = [i for i in range(len(result.columns)) if i not in numbers and i not in times]
    axis = next(iter(times or words), None)
    if axis is None:
        return None
    split = next((i for i in words if i != axis), None)
    if kind == "pie":
        data = [{"name": written(row[axis]), "value": row[numbers[0]]} for row in rows]
        return {
            **_common(),
            "series": [{"type": "pie", "radius": ["35%", "70%"], "data": data, "label": _LABEL}],
        }
    lines: dict[str, list[list[Any]]] = {}
    for row in rows:
        for number in numbers:
            name = written(row[split]) if split is not None else result.columns[number]
            lines.setdefault(name, []).append([_position(row[axis]), row[number]])
    along: dict[str, Any] = {"type": "time" if axis in times else "category", "axisLabel": _LABEL}
    across: dict[str, Any] = {"type": "value", "axisLabel": _LABEL, "splitLine": _FAINT}
    shape: dict[str, Any] = {"type": kind, "showSymbol": False}
    if asked and asked["kind"] == "areachart":
        shape["areaStyle"] = {"opacity": 0.3}
    series = [
        {"name": name, "data": sorted(data) if axis in times else data, **shape}
        for name, data in lines.items()
    ]
    if asked and asked["kind"] == "barchart" and axis not in times:  # KQL's bars lie, its columns stand
        along["inverse"] = True
        for one in series:
            one["encode"] = {"x": 1, "y": 0}
        return {**_common(), "xAxis": across, "yAxis": along, "series": series}
    return {**_common(), "xAxis": along, "yAxis": across, "series": series}


_LABEL = {"color": GREY, "fontSize": 11.5}
_FAINT = {"lineStyle": {"color": "rgba(128,140,155,.22)"}}


def _common() -> dict[str, Any]:
    return {
        "color": PALETTE,
        "animation": False,
        "useUTC": True,
        "grid": {"left": 8, "right": 16, "top": 34, "bottom": 6, "containLabel": True},
        "legend": {
            "top": 0,
            "left": 0,
            "type": "scroll",
            "icon": "roundRect",
            "itemWidth": 9,
            "textStyle": _LABEL,
        },
        "tooltip": {"trigger": "item", "renderMode": "richText"},
    }


def _numeric(result: Result, column: int) -> bool:
    values = [row[column] for row in result.rows[:50] if row[column] is not None]
    return bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _position(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat()
    return written(value)[:80]
