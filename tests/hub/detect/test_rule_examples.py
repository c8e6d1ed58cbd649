"""Every built-in rule against the examples that it carries."""

import pytest

from vedette.hub.detect import examples
from vedette.hub.detect.rules import Rule, load

RULES = load()


def test_every_built_in_rule_loads():
    """None of our own rules is broken or asks for what events do not tell."""
    assert RULES.refused == ()
    assert RULES.rules


@pytest.mark.parametrize("rule", RULES.rules, ids=lambda rule: rule.alert)
def test_a_rule_says_what_to_do_and_carries_two_examples_of_each_kind(rule: Rule):
    """Description, remediation and at least two events that fire and two look-alikes that do not."""
    assert rule.description
    assert rule.remediation
    assert len(rule.examples.fires) >= 2
    assert len(rule.examples.quiet) >= 2


@pytest.mark.parametrize("rule", RULES.rules, ids=lambda rule: rule.alert)
def test_examples_come_out_as_they_say(rule: Rule):
    """What must fire does, and its look-alikes do not."""
    wrong = [outcome for outcome in examples.run(RULES, [rule]) if not outcome.passed]
    assert not wrong, [(outcome.kind, outcome.number, outcome.reason) for outcome in wrong]
