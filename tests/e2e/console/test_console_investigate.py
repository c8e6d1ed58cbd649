"""Questions to the lake in the console."""

from typing import Any

import pytest

from console_rig import IN_CHROMIUM, Site, Visitor
from vedette.hub.registry.users import Role

pytest.importorskip("playwright")
pytestmark = IN_CHROMIUM


def test_a_query_is_answered_as_table_and_chart_and_its_link_repeats_it(visitor: Visitor):
    """A wrong one says where it is wrong."""
    page = visitor.open("/investigate")
    page.get_by_role("button", name="Activity over time").click()
    page.get_by_text(" rows in ").wait_for()
    page.wait_for_selector("canvas")
    page.wait_for_function("location.search.includes('timechart')")
    page.reload()
    page.get_by_text(" rows in ").wait_for()
    page.wait_for_selector("canvas")
    visitor.open("/investigate?q=Process%20%7C%20frobnicate", "frobnicate")
    page.locator(".error-line").filter(has_text="column").wait_for()
    with page.expect_download() as download:
        query = "Process%20%7C%20project%20Commandline%2C%20HitCount%20%7C%20take%205"
        visitor.open(f"/investigate?q={query}", "5 rows in ")
        page.get_by_role("button", name="CSV").click()
    assert download.value.path().read_text().startswith("Commandline,HitCount")


def test_names_of_tables_and_columns_are_offered_while_one_types(visitor: Visitor):
    """Columns of the tables that the query names already."""
    page = visitor.open("/investigate", "with their columns")
    page.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.type("NetworkAct", delay=30)
    page.locator(".cm-tooltip-autocomplete").get_by_text("NetworkActivity").wait_for()
    page.keyboard.press("Enter")
    page.keyboard.type(" | where RemoteAdd", delay=30)
    page.locator(".cm-tooltip-autocomplete").get_by_text("RemoteAddress").wait_for()
    assert visitor.complaints == []


def test_a_query_that_takes_long_is_ended(visitor: Visitor):
    """By its button; the next one runs."""
    endless = "SELECT sum(hash(a.range * b.range)) FROM range(3000000) a, range(1000000) b"
    page = visitor.open(f"/investigate?language=sql&q={endless.replace(' ', '%20')}")
    page.get_by_text("Running,").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled.").wait_for()
    page.get_by_role("button", name="Hits by type").click()
    page.get_by_text(" rows in ").wait_for()


def test_rows_are_exported_as_parquet(visitor: Visitor):
    """As the lake's own files are."""
    page = visitor.open("/investigate?q=Process%20%7C%20take%205", "5 rows in ")
    with page.expect_download() as download:
        page.get_by_role("button", name="Parquet").click()
    assert download.value.path().read_bytes()[:4] == b"PAR1"


def test_a_saved_query_is_ones_own_until_it_is_shared(visitor: Visitor, browser: Any, site: Site):
    """Then others are offered it, and may not remove it."""
    site.add_user("bea", Role.ANALYST)
    page = visitor.open("/investigate")
    for name, shared in (("Only mine", False), ("For all <b>of</b> us", True)):
        page.get_by_role("button", name="Save query").click()
        page.get_by_label("Name", exact=True).fill(name)
        if shared:
            page.get_by_text("Everybody is offered it").click()
        page.get_by_role("button", name="Save", exact=True).click()
        page.wait_for_load_state()
        page.get_by_label("Saved queries").click()
        page.get_by_role("option", name=name).wait_for()
        page.keyboard.press("Escape")
    other = Visitor(browser, site)
    other.sign_in("bea")
    other.page.wait_for_selector("div.page")
    page = other.open("/investigate")
    page.get_by_label("Saved queries").click()
    page.get_by_role("option", name="For all <b>of</b> us (ana)").click()
    page.get_by_text(" rows in ").wait_for()
    page.get_by_label("Saved queries").click()
    assert page.get_by_role("option", name="Only mine").count() == 0
    assert page.get_by_role("button", name="Remove the saved query").count() == 0
    other.context.close()
