"""What the first page shows, asked of registry and lake."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from vedette.hub.console import health
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.questions import Row
from vedette.hub.console.roll import Totals
from vedette.hub.posture.trend import Score, history
from vedette.wire.message import METERING_UNIT

WINDOWS = {"1h": ("1 hour", 1, 60), "24h": ("24 hours", 24, 900), "7d": ("7 days", 168, 7_200)}
"""Window → its name, its hours, and the seconds that one bar of the chart stands for."""

DAY_S = 86_400.0
ALERT_DAYS = 14
"""Days of the chart of alerts."""

SCORE_HOURS = 14 * 24
"""Hours of the chart of the score."""

EVENT_BYTES = 120
"""What a message carries of an event beside its details: name, category, id and time."""

SEVERITIES = ("High", "Medium", "Low", "Informational")


class View(msgspec.Struct, frozen=True):
    """What the page shows at a moment."""

    hours: int
    totals: Totals
    types: Sequence[Row]
    messages: Row
    timeline: Sequence[Row]
    checks: Row
    failing: Sequence[Row]
    losses: Sequence[Row]
    alerts: Mapping[str, int]
    raised: Sequence[Row]
    scores: Sequence[Score]
    signs: Sequence[health.Sign]


async def look(backend: Backend, window: str) -> View:
    """Ask everything that the page shows. Raises QueryError."""
    _, hours, seconds = WINDOWS[window]
    since = _SINCE.format(hours=hours)
    since_s = time.time() - ALERT_DAYS * DAY_S
    totals, alerts, raised, scores = await asyncio.gather(
        call(backend.roll.totals),
        call(backend.alerts.severities),
        call(lambda: backend.alerts.raised(since_s)),
        call(lambda: history(backend.database, SCORE_HOURS)),
    )
    found = await backend.questions.ask_together(
        {
            "types": _TYPES.format(since=since),
            "messages": _MESSAGES.format(since=since),
            "timeline": _TIMELINE.format(since=since, seconds=seconds),
            "checks": f"{LATEST_SCAN} {_CHECKS}",
            "failing": f"{LATEST_SCAN} {_FAILING}",
            "losses": _LOSSES.format(since=since),
            "newest": health.NEWEST,
        }
    )
    return View(
        hours,
        totals,
        found["types"],
        found["messages"][0],
        found["timeline"],
        found["checks"][0],
        found["failing"],
        found["losses"],
        {severity: alerts.get(severity, 0) for severity in SEVERITIES},
        by_day(raised),
        scores,
        await health.signs(backend, found["newest"][0]),
    )


def by_day(raised: Sequence[tuple[float, str]]) -> Sequence[Row]:
    """How many alerts there were of each severity on each day, as points of a chart."""
    days = Counter((created // DAY_S * DAY_S, severity) for created, severity in raised)
    return [
        {"Moment": datetime.fromtimestamp(day, UTC), "Series": severity, "Value": number}
        for (day, severity), number in days.items()
    ]


_SINCE = """EventDate >= (now() - INTERVAL {hours} HOUR)::DATE
AND TimeGenerated > now()::TIMESTAMP - INTERVAL {hours} HOUR"""

_TYPES = """SELECT RawEventName AS Type, count(*) AS Events, sum(HitCount) AS Hits
FROM raw_events WHERE {since} GROUP BY ALL ORDER BY Hits DESC"""

_MESSAGES = f"""WITH sent AS (SELECT count(*) AS Events, sum(HitCount) AS Hits,
sum(strlen(EventDetails) + {EVENT_BYTES}) AS Bytes,
sum(HitCount * (strlen(EventDetails) + {EVENT_BYTES})) AS Uncounted
FROM raw_events WHERE {{since}} GROUP BY DeviceId, ModuleId, MessageId)
SELECT count(*) AS Messages, sum(Events) AS Events, sum(Hits) AS Hits,
sum(ceil(Bytes / {METERING_UNIT}.0)) AS Units, sum(ceil(Uncounted / {METERING_UNIT}.0)) AS UnitsUncounted
FROM sent"""  # noqa: S608 - numbers of ours

_TIMELINE = """SELECT time_bucket(INTERVAL {seconds} SECOND, TimeGenerated) AS Moment, RawEventName AS Series,
count(*) AS Value FROM raw_events WHERE {since} GROUP BY ALL ORDER BY Moment"""

LATEST_SCAN = """WITH scans AS (SELECT DeviceId, max(TimeStamp) AS TimeStamp FROM Baseline
WHERE TimeGenerated > now()::TIMESTAMP - INTERVAL 30 DAY GROUP BY 1),
results AS (SELECT b.* FROM Baseline b JOIN scans USING (DeviceId, TimeStamp))"""
"""The latest scan of every device: its events have one time."""

_CHECKS = """SELECT count(*) FILTER (BaselineCheckResult = 'PASS') AS Passed,
count(*) FILTER (BaselineCheckResult = 'FAIL') AS Failed, count(DISTINCT DeviceId) AS Devices FROM results"""

_FAILING = """SELECT any_value(BaselineCheckId) AS CheckId, any_value(BaselineCheckSeverity) AS Severity,
any_value(BaselineCheckGroup) AS "Group", any_value(BaselineCheckDescription) AS Description,
count(DISTINCT DeviceId) AS Devices FROM results WHERE BaselineCheckResult = 'FAIL'
GROUP BY regexp_extract(BaselineCheckId, '[^-]*$')
ORDER BY Devices DESC, list_position(['Critical', 'Important', 'Warning', 'Informational'], Severity), CheckId
LIMIT 8"""

_LOSSES = """WITH outcomes AS (SELECT DeviceId, Name, unnest(from_json(Events,
'[{{"Description": "VARCHAR", "HitCount": "BIGINT", "Events": "BIGINT"}}]')) AS o
FROM Statistics WHERE {since})
SELECT Name, o.Description AS Reason, sum(o.HitCount) AS Hits, count(DISTINCT DeviceId) AS Devices
FROM outcomes WHERE o.Description <> 'sent' GROUP BY ALL ORDER BY Hits DESC LIMIT 8""".replace(
    "FROM Statistics WHERE {since}",
    "FROM (SELECT *, TimeGenerated::DATE AS EventDate FROM Statistics) WHERE {since}",
)
