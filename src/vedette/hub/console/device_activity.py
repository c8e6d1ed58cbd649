"""What happened on a device: processes, connections, logins, changes of files, peripherals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from nicegui import ui

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend
from vedette.hub.console.device_query import PAGE, Asked
from vedette.hub.console.parts import Column, count, size
from vedette.hub.console.questions import Row, containing

WEEK = "TimeGenerated > now()::TIMESTAMP - INTERVAL 7 DAY"
"""How far back these lists look; what is older is found under Investigate."""

FLOWS = 24
"""Flows of the picture: more are not told apart."""

COMMANDS = (
    Column("Hits", "Hits", "share"),
    Column("EventType", "Event"),
    Column("UserName", "User"),
    Column("Commandline", "Command line", "cut"),
    Column("Last", "Last, UTC"),
)


def command_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows for COMMANDS, with their share of the greatest."""
    most = max((int(row["Hits"]) for row in rows), default=1)
    return [{**row, "Hits": count(row["Hits"]), "Hits_share": 100 * int(row["Hits"]) / most} for row in rows]


def _searched(asked: Asked, placeholder: str, column: str) -> str:
    """Show a search field; the condition that it stands for."""
    with parts.block("row"):
        parts.search(placeholder, asked.q, lambda text: asked.at(q=text))
    return f" AND {containing(column, asked.q)}" if asked.q else ""


def _paged(asked: Asked, columns: Sequence[Column], rows: Sequence[Row], empty: str) -> None:
    parts.table(columns, rows[:PAGE], empty=empty)
    parts.pages(asked.page, len(rows) > PAGE, lambda number: asked.at(page=number))


async def processes(backend: Backend, asked: Asked) -> None:
    """Command lines by hits."""
    with parts.panel("Processes", "Last 7 days, by observations. A line stands for all its executions."):
        searched = _searched(asked, "Search command lines", "Commandline")
        rows = await backend.questions.ask(
            "SELECT Commandline, UserName, EventType, sum(HitCount) AS Hits, max(WindowEnd) AS Last "  # noqa: S608
            f"FROM Process WHERE {asked.where} AND {WEEK}{searched} "
            f"GROUP BY ALL ORDER BY Hits DESC, Commandline {asked.limits}"
        )
        _paged(asked, COMMANDS, command_rows(rows), "No process events.")


_FLOWS = """SELECT RemoteAddress, RemotePort, Protocol, any_value(ApplicationProtocol) AS Application,
any_value(nullif(Commandline, '')) AS Commandline,
any_value(nullif(coalesce(json_extract_string(ExtendedProperties, '$.HostName'),
json_extract_string(ExtendedProperties, '$.TlsServerName')), '')) AS Host,
sum(BytesIn) AS BytesIn, sum(BytesOut) AS BytesOut, sum(HitCount) AS Packets, max(WindowEnd) AS Last
FROM NetworkActivity WHERE {where} GROUP BY RemoteAddress, RemotePort, Protocol
ORDER BY sum(BytesIn) + sum(BytesOut) DESC, RemoteAddress, RemotePort {limits}"""


async def network(backend: Backend, asked: Asked) -> None:
    """Who talks to whom, and how much."""
    where = f"{asked.where} AND {WEEK}"
    top = await backend.questions.ask(_FLOWS.format(where=where, limits=f"LIMIT {FLOWS}"))
    names = await backend.questions.ask(
        "SELECT QueryName, QueryType, ResponseCode, sum(HitCount) AS Hits, max(WindowEnd) AS Last FROM DNS "  # noqa: S608
        f"WHERE {where} GROUP BY ALL ORDER BY Hits DESC LIMIT 30"
    )
    if top:
        with parts.panel("Who talks to whom", "Width: bytes in both directions, last 7 days."):
            ui.echart(_sankey(top)).style(f"height: {max(200, 26 * len(top))}px; width: 100%")
    with parts.panel("Connections", "Last 7 days, by bytes. A line stands for all packets of its flows."):
        searched = _searched(asked, "Search remote addresses", "RemoteAddress")
        rows = await backend.questions.ask(_FLOWS.format(where=where + searched, limits=asked.limits))
        shown = [
            {
                **row,
                "BytesIn": size(row["BytesIn"]),
                "BytesOut": size(row["BytesOut"]),
                "Packets": count(row["Packets"]),
            }
            for row in rows
        ]
        columns = (
            Column("RemoteAddress", "Remote address", "mono"),
            Column("RemotePort", "Port", "number"),
            Column("Host", "Host name"),
            Column("Protocol", "Protocol"),
            Column("Application", "Application"),
            Column("BytesIn", "In", "number"),
            Column("BytesOut", "Out", "number"),
            Column("Packets", "Packets", "number"),
            Column("Commandline", "Process", "cut"),
            Column("Last", "Last, UTC"),
        )
        _paged(asked, columns, shown, "No network activity.")
    with parts.panel("Names asked for", "DNS answers, last 7 days."):
        asked_for = (
            Column("Hits", "Hits", "number"),
            Column("QueryName", "Name", "mono"),
            Column("QueryType", "Type"),
            Column("ResponseCode", "Answer"),
            Column("Last", "Last, UTC"),
        )
        parts.table(asked_for, names, empty="No DNS events.")


