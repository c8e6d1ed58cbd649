"""Ordinary administration replayed: what it sets off, and that this is right.

The recording is of real programs on a real machine: packages installed and removed, a GNU package and a
program built, logs rotated, backups made, daily jobs run, keys made, a configuration changed. Its script lies
beside it.
"""

import json
from pathlib import Path

from vedette.hub.detect import alerts, rules
from vedette.hub.detect.alerts import Alerts
from vedette.hub.detect.correlate import Correlator
from vedette.hub.detect.examples import DEVICE, steps
from vedette.hub.detect.history import identity, scratch
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.taxonomy import Observed

RECORDING = Path(__file__).parents[2] / "fixtures/administration/commands.jsonl"

LASTED_S = 100.0
"""How long the recording took."""

RIGHT: set[tuple[str, str]] = set()
"""(alert type, command line) of what fires and should."""


def recorded() -> list[Observed]:
    """The recording as a device's events, evenly in time."""
    lines = RECORDING.read_text().splitlines()
    events = []
    for number, (commandline, executable, user, hits) in enumerate(map(json.loads, lines)):
        fields = {"commandline": commandline, "executable": executable, "user_name": user}
        event = steps({"Process": fields})[0].event
        assert event is not None
        at = event.first + number * LASTED_S / len(lines)
        events.append(event._replace(id=f"{number}", hits=hits, first=at, end=at, received=at))
    return events


def test_ordinary_administration_sets_off_nothing_that_is_wrong():
    """2,424 executions of 996 command lines, judged by all rules that run unasked."""
    events = recorded()
    assert (len(events), sum(event.hits for event in events)) == (996, 2_424)
    running = rules.load().running()
    judge, correlator = Judge(running.selections.values()), Correlator(running)
    with scratch() as database:
        with database.write.begin() as session:
            session.add(identity(DEVICE))
            findings = correlator.take(session, judge.judge(events), now=events[-1].received, fresh_after=0.0)
            alerts.record(session, findings, events[-1].received)
        raised = Alerts(database).list()
    judge.close()
    assert {(alert.type, alert.evidence[0]["CommandLine"]) for alert in raised} == RIGHT
