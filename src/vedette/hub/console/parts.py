"""What all pages are made of: the frame, panels, tiles, tables, charts, and how values are written.

Text from devices goes into labels, table cells and chart data alone, which the browser shows as it is.
Templates below hold no text from outside: they refer to it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

from fastapi import Request
from nicegui import ui

from vedette.hub.console.backend import Forbidden
from vedette.hub.console.gate import PASSWORD, PATH, STATIC
from vedette.hub.lake import QueryError
from vedette.hub.registry.users import Role, User

REFRESH_S = 5.0
"""How often a live page looks again: the answers are shared (questions.FRESH_S)."""

MAX_TEXT = 2_000
"""Characters of one value in a table; the rest is in the lake."""

GREY = "#8492a0"
"""Of text in charts: read well on light and on dark."""

PALETTE = ("#0f9d8f", "#4f7fd9", "#d98e2b", "#8f6fd1", "#c9557b", "#5f9e4a", "#7d8b99", "#b5a12f")

_ENTRIES = (
    ("/", "Overview", "space_dashboard"),
    ("/devices", "Devices", "memory"),
    ("/alerts", "Alerts", "notifications_active"),
    ("/recommendations", "Recommendations", "checklist"),
    ("/investigate", "Investigate", "manage_search"),
    ("/enrol", "Enrol a device", "add_link"),
    ("/admin", "Administration", "admin_panel_settings"),
)

Tone = Literal["", "good", "warn", "bad", "note"]

SEVERITY_TONE: Mapping[str, Tone] = {
    "Critical": "bad",
    "High": "bad",
    "Important": "warn",
    "Medium": "warn",
    "Warning": "warn",
    "Low": "note",
    "Informational": "",
}
STATE_TONE: Mapping[str, Tone] = {"online": "good", "silent": "warn", "disabled": "bad", "never seen": ""}
RESULT_TONE: Mapping[str, Tone] = {"PASS": "good", "FAIL": "bad", "ERROR": "warn", "SKIP": ""}


@contextmanager
def frame(request: Request, title: str, active: str) -> Iterator[ui.element]:
    """A page with its navigation; yields the element beside the title, for what is chosen there."""
    ui.page_title(f"{title} · Vedette")
    ui.add_head_html(f'<link rel="stylesheet" href="{STATIC}console.css">')
    theme = request.cookies.get("vedette-theme", "")
    dark = ui.dark_mode({"dark": True, "light": False}.get(theme))
    ui.colors(primary="#0f766e", secondary="#4f7fd9", dark="#141e26", dark_page="#0d141a")
    with ui.element("div").classes("shell"):
        with ui.element("nav").classes("rail").props('aria-label="Main"'):
            _rail(request.state.user, active, dark)
        with ui.element("div").classes("page"):
            with ui.element("div").classes("head"):
                _text("h1", title)
                beside = ui.element("div").classes("row")
            yield beside


def _rail(user: User, active: str, dark: ui.dark_mode) -> None:
    with ui.element("a").classes("brand").props(f'href="{PATH}/"'):
        ui.element("img").props(f'src="{STATIC}mark.svg" alt=""')
        _text("span", "Vedette")
    entries = _ENTRIES if user.role >= Role.ADMIN else _ENTRIES[:-1]
    for path, name, icon in entries:
        entry = ui.element("a").classes("entry" + (" on" if path == active else ""))
        entry.props(f'href="{PATH}{path}" aria-label="{name}"')
        with entry:
            ui.icon(icon)
            _text("span", name).classes("gt-sm")
    with ui.element("div").classes("foot"):
        with ui.element("div").classes("who"):
            _text("b", user.name)
            _text("span", f" · {user.role.name.lower()}")
        _theme_button(dark)
        _text("a", "Password").classes("who").props(f'href="{PASSWORD}"')
        with ui.element("form").props(f'method="post" action="{PATH}/sign-out"'):
            _text("button", "Sign out").classes("plain").props('type="submit"')


def _theme_button(dark: ui.dark_mode) -> None:
    def choose() -> None:
        # The browser knows what "as the system" looks like at the moment; it turns that around.
        ui.run_javascript(
            "const d = !document.body.classList.contains('body--dark');"
            "document.cookie = 'vedette-theme=' + (d ? 'dark' : 'light') +"
            " ';path=/;max-age=31536000;samesite=strict;secure'; location.reload();"
        )

    _text("button", "Light or dark").classes("plain").props('type="button"').on("click", choose)


def _text(tag: str, text: str) -> ui.element:
    """An element that shows a text; the framework sets it as text, never as markup."""
    element = ui.label(text)
    element.tag = tag
    return element


def text(content: str, classes: str = "", tag: str = "div") -> ui.element:
    """A text, shown as it is."""
    return _text(tag, content).classes(classes)


def search(placeholder: str, value: str, address: Callable[[str], str]) -> None:
    """A field that leads to the address of what is typed into it."""
    field = ui.input(placeholder=placeholder, value=value).props("outlined dense clearable")
    field.props(f'aria-label="{placeholder}"').style("width: 260px")
    field.on("keydown.enter", lambda: ui.navigate.to(address(field.value or "")))


def pages(page: int, more: bool, address: Callable[[int], str], of: str = "") -> None:
    """Links to the pages before and behind."""
    if page == 1 and not more:
        return
    with block("row"):
        if page > 1:
            link("← Previous", address(page - 1))
        text(f"Page {page:,}{of}", "dim num")
        if more:
            link("Next →", address(page + 1))


@contextmanager
def panel(title: str = "", about: str = "", classes: str = "") -> Iterator[ui.element]:
    """A bordered part of a page."""
    with ui.element("section").classes(f"panel {classes}") as element:
        if title:
            _text("h2", title)
        if about:
            _text("p", about).classes("about")
        yield element


def block(classes: str) -> ui.element:
    """A div."""
    return ui.element("div").classes(classes)


def tile(label: str, value: str, note: str = "", href: str = "") -> None:
    """One number with its name."""
    element = ui.element("a" if href else "div").classes("tile")
    if href:
        element.props(f'href="{href}"')
    with element:
        text(label, "label")
        text(value, "value")
        text(note, "note")


def badge(content: str, tone: Tone = "") -> None:
    """A word in a colour."""
    text(content, f"badge {tone}", "span")


def link(content: str, href: str) -> None:
    """A link inside the console; `href` is made by `at`."""
    _text("a", content).classes("link").props(f'href="{href}"')


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values; what is not known is left out."""
    with block("facts"):
        for key, value in pairs:
            if value:
                text(key, "key")
                text(value, "value")


