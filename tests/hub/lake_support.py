"""Messages to feed the lake with, and a look at what is in it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vedette.hub.intake import Inbound, Intake, rows_of
from vedette.hub.lake import Lake, Limits
from vedette.hub.lake.storage import Where
from vedette.hub.lake.tables import RawEvent
from vedette.wire.events import Event, Process
from vedette.wire.iothub import Identity
from vedette.wire.message import INTERFACE_ID, MTI, Window, pack

NOON = 1_767_268_800.0
"""2026-01-01T12:00:00Z."""

SECURITY = {"$.ifid": INTERFACE_ID, "mti": MTI}


def process(commandline: str, **fields: object) -> Process:
    known = {"event_type": "EXEC", "process_id": 7, "parent_process_id": 1, "user_id": 0} | fields
    return Process(commandline=commandline, **known)


def body(*commands: str, hits: int = 1) -> bytes:
    """A security message with one process event a command line."""
    events = [Event(process(command), NOON, hits) for command in commands]
    [packed] = pack([(events, Window(NOON - 60, NOON))])
    return packed.body


def message(
    *commands: str, mid: str = "", device: str = "d1", received: float = NOON, hits: int = 1
) -> Inbound:
    """The same as the gateway hands it on."""
    properties = SECURITY | {"$.mid": mid or uuid.uuid4().hex}
    return Inbound(Identity(device, "m1"), properties, body(*commands, hits=hits), received)


def rows(mid: str) -> list[RawEvent]:
    """The row that a message with one event becomes."""
    return rows_of(message("ls", mid=mid), mid).events


@asynccontextmanager
async def intake(lake: Where) -> AsyncIterator[Intake]:
    """A started intake that is closed afterwards."""
    opened = Intake(lake)
    await opened.start()
    try:
        yield opened
    finally:
        await opened.close()


def sql(lake: Where, text: str) -> list[tuple[object, ...]]:
    return Lake(lake).query(text, "sql", limits=Limits(rows=1_000_000)).rows


def stored(lake: Where) -> Counter[str]:
    """Message id and event index → how often it is in the lake."""
    return Counter(
        dict(sql(lake, "SELECT MessageId || '/' || EventIndex, count(*) FROM raw_events GROUP BY 1"))
    )


def dead(lake: Where) -> list[tuple[object, ...]]:
    return sql(lake, "SELECT Reason, EventIndex, Events FROM dead_letters ORDER BY Reason")
