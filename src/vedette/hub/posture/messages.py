"""Messages that are smaller than what is billed for them.

The classic agent counts its messages itself. Those of others are counted here, by the hour of receipt; how
large they were is told by the details of their events, as they are stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import case, delete, func, select
from sqlalchemy.orm import Session

from vedette.hub.detect.schema import MessageSizesRow
from vedette.hub.detect.taxonomy import Observed
from vedette.hub.posture.assess import Assessment, Weakness
from vedette.hub.registry.upserts import upsert_sums
from vedette.wire.events import BY_HUB
from vedette.wire.iothub import CLASSIC_MODULE

SMALL_SHARE = 0.10
"""Share of a device's messages below one metered unit from which they are worth a recommendation."""

SMALL_DETAILS = 4_700
"""Characters of details that a body of 4 KB, one metered unit on all but the free tier, has: those that are
stored name their fields in full, and took 1.15 times the body for process events in bodies above 2 KB."""

HOURS = 24
"""Hours that are looked at, and for which a device must have been known; twice as many are kept."""

SMALL_MESSAGES = Weakness(
    "IoT_SmallMessages",
    "Low",
    "Many messages are smaller than a metered unit",
    "A tenth or more of the messages of a day were below 4 KB, each of which is billed as 4 KB.",
    "Lengthen the send intervals (CollectorsCore_PriorityIntervals), or lower the priority of collectors.",
)


def counted(session: Session, event: Observed, now: float) -> Iterator[Assessment]:
    """The classic agent counts its small messages itself."""
    try:
        sent = int(event.details.get("MessagesSent") or 0)
        small = int(event.details.get("MessagesUnder4KB") or 0)
    except ValueError:
        return
    if sent:
        yield _assessment(event.device, event.module, sent, small, event.first)


def count(session: Session, events: Sequence[Observed]) -> None:
    """Count the messages that brought these events. A message's events are in one batch."""
    sizes: Counter[tuple[str, str, int, str]] = Counter()
    for event in events:
        if event.module != CLASSIC_MODULE and event.name not in BY_HUB:
            sizes[event.device, event.module, int(event.received // 3600), event.message] += event.size
    messages = Counter(key[:3] for key in sizes)
    small = Counter(key[:3] for key, size in sizes.items() if size < SMALL_DETAILS)
    rows = [
        {"device_id": device, "module_id": module, "hour": hour, "messages": number, "small": small[key]}
        for key, number in messages.items()
        for device, module, hour in (key,)
    ]
    upsert_sums(session, MessageSizesRow, rows, ("messages", "small"))


def of_a_day(session: Session, devices: Collection[str], now: float) -> Iterator[Assessment]:
    """Assess those identities of these devices that are known for a day by what they sent since."""
    since, row = int(now // 3600) - HOURS, MessageSizesRow
    sent, small = (
        func.sum(case((row.hour > since, column), else_=0)) for column in (row.messages, row.small)
    )
    sums = select(row.device_id, row.module_id, sent, small).where(row.device_id.in_(devices))
    by_identity = sums.group_by(row.device_id, row.module_id).having(func.min(row.hour) <= since, sent > 0)
    for device, module, messages, below in session.execute(by_identity):
        yield _assessment(device, module, int(messages), int(below), now)


def forget(session: Session, now: float) -> None:
    """Remove what is older than anybody asks for."""
    session.execute(delete(MessageSizesRow).where(MessageSizesRow.hour < int(now // 3600) - 2 * HOURS))


def _assessment(device: str, module: str, sent: int, small: int, at: float) -> Assessment:
    data = {"Messages": sent, "Under4KB": small}
    return Assessment(SMALL_MESSAGES, device, module, small < sent * SMALL_SHARE, at, data)
