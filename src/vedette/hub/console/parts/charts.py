"""Charts of values over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from nicegui import ui

from vedette.hub.console.parts.values import written

GREY = "#8492a0"
"""Of text in charts: read well on light and on dark."""

PALETTE = ("#0f9d8f", "#4f7fd9", "#d98e2b", "#8f6fd1", "#c9557b", "#5f9e4a", "#7d8b99", "#b5a12f")


def time_chart(
    points: Sequence[Mapping[str, Any]],
    hours: float,
    *,
    bars: bool = True,
    height: int = 200,
    colors: Mapping[str, str] | None = None,
) -> ui.echart:
    """Values over the last hours. points: rows with Moment (datetime), Series and Value."""
    options = time_options(points, hours, bars=bars, colors=colors)
    return ui.echart(options).style(f"height: {height}px; width: 100%")


def time_options(
    points: Sequence[Mapping[str, Any]],
    hours: float,
    *,
    bars: bool = True,
    colors: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """ECharts options for values over time, stacked where they are bars, the greatest below.

    colors: of series by name, where the palette's order will not do.
    """
    series: dict[str, dict[str, Any]] = {}
    for point in sorted(points, key=lambda p: p["Moment"]):
        at = point["Moment"].replace(tzinfo=UTC).isoformat()
        series.setdefault(written(point["Series"]), {})[at] = point["Value"]
    by_size = sorted(series.items(), key=lambda item: -sum(float(value or 0) for value in item[1].values()))
    # Stacked bars stand on each other only where every series has a value.
    moments = sorted({at for values in series.values() for at in values}) if bars else []
    drawn = [(name, {**dict.fromkeys(moments, 0), **values}) for name, values in by_size]
    now = datetime.now(UTC)
    line = {"type": "line", "showSymbol": len(points) < 30, "symbolSize": 4}
    shape = {"type": "bar", "stack": "all", "barMaxWidth": 14} if bars else line
    faint = {"lineStyle": {"color": "rgba(128,140,155,.22)"}}
    labels = {"color": GREY, "hideOverlap": True, "fontSize": 11.5}
    legend = {"icon": "roundRect", "itemWidth": 11, "itemHeight": 12, "type": "scroll", "textStyle": labels}
    times = {"min": (now - timedelta(hours=hours)).isoformat(), "max": now.isoformat()}
    return {
        "color": PALETTE,
        "animation": False,
        "useUTC": True,
        "grid": {"left": 8, "right": 12, "top": 32, "bottom": 4, "containLabel": True},
        "legend": {"top": 0, "left": 0, **legend},
        "tooltip": {"trigger": "axis", "renderMode": "richText", "axisPointer": {"type": "line"}},
        "xAxis": {
            "type": "time",
            "axisLabel": labels,
            "axisLine": faint,
            "splitLine": {"show": False},
            **times,
        },
        "yAxis": {"type": "value", "minInterval": 1 if bars else 0, "axisLabel": labels, "splitLine": faint},
        "series": [
            {
                "name": name,
                "data": list(values.items()),
                **shape,
                **({"color": colors[name]} if colors and name in colors else {}),
            }
            for name, values in drawn
        ],
    }