def segments(choices: Mapping[str, str], chosen: str) -> None:
    """Links of which one is chosen. choices: name → address."""
    with block("segments"):
        for name, href in choices.items():
            _text("a", name).props(f'href="{href}"').classes("on" if name == chosen else "")


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
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], *, empty: str, page: int = 0
) -> ui.table | None:
    """Rows, or a sentence where there are none. page: rows a page, all at once if 0."""
    if not rows:
        text(empty, "empty")
        return None
    shown = [{"id": i, **{k: _cell(v) for k, v in row.items()}} for i, row in enumerate(rows)]
    made = ui.table(columns=[_column(c) for c in columns], rows=shown, pagination=page if page else None)
    made.props("flat dense" + ("" if page and len(rows) > page else " hide-pagination hide-bottom"))
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


def written(value: Any) -> str:
    """Any value of the lake as text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return moment(value)
    shown = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return shown if len(shown) <= MAX_TEXT else f"{shown[:MAX_TEXT]}…"


def moment(value: datetime | float | None) -> str:
    """A time, UTC, to the second."""
    if value is None:
        return ""
    when = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    return f"{when:%Y-%m-%d %H:%M:%S}"


def ago(seconds: float | None, now: float) -> str:
    """A time by its distance."""
    if seconds is None:
        return "never"
    distance = max(0.0, now - seconds)
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if distance >= unit:
            return f"{distance / unit:.0f} {name} ago"
    return f"{distance:.0f} s ago"


def count(value: Any) -> str:
    """A number with separators; nothing counts as 0."""
    return f"{int(value or 0):,}"


def size(value: Any) -> str:
    """Bytes in the unit that suits them."""
    number = float(value or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def at(path: str, **query: str | int) -> str:
    """An address inside the console; parts of the path are given quoted (see `device_at`)."""
    kept = {key: value for key, value in query.items() if value not in ("", 0)}
    return f"{PATH}{path}" + (f"?{urlencode(kept)}" if kept else "")


def device_at(device_id: str, **query: str | int) -> str:
    """The address of a device's page."""
    return at(f"/device/{quote(device_id, safe='')}", **query)


def investigate_at(query: str) -> str:
    """The address that runs a KQL query."""
    return at("/investigate", q=query)


def script_text(value: str) -> str:
    """A text as a JavaScript literal."""
    return json.dumps(value).replace("<", "\\u003c")


def time_chart(
    points: Sequence[Mapping[str, Any]], hours: float, *, bars: bool = True, height: int = 200
) -> ui.echart:
    """Values over the last hours. points: rows with Moment (datetime), Series and Value."""
    options = time_options(points, hours, bars=bars)
    return ui.echart(options).style(f"height: {height}px; width: 100%")


def time_options(points: Sequence[Mapping[str, Any]], hours: float, *, bars: bool = True) -> dict[str, Any]:
    """ECharts options for values over time, stacked where they are bars, the greatest below."""
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
    legend = {"icon": "roundRect", "itemWidth": 9, "itemHeight": 9, "type": "scroll", "textStyle": labels}
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
        "yAxis": {"type": "value", "axisLabel": labels, "splitLine": faint},
        "series": [{"name": name, "data": list(values.items()), **shape} for name, values in drawn],
    }


def guarded(action: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """An action of a page that tells the user what is refused, and why. It is given the event."""

    async def acting(*arguments: Any) -> None:
        try:
            await action(*arguments)
        except (Forbidden, QueryError, ValueError) as error:
            ui.notify(str(error), type="negative", multi_line=True)

    return acting


def live(show: Callable[[], Awaitable[None]], period: float = REFRESH_S) -> None:
    """Call again and again while the page is open; one that is slow is not overtaken by itself."""
    running = asyncio.Lock()

    async def again() -> None:
        if not running.locked():
            async with running:
                await show()

    ui.timer(period, again, immediate=False)


def may(request: Request, role: Role) -> bool:
    """Whether to offer an action; whether it is allowed is asked again when it is taken."""
    user: User = request.state.user
    return user.role >= role
