"""Ordinary administration replayed: what it sets off, and that this is right.

The recording is of real programs on a real machine, by the agent's collectors: packages, builds, version
control, backups, accounts, sessions over SSH, cron, log rotation, services, containers, network tools. Its
script and what records it lie beside it. docs/rules.md tells the result.
"""

import json
import lzma
from pathlib import Path

import pytest

from vedette.hub.detect import alerts, rules
from vedette.hub.detect.alerts import Alert, Alerts
from vedette.hub.detect.correlate import Correlator
from vedette.hub.detect.examples import DEVICE, steps
from vedette.hub.detect.history import identity, scratch
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.taxonomy import Observed

RECORDING = Path(__file__).parents[2] / "fixtures/administration/events.jsonl.xz"

RIGHT = {
    ("IoT_LinuxReconnaissance", "crontab -l"),
    ("IoT_UserAddedToGroup", "usermod -aG adm deploy"),
    ("IoT_UserDeleted", "userdel -r deploy"),
}
"""(alert type, command line) of what fires and should: who may do what on the device has changed; and
without the pauses of whoever types them, ten commands that look around came within a minute, this the last.
"""

ASKED_FOR = {"IoT_FileCreated", "IoT_FileModified", "IoT_FileDeleted"}
"""They tell of every change below the paths that the owner had watched, here /etc, /home and some more."""


def recorded() -> list[Observed]:
    """The recording as a device's events."""
    lines = sorted(
        map(json.loads, lzma.decompress(RECORDING.read_bytes()).splitlines()), key=lambda line: line[1]
    )
    events = []
    for number, (name, at, hits, fields) in enumerate(lines):
        event = steps({name: fields})[0].event
        assert event is not None
        events.append(event._replace(id=f"{number}", hits=hits, first=at, end=at, received=at))
    return events


@pytest.fixture(scope="module")
def raised() -> list[Alert]:
    """What all rules that run unasked make of it."""
    events = recorded()
    running = rules.load().running()
    judge, correlator = Judge(running.selections.values()), Correlator(running)
    with scratch() as database:
        with database.write.begin() as session:
            session.add(identity(DEVICE))
            findings = correlator.take(session, judge.judge(events), now=events[-1].received, fresh_after=0.0)
            alerts.record(session, findings, events[-1].received)
        found = Alerts(database).list(limit=10_000)
    judge.close()
    return list(found)


def test_the_recording_is_of_a_good_part_of_an_hour():
    """5,482 executions of 2,382 command lines in 632 s, and what they did to files."""
    events = recorded()
    processes = [event for event in events if event.name == "Process"]
    assert len({event.details["Commandline"] for event in processes}) == 2_382
    assert sum(event.hits for event in processes) == 5_482
    assert sum(event.name == "FileSystem" for event in events) == 318
    assert round(events[-1].first - events[0].first) == 632


def test_ordinary_administration_sets_off_nothing_that_is_wrong(raised: list[Alert]):
    """Of 2,382 command lines, two that change who may do what, and a look around in a hurry."""
    of_commands = [alert for alert in raised if alert.type not in ASKED_FOR]
    assert {(alert.type, alert.evidence[0]["CommandLine"]) for alert in of_commands} == RIGHT


def test_changes_of_watched_files_are_told(raised: list[Alert]):
    """All kinds of them, since the owner asked: none is taken for something else."""
    assert {alert.type for alert in raised if "TargetFilename" in alert.evidence[0]} <= ASKED_FOR
    assert {alert.type for alert in raised} >= ASKED_FOR
