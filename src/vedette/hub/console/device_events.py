"""A device's statistics (what was sent, what was lost and why, what the agent costs) and its raw events."""

from __future__ import annotations

import asyncio

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend
from vedette.hub.console.device_query import PAGE, Asked
from vedette.hub.console.parts import Column, count
from vedette.hub.console.questions import containing, quoted

_OUTCOMES = """WITH told AS (SELECT TimeGenerated, Name, unnest(from_json(Events,
'[{{"Description": "VARCHAR", "HitCount": "BIGINT", "Events": "BIGINT"}}]')) AS o
FROM Statistics WHERE {where} AND TimeGenerated > now()::TIMESTAMP - INTERVAL 1 DAY),
outcomes AS (SELECT TimeGenerated, Name, o.Description AS Outcome, o.HitCount AS Hits, o.Events AS Events
FROM told) {select}"""

_BY_NAME = """SELECT Name, Outcome, sum(Hits) AS Hits, sum(Events) AS Events
FROM outcomes GROUP BY Name, Outcome ORDER BY Outcome = 'sent', sum(Hits) DESC"""

_OVER_TIME = """SELECT time_bucket(INTERVAL 900 SECOND, TimeGenerated) AS Moment, Outcome AS Series,
sum(Hits) AS Value FROM outcomes GROUP BY 1, 2 ORDER BY Moment"""

_COST = """SELECT TimeGenerated AS Moment, {value} AS Value, {name} AS Series FROM Statistics
WHERE {where} AND {value} IS NOT NULL AND TimeGenerated > now()::TIMESTAMP - INTERVAL 1 DAY ORDER BY Moment"""


async def statistics(backend: Backend, asked: Asked) -> None:
    """Sent, dropped and why; processor time and memory of the agent."""
    ask = backend.questions.ask

    def cost(name: str, value: str) -> str:
        return _COST.format(where=asked.where, name=quoted(name), value=value)

    outcomes, timeline, cpu, memory = await asyncio.gather(
        ask(_OUTCOMES.format(where=asked.where, select=_BY_NAME)),
        ask(_OUTCOMES.format(where=asked.where, select=_OVER_TIME)),
        ask(cost("CPU of the agent, s a cycle", "CpuSeconds")),
        ask(cost("Resident memory, MB", "round(ResidentBytes / 1000000.0, 1)")),
    )
    with parts.panel("What became of observations", "Sent, or dropped and why, by the device's own count."):
        parts.time_chart(timeline, 24)
    with parts.block("cols two"):
        for title, points in (("Processor time", cpu), ("Memory", memory)):
            with parts.panel(title):
                if points:
                    parts.time_chart(points, 24, bars=False, height=170)
                else:
                    parts.text("Not told yet.", "empty")
    rows = [
        {**row, "Hits": count(row["Hits"]), "Outcome_tone": "good" if row["Outcome"] == "sent" else "warn"}
        for row in outcomes
    ]
    columns = (
        Column("Name", "Collector"),
        Column("Outcome", "Outcome", "badge"),
        Column("Hits", "Observations", "number"),
        Column("Events", "Events", "number"),
    )
    with parts.panel("By collector", "Last 24 hours."):
        parts.table(columns, rows, empty="No statistics have come yet.")


async def events(backend: Backend, asked: Asked) -> None:
    """Raw events, the newest first."""
    names = await backend.questions.ask(
        f"SELECT DISTINCT RawEventName AS Name FROM raw_events WHERE {asked.where} ORDER BY 1"  # noqa: S608
    )
    kinds = [str(row["Name"]) for row in names]
    where = asked.where
    if asked.choice in kinds:
        where += f" AND RawEventName = {quoted(asked.choice)}"
    if asked.q:
        where += f" AND {containing('EventDetails', asked.q)}"
    rows = await backend.questions.ask(
        "SELECT TimeStamp, TimeGenerated, RawEventName, HitCount, EventDetails FROM raw_events "  # noqa: S608
        f"WHERE {where} ORDER BY TimeGenerated DESC, EventIndex {asked.limits}"
    )
    columns = (
        Column("TimeStamp", "Observed, UTC"),
        Column("TimeGenerated", "Received, UTC"),
        Column("RawEventName", "Type"),
        Column("HitCount", "Hits", "number"),
        Column("EventDetails", "Details", "cut"),
    )
    with parts.panel("Events", "As the lake holds them, the newest first."):
        with parts.block("row"):
            parts.search("Search details", asked.q, lambda text: asked.at(q=text))
            choices = {"All": asked.at(choice="")} | {kind: asked.at(choice=kind) for kind in kinds}
            parts.segments(choices, asked.choice if asked.choice in kinds else "All")
        parts.table(columns, rows[:PAGE], empty="No events.")
        parts.pages(asked.page, len(rows) > PAGE, lambda number: asked.at(page=number))