def _sankey(flows: Sequence[Row]) -> dict[str, Any]:
    """ECharts options: process → remote host."""
    links: dict[tuple[str, str], int] = {}
    for flow in flows:
        process = str(flow["Commandline"] or "unknown process")[:48]
        remote = f"{flow['Host'] or flow['RemoteAddress']}:{flow['RemotePort'] or ''} "[:64]
        volume = int(flow["BytesIn"] or 0) + int(flow["BytesOut"] or 0)
        links[process, remote] = links.get((process, remote), 0) + volume
    names = dict.fromkeys(name for pair in links for name in pair)
    return {
        "color": parts.PALETTE,
        "animation": False,
        "tooltip": {"trigger": "item", "renderMode": "richText"},
        "series": [
            {
                "type": "sankey",
                "left": 4,
                "right": 220,
                "top": 6,
                "bottom": 6,
                "nodeGap": 16,
                "nodeWidth": 10,
                "draggable": False,
                "label": {"color": parts.GREY, "fontSize": 11.5},
                "lineStyle": {"color": "gradient", "opacity": 0.32},
                "data": [{"name": name} for name in names],
                "links": [
                    {"source": source, "target": target, "value": volume}
                    for (source, target), volume in links.items()
                ],
            }
        ],
    }


async def logins(backend: Backend, asked: Asked) -> None:
    """Who signed in, out, or was refused."""
    rows = await backend.questions.ask(
        "SELECT TimeStamp, Operation, UserName, Executable, RemoteAddress, HitCount FROM Login "  # noqa: S608
        f"WHERE {asked.where} ORDER BY TimeStamp DESC {asked.limits}"
    )
    tones = {"Login": "good", "LoginFailed": "bad", "Logout": ""}
    shown = [{**row, "Operation_tone": tones.get(str(row["Operation"]), "")} for row in rows]
    columns = (
        Column("TimeStamp", "Time, UTC"),
        Column("Operation", "What", "badge"),
        Column("UserName", "User"),
        Column("RemoteAddress", "From", "mono"),
        Column("Executable", "Terminal"),
        Column("HitCount", "Attempts", "number"),
    )
    with parts.panel("Logins", "The latest first."):
        _paged(asked, columns, shown, "No logins.")


async def files(backend: Backend, asked: Asked) -> None:
    """Changes under watched paths, and what was plugged in."""
    changes, peripherals = await asyncio.gather(
        backend.questions.ask(
            "SELECT Mask, Path, TargetPath, sum(HitCount) AS Hits, max(WindowEnd) AS Last FROM FileSystem "  # noqa: S608
            f"WHERE {asked.where} AND {WEEK} GROUP BY ALL ORDER BY Last DESC {asked.limits}"
        ),
        backend.questions.ask(
            "SELECT TimeStamp, ActionType, PeripheralType, coalesce(nullif(InterfaceName, ''), "  # noqa: S608
            "nullif(ProductName, ''), VendorId || ':' || ProductId) AS What, VendorName FROM Peripheral "
            f"WHERE {asked.where} ORDER BY TimeStamp DESC LIMIT 50"
        ),
    )
    with parts.panel("Files", "Changes under the watched paths, last 7 days."):
        columns = (
            Column("Mask", "Change"),
            Column("Hits", "Hits", "number"),
            Column("Path", "Path", "cut"),
            Column("TargetPath", "Moved to", "mono"),
            Column("Last", "Last, UTC"),
        )
        _paged(asked, columns, changes, "No changes; the twin's FileSystem_Paths says what is watched.")
    with parts.panel("Peripherals"):
        plugged = (
            Column("TimeStamp", "Time, UTC"),
            Column("ActionType", "What"),
            Column("PeripheralType", "Kind"),
            Column("What", "Device"),
            Column("VendorName", "Vendor, by its own word"),
        )
        parts.table(plugged, peripherals, empty="Nothing was plugged in or out.")
