"""What pages are made of, without a page: tags in words, questions of alerts, commands, changes."""

import pytest

from vedette.hub.console.alert_query import around_query, evidence_query
from vedette.hub.console.enrol_commands import WAYS, commands
from vedette.hub.console.tags import nested, told
from vedette.hub.console.twin_form import changes
from vedette.hub.detect.alerts import Alert
from vedette.hub.lake import Lake
from vedette.wire.iothub import ConnectionString, Identity

ALERT = Alert(
    id="1",
    type="IoT_ReverseShell",
    rule_id="r",
    title="Reverse shell",
    severity="High",
    status="Active",
    device_id="o'neil\\1",
    module_id="",
    entity="",
    start=1_767_614_400.0,
    end=1_767_614_460.0,
    created=0.0,
    updated=0.0,
    count=1,
    hits=1,
    description="",
    remediation=(),
    tactics=(),
    techniques=(),
    subtechniques=(),
    evidence=({"IoTRawEventId": "e'1"}, {"IoTRawEventId": "e'1"}, {"Image": "/bin/sh"}),
)


@pytest.mark.parametrize("query", [evidence_query(ALERT), around_query(ALERT)])
def test_the_questions_of_an_alert_run_whatever_its_device_is_called(tmp_path, query: str):
    """Quotes and backslashes are part of the name."""
    assert Lake(tmp_path / "lake").query(query).rows == []


def test_tags_are_told_by_their_path():
    """Nested ones too, text without quotes."""
    assert told({"site": "north", "place": {"hall": 3, "dry": True}}) == [
        "place.dry=true",
        "place.hall=3",
        "site=north",
    ]
    assert nested("place.hall", 3) == {"place": {"hall": 3}}


def test_changes_are_told_a_line_a_setting():
    """What comes, what goes, what is other; what stays is left out."""
    assert changes({"a": 1, "b": 2, "c": 3}, {"b": 4, "c": 3, "d": "x"}) == [
        "a: 1 → default",
        "b: 2 → 4",
        'd: default → "x"',
    ]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_installing_writes_the_secret_for_its_owner_alone(way: str):
    """Once, quoted for a shell, and names the port where it is not the usual one."""
    secret = ConnectionString("hub", Identity("o'neil"), "a2V5").format()
    text = commands(way, "connection_string.txt", secret, "hub", 18883)
    assert text.count("umask 077") == 1
    assert "'\"'\"'neil" in text
    assert "hub:18883" in text
    assert "--port" not in commands(way, "connection_string.txt", secret, "hub", 8883)
