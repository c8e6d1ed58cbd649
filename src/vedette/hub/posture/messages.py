"""Messages that are smaller than what is billed for them."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.orm import Session

from vedette.hub.detect.taxonomy import Observed
from vedette.hub.posture.assess import Assessment, Weakness

SMALL_SHARE = 0.10
"""Share of a device's messages below one metered unit from which they are worth a recommendation."""

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
        data = {"Messages": sent, "Under4KB": small}
        passed = small < sent * SMALL_SHARE
        yield Assessment(SMALL_MESSAGES, event.device, event.module, passed, event.first, data)
