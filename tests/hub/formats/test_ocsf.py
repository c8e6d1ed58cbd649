"""OCSF: alerts of every rule and events of every type, held against the schema."""

import pytest
from format_samples import (
    FULL,
    RULES,
    alerts_of_every_rule,
    events_of_every_type,
    raw,
    recommendation,
)
from ocsf_schema import classes, problems

from vedette.hub.detect import examples
from vedette.hub.formats import ocsf, ocsf_events


def event(name: str) -> dict:
    return ocsf_events.event(raw(name, examples.details(name, FULL[name])))


def test_the_check_finds_what_is_wrong():
    """Unknown and missing attributes, wrong types, values outside an enumeration, broken constraints."""
    document = event("Process")
    document["surprise"] = 1
    document["severity_id"] = 55
    document["count"] = "three"
    del document["process"]["pid"], document["process"]["uid"]
    del document["metadata"]["version"]
    assert sorted(text.split(":")[0] for text in problems(document)) == [
        *(".count", ".metadata.version", ".process", ".severity_id", ".surprise")
    ]


def test_alerts_of_every_rule_are_detection_findings():
    """Each rule's own example makes an alert that the schema accepts."""
    alerts = alerts_of_every_rule()
    assert {alert.type for alert in alerts} == {rule.alert for rule in RULES.rules}
    wrong = {alert.type: problems(ocsf.finding(alert)) for alert in alerts}
    assert {kind: found for kind, found in wrong.items() if found} == {}
    assert {ocsf.finding(alert)["class_uid"] for alert in alerts} == {2004}


def test_an_alert_keeps_its_count_window_status_and_techniques():
    """What an analyst sorts by."""
    [alert] = [alert for alert in alerts_of_every_rule() if alert.type == "IoT_ReverseShell"]
    document = ocsf.finding(alert)
    assert document["count"] == alert.hits
    assert document["finding_info"]["uid"] == alert.id
    assert (document["severity"], document["severity_id"], document["status"]) == ("High", 4, "New")
    assert document["finding_info"]["attacks"][0]["tactics"][0]["name"] == alert.tactics[0]
    assert document["evidences"][0]["process"]["cmd_line"] == alert.evidence[0]["CommandLine"]


@pytest.mark.parametrize(("state", "status"), [("Active", "Fail"), ("Resolved", "Pass")])
def test_a_recommendation_is_a_compliance_finding(state: str, status: str):
    """It passes when it is resolved."""
    document = ocsf.finding(recommendation(state=state))
    assert problems(document) == []
    assert (document["class_uid"], document["compliance"]["status"]) == (2003, status)


def test_events_of_every_type_are_accepted():
    """With as little and as much as they can tell, those of the classic agent too."""
    wrong = [(one.name, problems(ocsf_events.event(one))) for one in events_of_every_type()]
    assert [(name, found) for name, found in wrong if found] == []


def test_event_types_are_in_the_classes_of_the_schema():
    """The hit count is the standard's count; what a class does not take is kept whole."""
    expected = {
        "Process": "process_activity",
        "NetworkActivity": "network_activity",
        "DNS": "dns_activity",
        "Login": "authentication",
        "FileSystem": "file_activity",
        "Peripheral": "peripheral_activity",
        "SBoM": "software_info",
        "SystemInformation": "inventory_info",
        "Baseline": "compliance_finding",
    }
    found = {name: event(name) for name in expected}
    assert {name: classes()[document["class_uid"]] for name, document in found.items()} == expected
    assert {document["count"] for document in found.values()} == {3}
    for name, document in found.items():
        assert FULL[name].get("commandline", "") in document["raw_data"]


def test_a_flow_that_came_in_has_the_other_end_as_source():
    """Bytes go with the ends: out is from source to destination."""
    flow = FULL["NetworkActivity"] | {"local_port": 22, "remote_port": 50_000}
    details = examples.details("NetworkActivity", flow)
    document = ocsf_events.event(raw("NetworkActivity", details))
    assert document["src_endpoint"]["ip"] == "2001:db8::9"
    assert document["dst_endpoint"] == {"ip": "192.0.2.7", "port": 22}
    assert document["traffic"] == {"bytes_out": 500, "bytes_in": 90, "packets": 3}
    assert document["connection_info"]["direction_id"] == 1
