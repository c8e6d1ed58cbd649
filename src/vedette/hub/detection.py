"""Detection as a hub runs it: its lake, its registry, the built-in rules and the owner's."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy.orm import Session

from vedette.hub.detect.engine import Detection, Worker
from vedette.hub.detect.rulebook import Rulebook
from vedette.hub.detect.rules import RuleSet
from vedette.hub.detect.schema import Database
from vedette.hub.detect.taxonomy import Observed
from vedette.hub.posture import Posture
from vedette.hub.posture.trend import Trend
from vedette.hub.settings import HubState

log = logging.getLogger(__name__)


def open_detection(state: HubState) -> Detection:
    """Detection over a hub's state. What is wrong with a rule is logged, and the rest run."""

    def worker() -> Worker:
        database = Database(state.registry_url)
        book = Rulebook(database, state.rules)
        rules = book.rules()
        _tell(rules)

        def changed() -> RuleSet | None:
            if new := book.changed():
                _tell(new)
            return new

        posture, trend = Posture(), Trend()

        def assess(session: Session, events: Sequence[Observed], now: float) -> None:
            posture(session, events, now)
            trend(session, events, now)

        return Worker(state.lake, database, rules, posture=assess, changed=changed)

    return Detection(worker)


def _tell(rules: RuleSet) -> None:
    for refused in rules.refused:
        log.warning("rule %s is not used: %s", refused.path, refused.reason)
    log.info("%d detection rules run", len(rules.running().rules))
