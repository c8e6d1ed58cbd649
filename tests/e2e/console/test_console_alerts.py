"""Alerts in the console: followed to their evidence, decided in bulk, suppressed."""

import json
from typing import Any

import pytest

from console_rig import IN_CHROMIUM, SHELL, Site, Visitor, until
from vedette.hub.registry.users import Role

pytest.importorskip("playwright")
pytestmark = IN_CHROMIUM


def test_an_alert_leads_to_the_events_that_are_its_evidence(visitor: Visitor):
    """By a query that runs as it is."""
    page = visitor.open("/alerts?status=all&kind=IoT_ReverseShell")
    page.get_by_role("link", name="Reverse shell").first.click()
    page.get_by_role("link", name="Query of this evidence").click()
    page.get_by_text(" rows in ").wait_for()
    page.locator("td").filter(has_text="4444").first.wait_for()


def test_alerts_are_decided_together_with_a_reason(visitor: Visitor, site: Site):
    """Each has the decision in its history."""
    for port in (5555, 6666):
        site.shell(SHELL.replace("4444", str(port)))
    site.shell("exit 0; history -c")
    until(lambda: "IoT_ClearHistoryFile" in site.run("alerts", "list"), "a second alert")
    page = visitor.open("/alerts")
    page.get_by_role("checkbox").first.wait_for()
    page.locator("thead .q-checkbox").click()
    page.get_by_text("marked").first.wait_for()
    page.get_by_role("button", name="Resolve").click()
    page.get_by_label("Why").fill("An exercise <b>of ours</b>")
    page.locator(".q-dialog").get_by_role("button", name="Resolve").click()
    page.get_by_text("No alerts.").wait_for()
    resolved = json.loads(site.run("alerts", "list", "--all", "--json"))
    assert len(resolved) >= 2
    assert {alert["status"] for alert in resolved} == {"Resolved"}
    page = visitor.open("/alerts?status=Resolved")
    page.get_by_role("link", name="Shell history cleared").first.click()
    page.get_by_text("An exercise <b>of ours</b>").wait_for()


def test_what_is_suppressed_raises_no_alert_until_it_is_removed(visitor: Visitor, site: Site):
    """Added from an alert, by its type on its device; its hits are counted."""

    def raised() -> bool:
        site.shell("exit 0; history -c")
        return "IoT_ClearHistoryFile" in site.run("alerts", "list", "--all")

    until(raised, "an alert to suppress")
    page = visitor.open("/alerts?status=all&kind=IoT_ClearHistoryFile")
    page.get_by_role("link", name="Shell history cleared").first.click()
    page.get_by_role("button", name="Suppress …").click()
    page.get_by_label("Where: Field=pattern").fill("")
    page.locator(".q-dialog").get_by_label("Why", exact=True).fill("noise")
    page.locator(".q-dialog").get_by_role("button", name="Suppress").click()
    page.get_by_text("in force").wait_for()

    def kept_quiet() -> bool:
        site.shell("exit 0; history -c")
        [known] = json.loads(site.run("alerts", "suppressions", "--json"))
        return known["hits"] > 0

    until(kept_quiet, "a hit that is kept quiet")
    page.reload()
    page.locator("tbody .q-checkbox").click()
    page.get_by_role("button", name="Remove").click()
    page.get_by_text("Nothing is suppressed.").wait_for()
    assert json.loads(site.run("alerts", "suppressions", "--json")) == []


def test_a_wrong_suppression_is_named(visitor: Visitor):
    """It would hide everything, or nothing."""
    page = visitor.open("/suppressions")
    page.get_by_role("button", name="New suppression").click()
    page.locator(".q-dialog").get_by_role("button", name="Suppress").click()
    page.get_by_text("names a device, a group, a type or an expression").wait_for()
    page.get_by_label("Where: Field=pattern").fill("no pattern")
    page.locator(".q-dialog").get_by_role("button", name="Suppress").click()
    page.get_by_text("is not Field=pattern").wait_for()


def test_a_viewer_decides_about_nothing(browser: Any, site: Site):
    """No marks, no buttons."""
    site.add_user("vera", Role.VIEWER)
    viewer = Visitor(browser, site)
    viewer.sign_in("vera")
    viewer.page.wait_for_selector("div.page")
    page = viewer.open("/alerts?status=all", "Reverse shell")
    assert page.get_by_role("checkbox").count() == 0
    page.get_by_role("link", name="Reverse shell").first.click()
    page.get_by_text("Why it matters").wait_for()
    for name in ("Dismiss", "Resolve", "Suppress …"):
        assert page.get_by_role("button", name=name).count() == 0, name
    viewer.open("/suppressions", "Nothing is suppressed")
    assert page.get_by_role("button", name="New suppression").count() == 0
    viewer.context.close()
