"""The posture of devices: what is weak about them, as recommendations that come and go with their cause.

Every assessment is of one thing on one device and either passes or fails. The first failure makes a
recommendation Active, the next pass makes it Resolved, a further failure Active again; the evidence of the
latest is kept. Time is that of the device: what arrives late does not undo what was found since.

The secure score of a device is the weight of what passes in percent of the weight of all that was assessed
(High 10, Medium 5, Low 1); that of the fleet is the mean of its devices.

A family of recommendations is a module here; `Posture` says which events tell it something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sqlalchemy.orm import Session

from vedette.hub.detect.taxonomy import Observed
from vedette.hub.posture import baseline, exposure, messages, transport
from vedette.hub.posture.assess import ACTIVE, RESOLVED, Assessment, record
from vedette.hub.posture.recommendations import (
    FleetRecommendation,
    Recommendation,
    Recommendations,
    fleet_score,
)
from vedette.hub.posture.software import Software
from vedette.hub.posture.survey import Survey

__all__ = [
    "ACTIVE",
    "RESOLVED",
    "FleetRecommendation",
    "Posture",
    "Recommendation",
    "Recommendations",
    "fleet_score",
]


class Posture:
    """Keeps the recommendations: called with the events of each batch, inside the batch's transaction."""

    def __init__(self) -> None:
        self._survey = Survey()
        self._software = Software()
        self._by_event: dict[str, Callable[[Session, Observed, float], Iterator[Assessment]]] = {
            "Baseline": baseline.check,
            "OSBaseline": baseline.check,
            "ListeningPorts": exposure.ports,
            "FirewallConfiguration": exposure.firewall,
            "MessageStatistics": messages.counted,
            "HubOperation": transport.cipher_suite,
            "SBoM": self._software.inventory,
            "SystemInformation": self._software.distribution,
        }

    def __call__(self, session: Session, events: Sequence[Observed], now: float) -> None:
        """Assess what the events tell, and now and then what the registry tells."""
        found: list[Assessment] = []
        for event in events:
            assess = self._by_event.get(event.name)
            if assess is not None:
                found += assess(session, event, now)
        messages.count(session, events)
        found += self._survey(session, now)
        found += self._software.assess(session, now)
        record(session, found, now)
