"""ECS: alerts of every rule and events of every type, held against the field reference."""

from ecs_fields import problems
from format_samples import FULL, alerts_of_every_rule, events_of_every_type, raw, recommendation

from vedette.hub.detect import examples
from vedette.hub.formats import ecs, ecs_events


def event(name: str) -> dict:
    return ecs_events.event(raw(name, examples.details(name, FULL[name])))


def test_the_check_finds_what_is_wrong():
    """Fields that ECS does not have, values of a wrong type, types that a category does not expect."""
    document = event("Process")
    document["process"] |= {"surprise": 1, "pid": "7"}
    document["event"]["type"] = ["connection"]
    assert len(problems(document)) == 3


def test_alerts_of_every_rule_have_fields_of_the_reference():
    """Each rule's own example; the kind is alert, the rule is named."""
    for alert in alerts_of_every_rule():
        document = ecs.finding(alert)
        assert problems(document) == [], alert.type
        assert document["event"]["kind"] == "alert"
        assert document["rule"]["name"] == alert.title


def test_a_recommendation_is_a_state_that_fails():
    """Its outcome follows the check."""
    assert problems(ecs.finding(recommendation())) == []
    assert ecs.finding(recommendation())["event"]["outcome"] == "failure"
    assert ecs.finding(recommendation(state="Resolved"))["event"]["outcome"] == "success"


def test_events_of_every_type_have_fields_of_the_reference():
    """With as little and as much as they can tell, those of the classic agent too."""
    for one in events_of_every_type():
        assert problems(ecs_events.event(one)) == [], one.name


def test_the_hit_count_and_the_original_are_kept():
    """ECS has no field for the first, and one for the second."""
    document = event("Process")
    assert document["vedette"]["hit_count"] == 3
    assert '"Commandline":"sshd -D"' in document["event"]["original"]
    assert document["process"]["parent"] == {"pid": 1}


def test_a_flow_has_source_destination_and_packets():
    """The device opened it, as its port is the higher one."""
    document = event("NetworkActivity")
    assert document["source"] == {"address": "192.0.2.7", "ip": "192.0.2.7", "port": 40_022, "bytes": 90}
    assert document["destination"]["domain"] == "example.net"
    assert document["network"]["packets"] == 3
    assert document["network"]["bytes"] == 590
    assert document["network"]["direction"] == "egress"
