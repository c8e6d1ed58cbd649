"""What all pages are made of.

Text from devices goes into labels, table cells and chart data alone, which the browser shows as it is.
Templates hold no text from outside: they refer to it.
"""

from vedette.hub.console.parts.actions import confirmed, guarded, live, marked_button, may
from vedette.hub.console.parts.charts import GREY, PALETTE, time_chart, time_options
from vedette.hub.console.parts.elements import (
    RESULT_TONE,
    SEVERITY_TONE,
    STATE_TONE,
    Tone,
    badge,
    block,
    facts,
    go,
    link,
    link_button,
    pages,
    panel,
    search,
    segments,
    text,
    tile,
)
from vedette.hub.console.parts.frame import frame
from vedette.hub.console.parts.tables import Column, table
from vedette.hub.console.parts.values import (
    ago,
    at,
    count,
    device_at,
    investigate_at,
    moment,
    number_of,
    path_part,
    script_text,
    size,
    static,
    written,
)

__all__ = [
    "GREY",
    "PALETTE",
    "RESULT_TONE",
    "SEVERITY_TONE",
    "STATE_TONE",
    "Column",
    "Tone",
    "ago",
    "at",
    "badge",
    "block",
    "confirmed",
    "count",
    "device_at",
    "facts",
    "frame",
    "go",
    "guarded",
    "investigate_at",
    "link",
    "link_button",
    "live",
    "marked_button",
    "may",
    "moment",
    "number_of",
    "pages",
    "panel",
    "path_part",
    "script_text",
    "search",
    "segments",
    "size",
    "static",
    "table",
    "text",
    "tile",
    "time_chart",
    "time_options",
    "written",
]
