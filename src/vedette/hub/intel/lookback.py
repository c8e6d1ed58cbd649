"""What a hub already holds against what its lists say now: alerts that nobody could raise at the time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from vedette.hub.detect import alerts
from vedette.hub.detect.changes import BY_TIME, Changes, Position
from vedette.hub.detect.correlate import single
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.rules import RuleSet
from vedette.hub.detect.schema import Database
from vedette.hub.intel.watch import lookup_now
from vedette.hub.lake.storage import Where


def look_back(
    lake: Where,
    database: Database,
    rules: RuleSet,
    since: float,
    now: float,
    told: Callable[[int], None] = lambda events: None,
) -> tuple[int, int]:
    """Raise the alerts of the rules that ask lists, for events since a time: (events, new alerts).

    Events that such a rule has alerted on before do not count again. told: told how many events were read.
    """
    asking = {key: one for key, one in rules.running().selections.items() if one.questions}
    chosen = [rule for rule in rules.rules if rule.enabled and rule.key in asking]
    changes, position, events, raised = Changes(lake), Position(BY_TIME, since), 0, 0
    with closing(Judge(asking.values(), lookup_now(database))) as judge:
        while position.version == BY_TIME:
            batch = changes.after(position)
            position, events = batch.position, events + len(batch.events)
            matches = judge.judge(batch.events)
            findings = [
                single(rule, match)
                for match in matches
                for rule in chosen
                if rule.key == match.selection and rule.concerns(match.event.device)
            ]
            if findings:
                with database.write.begin() as session:
                    raised += len(alerts.record(session, findings, now))
            told(events)
    return events, raised
