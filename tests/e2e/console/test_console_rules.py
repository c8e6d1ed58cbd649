"""Detection rules in the console: found, read, switched, tried, written."""

from typing import Any

import pytest

from console_rig import IN_CHROMIUM, Site, Visitor, until
from vedette.hub.registry.users import Role

pytest.importorskip("playwright")
pytestmark = IN_CHROMIUM


OWN = """title: Word of ours <i>in a command</i>
id: 0a4b8c0e-53a1-4f1f-8f1d-3a1f0f3d9b11
logsource: {product: linux, category: process_creation}
level: low
detection: {word: {CommandLine|contains: zebra-crossing}, condition: word}
vedette:
  examples:
    fires: [{Process: echo zebra-crossing}]
    quiet: [{Process: echo zebra}]
"""


def write(page: Any, text: str) -> None:
    """Put a text into the editor, as by pasting it."""
    page.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


def test_a_rule_is_found_and_read_with_what_its_examples_do(visitor: Visitor):
    """Its text, what it needs, and every example as expected."""
    page = visitor.open("/rules?q=reverse")
    page.get_by_role("link", name="Reverse shell").click()
    page.get_by_role("heading", name="Reverse shell").wait_for()
    page.get_by_text("logsource").first.wait_for()
    examples = page.locator(".example .badge").all_inner_texts()
    assert {"fires", "quiet"} == set(examples)


def test_a_rule_is_switched_off_and_on(visitor: Visitor, browser: Any, site: Site):
    """Another browser sees it, and the registry has who did it."""
    page = visitor.open("/rules?q=history", "Shell history cleared")
    page.get_by_role("link", name="Shell history cleared").click()
    page.get_by_role("button", name="Switch off").click()
    page.get_by_role("button", name="Switch on").wait_for()
    other = Visitor(browser, site)
    other.sign_in("ana")
    other.page.wait_for_selector("div.page")
    other.open("/rules?state=off&q=history", "Shell history cleared")
    other.context.close()
    page.get_by_role("button", name="Switch on").click()
    page.get_by_role("button", name="Switch off").wait_for()
    visitor.open("/admin", "rule_switches/")


def test_a_rule_is_tried_over_history(visitor: Visitor, site: Site):
    """It finds what the lake holds, and makes no alert."""
    before = site.run("alerts", "list", "--json", "--all")
    page = visitor.open("/rules?q=reverse")
    page.get_by_role("link", name="Reverse shell").click()
    page.get_by_role("button", name="Try").click()
    page.get_by_role("cell", name=site.device).first.wait_for()
    page.get_by_text("events read").wait_for()
    assert before == site.run("alerts", "list", "--json", "--all")


def test_a_rule_is_written_tested_saved_and_raises_alerts_at_once(visitor: Visitor, site: Site):
    """What is wrong with it is named while it is typed; removed, it is gone."""
    page = visitor.open("/rule-editor", "A name is needed")
    page.get_by_label("Name in the registry").fill("zebra")
    write(page, OWN.replace("CommandLine", "Colour"))
    page.locator(".error-line").filter(has_text="have no Colour").wait_for()
    assert page.get_by_role("button", name="Save").is_disabled()
    write(page, OWN.replace("Process: echo zebra}", "Process: echo zebra-crossing}"))
    page.get_by_text("fires, should be quiet").wait_for()
    write(page, OWN)
    page.get_by_text("fires, should be quiet").wait_for(state="detached")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Word of ours <i>in a command</i>").wait_for()
    until(
        lambda: site.shell("echo zebra-crossing") or "Word of ours" in site.run("alerts", "list"),
        "an alert of the new rule",
    )
    page.get_by_role("link", name="Edit").click()
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("heading", name="Rules").wait_for()
    visitor.open("/rules?q=zebra", "No rule fits")


def test_an_analyst_tries_rules_and_may_not_change_them(browser: Any, site: Site):
    """Neither by button nor by address."""
    site.add_user("rudi", Role.ANALYST)
    analyst = Visitor(browser, site)
    analyst.sign_in("rudi")
    analyst.page.wait_for_selector("div.page")
    page = analyst.open("/rules?q=reverse")
    assert page.get_by_role("link", name="New rule").count() == 0
    page.get_by_role("link", name="Reverse shell").click()
    page.get_by_role("button", name="Try").wait_for()
    assert page.get_by_role("button", name="Switch off").count() == 0
    analyst.open("/rule-editor", "needs the role operator")
    analyst.context.close()
