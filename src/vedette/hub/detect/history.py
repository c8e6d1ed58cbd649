"""A rule over what the lake holds: what it would have found, without touching the hub's alerts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from vedette.hub.detect import alerts
from vedette.hub.detect.alerts import Alert, Alerts
from vedette.hub.detect.changes import BY_TIME, Changes, Position
from vedette.hub.detect.correlate import Correlator
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.rules import RuleSet
from vedette.hub.detect.schema import Database
from vedette.hub.intel.lookup import Lookup
from vedette.hub.lake.storage import Where
from vedette.hub.registry.schema import IdentityRow

SHOWN = 1_000
"""Alerts of one trial that are returned; more than a rule worth having makes in a month."""


def replay(
    lake: Where,
    rules: RuleSet,
    since: float,
    heard: Callable[[int, float], None] = lambda events, until: None,
    lookup: Lookup | None = None,
) -> tuple[int, Sequence[Alert]]:
    """How many events came since a time (Unix seconds), and the alerts that the rules make of them.

    heard: told after each batch how many events that were, and up to which time; what it raises ends it.
    lookup: answers what rules ask of lists.
    """
    changes, position, events = Changes(lake), Position(BY_TIME, since), 0
    correlator = Correlator(rules)
    with scratch() as database, closing(Judge(rules.selections.values(), lookup)) as judge:
        devices: set[str] = set()
        while position.version == BY_TIME:
            batch = changes.after(position)
            position, events = batch.position, events + len(batch.events)
            matches = judge.judge(batch.events)
            with database.write.begin() as session:
                new = {event.device for event in batch.events} - devices
                devices |= new
                session.add_all(identity(device) for device in new)
                now = position.watermark
                findings = correlator.take(session, matches, now=now, fresh_after=0.0)
                alerts.record(session, findings + correlator.due(session, now, since), now)
            heard(events, now)
        return events, Alerts(database).list(limit=SHOWN)


@contextmanager
def scratch() -> Iterator[Database]:
    """An empty registry that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="vedette-rules-") as directory:
        database = Database(f"sqlite:///{Path(directory) / 'registry.db'}")
        try:
            yield database
        finally:
            database.close()


def identity(device: str) -> IdentityRow:
    """A registered device, for rules that look at what does not come from it."""
    blank = {"module_id": "", "primary_key": "", "secondary_key": "", "etag": ""}
    return IdentityRow(device_id=device, enabled=True, created=0.0, **blank)
