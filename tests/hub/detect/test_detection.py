"""Detection as a hub runs it."""

import asyncio
import time
from pathlib import Path

from detect_support import SHELL, message, process

from vedette.hub.detect.alerts import Alerts
from vedette.hub.detect.rules import BUILT_IN
from vedette.hub.detect.schema import Database
from vedette.hub.detection import open_detection
from vedette.hub.findings import findings
from vedette.hub.intake import Intake
from vedette.hub.lake import Lake
from vedette.hub.settings import HubState

SIGMA = """
title: Word in a command
logsource: {product: linux, category: process_creation}
level: low
detection: {word: {CommandLine|contains: xyzzy}, condition: word}
"""


async def test_what_is_committed_while_it_runs_becomes_an_alert(tmp_path: Path):
    """Built-in and own rules alike; a broken file among the own ones disturbs nothing."""
    state = HubState(tmp_path)
    state.rules.mkdir()
    (state.rules / "word.yml").write_text(SIGMA)
    (state.rules / "broken.yml").write_text("title: [")
    database = Database(state.registry_url)
    intake, detection = Intake(state.lake), open_detection(state)
    await intake.start()
    await detection.start()
    await intake.submit(message(process(SHELL), process("echo xyzzy"), at=time.time()))
    while len(Alerts(database).list()) < 2:
        await asyncio.sleep(0.05)
    await intake.close()
    await detection.close()
    assert {alert.type for alert in Alerts(database).list()} == {"IoT_ReverseShell", "Word in a command"}
    assert detection.state.failing == ""
    database.close()


async def test_what_was_committed_before_the_end_is_judged_before_the_end(tmp_path: Path):
    """Closing takes what is left; so does the next start, if there was no time."""
    state = HubState(tmp_path)
    intake, detection = Intake(state.lake), open_detection(state)
    await intake.start()
    await detection.start()
    await intake.submit(message(process(SHELL), at=time.time()))
    await intake.close()
    await detection.close()
    database = Database(state.registry_url)
    assert [alert.type for alert in Alerts(database).list()] == ["IoT_ReverseShell"]
    database.close()


async def test_an_owners_file_replaces_the_built_in_rule_of_its_id(tmp_path: Path):
    """A copy that is disabled switches a rule off."""
    state = HubState(tmp_path)
    state.rules.mkdir()
    text = (BUILT_IN / "reverse_shell.yml").read_text()
    own = state.rules / "mine.yml"
    own.write_text(text.replace("  alert: IoT_ReverseShell", "  alert: IoT_ReverseShell\n  enabled: false"))
    intake, detection = Intake(state.lake), open_detection(state)
    await intake.start()
    await detection.start()
    await intake.submit(message(process(SHELL), at=time.time()))
    await intake.close()
    await detection.close()
    database = Database(state.registry_url)
    assert Alerts(database).list() == []
    database.close()


async def test_alerts_are_queried_beside_raw_events(tmp_path: Path):
    """The documented query over SecurityAlert runs, and joins with the event by its id."""
    state = HubState(tmp_path)
    intake, detection = Intake(state.lake), open_detection(state)
    await intake.start()
    await detection.start()
    await intake.submit(message(process(SHELL), at=time.time(), hits=4))
    await intake.close()
    await detection.close()
    database = Database(state.registry_url)
    lake = Lake(state.lake, findings(database))
    documented = """SecurityAlert | where TimeGenerated > ago(7d)
      | summarize Cnt=dcount(SystemAlertId) by IoTHubId=ResourceId,
        DeviceId=tostring(parse_json(ExtendedProperties)["DeviceId"]), AlertSeverity, DisplayName"""
    [row] = lake.query(documented).rows
    assert set(row) == {1, "d1", "High", "Reverse shell"}
    joined = """
        SELECT json_extract_string(a.ExtendedProperties, '$.ExtraDetails.HitCount'), p.Commandline
        FROM SecurityAlert a JOIN raw_events e
          ON e.IoTRawEventId = json_extract_string(a.ExtendedProperties, '$.Evidence[0].IoTRawEventId')
        JOIN Process p ON p.DeviceId = e.DeviceId"""
    assert lake.query(joined, "sql").rows == [("4", SHELL)]
    database.close()
