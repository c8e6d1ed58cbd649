"""A device at a glance: what it is, what it does most, when it did what."""

from __future__ import annotations

from collections.abc import Sequence

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend
from vedette.hub.console.device_activity import COMMANDS, command_rows
from vedette.hub.console.device_query import Asked
from vedette.hub.console.parts import count
from vedette.hub.console.questions import Row, listed

_DAY = """EventDate >= (now() - INTERVAL 1 DAY)::DATE
AND TimeGenerated > now()::TIMESTAMP - INTERVAL 1 DAY"""

_SUMS = """SELECT sum(HitCount) AS Hits, count(*) AS Events, count(DISTINCT MessageId) AS Messages,
sum(HitCount) FILTER (RawEventName = 'Login') AS Logins FROM raw_events WHERE {device} AND {day}"""

_TIMELINE = """SELECT time_bucket(INTERVAL 900 SECOND, TimeGenerated) AS Moment, RawEventName AS Series,
sum(HitCount) AS Value FROM raw_events WHERE {device} AND {day} GROUP BY ALL ORDER BY Moment"""

_SYSTEM = "SELECT * FROM SystemInformation WHERE {device} ORDER BY TimeGenerated DESC LIMIT 1"

_TOP = """SELECT Commandline, UserName, EventType, sum(HitCount) AS Hits, max(WindowEnd) AS Last
FROM Process WHERE {device} AND TimeGenerated > now()::TIMESTAMP - INTERVAL 1 DAY
GROUP BY ALL ORDER BY Hits DESC LIMIT 12"""

_CHECKS = """SELECT BaselineCheckResult AS Result, count(*) AS Checks FROM Baseline WHERE {device}
AND TimeStamp = (SELECT max(TimeStamp) FROM Baseline WHERE {device}) GROUP BY 1"""


async def show(backend: Backend, asked: Asked) -> None:
    """Show it."""
    texts = {"sums": _SUMS, "system": _SYSTEM, "top": _TOP, "checks": _CHECKS, "timeline": _TIMELINE}
    questions = {name: text.format(device=asked.where, day=_DAY) for name, text in texts.items()}
    found = await backend.questions.ask_together(questions)
    system, top, timeline = found["system"], found["top"], found["timeline"]
    _tiles(asked, found["sums"][0], found["checks"])
    with parts.block("cols narrow-left"):
        with parts.panel("Identity"):
            _identity(system)
        with parts.panel("What it runs most", "Last 24 hours, by observations."):
            parts.table(COMMANDS, command_rows(top), empty="No process events in the last 24 hours.")
    with parts.panel("Observations over time", "By event type, as the hub received them."):
        parts.time_chart(timeline, 24)


def _tiles(asked: Asked, sums: Row, checks: Sequence[Row]) -> None:
    results = {str(row["Result"]): int(row["Checks"]) for row in checks}
    judged = results.get("PASS", 0) + results.get("FAIL", 0)
    hits, events = int(sums["Hits"] or 0), int(sums["Events"] or 0)
    with parts.block("cols tiles"):
        parts.tile("Observations, 24 h", count(hits), "what happened on the device")
        parts.tile(
            "Events",
            count(events),
            f"{hits / max(events, 1):.1f} observations an event",
            asked.at(tab="events"),
        )
        parts.tile("Messages", count(sums["Messages"]), "what it sent")
        parts.tile("Logins", count(sums["Logins"]), "signed in, out or refused", asked.at(tab="logins"))
        share = f"{100 * results.get('PASS', 0) / judged:.0f} %" if judged else "n/a"
        failed = f"{parts.number_of(results.get('FAIL', 0), 'check')} failed"
        parts.tile("Baseline passed", share, failed, asked.at(tab="baseline"))


def _identity(system: Sequence[Row]) -> None:
    if not system:
        parts.text("It has not told yet what it is.", "empty")
        return
    told = system[0]
    hardware = " ".join(filter(None, (told["HardwareVendor"], told["HardwareModel"])))
    firmware = " ".join(filter(None, (told["FirmwareVendor"], told["FirmwareVersion"])))
    pairs = [
        ("System", parts.written(told["OsVersion"])),
        ("Kernel", parts.written(told["Kernel"])),
        ("Machine", parts.written(told["OsArch"])),
        ("Hardware", hardware),
        ("Serial number", parts.written(told["HardwareSerialNumber"])),
        ("Firmware", firmware),
        ("Agent", f"{told['AgentVersion']} {told['AgentType'] or ''}"),
    ]
    for nic in listed(told["Nics"]):
        addresses = [
            str(row[key])
            for row in nic.get("Info", [])
            for key in ("Ipv4Address", "Ipv6Address", "Mac")
            if row.get(key)
        ]
        pairs.append((str(nic.get("Name")), " · ".join(dict.fromkeys(addresses))))
    pairs.append(("Told", parts.moment(told["TimeGenerated"])))
    parts.facts(pairs)
