"""The console in a real browser, over a real hub with this machine's agent."""

from typing import Any

import pytest

from console_rig import IN_CHROMIUM, ODD_DEVICE, PASSWORD, Site, Visitor
from vedette.hub.console.device import TABS
from vedette.hub.registry.users import Role

pytest.importorskip("playwright")
pytestmark = IN_CHROMIUM

PATHS = (
    "/",
    "/?window=1h",
    "/devices",
    "/devices?state=online&order=seen&down=1",
    "/alerts",
    "/alerts?status=all&severity=High",
    "/recommendations",
    "/recommendations?by=device",
    "/recommendations?by=check&q=ssh&severity=Important",
    "/recommendations?name=there-is-none",
    "/investigate",
    "/investigate?language=sql",
    "/rules",
    "/rules?state=off&severity=High&q=a",
    "/rule/there-is-none",
    "/rule-editor",
    "/suppressions",
    "/devices?where=tags.site%20%3D%20%27north%27",
    "/configure",
    "/rollout/there-is-none",
    "/enrol?kind=group",
    "/enrol",
    "/enrol?kind=list",
    "/intelligence?value=203.0.113.66",
    "/vulnerabilities",
    "/notifications",
    "/hub",
    "/admin",
    "/twin/{device}",
    *(f"/device/{{device}}?tab={tab}" for tab in TABS if tab),
    "/device/{device}",
    "/device/there-is-none",
    "/alert/there-is-none",
    "/twin/there-is-none",
)


PHONE = (
    "/",
    "/devices",
    "/device/{device}",
    "/twin/{device}",
    "/investigate",
    "/rules",
    "/notifications",
    "/hub",
)
"""Those that are tried on a small screen."""


def test_the_first_user_signs_in_with_what_was_printed_and_chooses_a_password(browser: Any, site: Site):
    """And is then at the overview, with this machine's figures."""
    first = Visitor(browser, site)
    first.sign_in("admin", site.one_time)
    first.page.fill("[name=password]", PASSWORD)
    first.page.fill("[name=again]", PASSWORD)
    first.page.click("button[type=submit]")
    first.page.wait_for_selector("div.page")
    assert first.page.title() == "Overview · Vedette"
    first.page.get_by_text("observations for every message sent").wait_for()
    first.page.get_by_role("button", name="Sign out").click()
    first.page.wait_for_selector("[name=password]")
    assert first.complaints == []
    first.context.close()


def test_every_page_opens_without_an_error_and_asks_nobody_else(visitor: Visitor, site: Site):
    """No message in the browser's console, no request to another host, no failed query."""
    for path in PATHS:
        page = visitor.open(path.format(device=site.device))
        assert page.locator(".error-line:not(:empty)").count() == 0, path
        assert visitor.complaints == [], path


def test_everything_that_can_be_used_has_a_name_to_be_called_by(visitor: Visitor, site: Site):
    """For a screen reader: links, buttons and fields."""
    unnamed = """() => [...document.querySelectorAll('a, button, input, [role=button]')]
        .filter(e => e.offsetParent && !e.innerText.trim() && !e.getAttribute('aria-label')
            && !e.closest('label') && !e.labels?.length && !e.getAttribute('placeholder')
            && !e.querySelector('img'))
        .map(e => e.outerHTML.slice(0, 200))"""
    for path in ("/", "/devices", "/recommendations", f"/twin/{site.device}", f"/device/{site.device}"):
        assert visitor.open(path).evaluate(unnamed) == [], path


def test_hostile_command_lines_are_shown_and_not_run(visitor: Visitor, site: Site):
    """In tables, in raw events and in the results of a query."""
    device = site.device
    query = (
        "/investigate?q=Process%20%7C%20where%20Commandline%20has%20%27pwned%27%20%7C%20project%20Commandline"
    )
    for path in (f"/device/{device}?tab=processes&q=pwned", f"/device/{device}?tab=events&q=pwned", query):
        page = visitor.open(path, "window.pwned")
        shown = page.locator(".page").inner_text()
        for text in ("<script>", "<img src=x", "{{constructor", "**bold**", "<svg/onload"):
            assert text in shown, path
        assert page.evaluate("window.pwned === undefined"), path
        assert page.locator(".page script, .page img[src='x'], .page svg[onload]").count() == 0, path


@pytest.mark.parametrize(
    "where",
    [
        "/devices?q=",
        "/devices?where=",
        "/recommendations?by=check&q=",
        "/investigate?q=",
        "/alerts?device=",
        "/rules?q=",
        "/rule/",
        "/configure?where=",
        "/configure?patch=",
    ],
)
def test_hostile_addresses_are_shown_and_not_run(visitor: Visitor, where: str):
    """What a link carries is text, too."""
    page = visitor.open(where + "%3Cimg%20src=x%20onerror=window.pwned=1%3E%7B%7B7*7%7D%7D%27%22")
    assert page.evaluate("window.pwned === undefined")
    assert page.locator(".page img[src='x']").count() == 0


def test_a_device_of_an_odd_name_is_found_and_opened(visitor: Visitor):
    """By search, and by the link in the list."""
    page = visitor.open("/devices?q=NEIL")
    page.get_by_role("link", name=ODD_DEVICE).click()
    page.get_by_role("heading", name=ODD_DEVICE).wait_for()
    page.get_by_text("never seen").first.wait_for()
    page.get_by_role("link", name="Configuration").click()
    page.get_by_text("It has not reported yet").wait_for()


def test_a_viewer_sees_and_may_not_change(browser: Any, site: Site):
    """What is not offered is refused, too, when it is taken away while the page is open."""
    site.add_user("vic", Role.VIEWER)
    viewer = Visitor(browser, site)
    viewer.sign_in("vic")
    viewer.page.wait_for_selector("div.page")
    page = viewer.open(f"/twin/{site.device}")
    assert page.get_by_role("button", name="Apply").is_disabled()
    viewer.open("/enrol", "needs the role operator")
    viewer.open("/investigate", "need the role analyst")
    site.add_user("otto", Role.OPERATOR)
    operator = Visitor(browser, site)
    operator.sign_in("otto")
    operator.page.wait_for_selector("div.page")
    page = operator.open("/enrol")
    with site.users() as users:
        users.remove("otto")
    page.get_by_label("Device name").fill("not-made")
    page.get_by_role("button", name="Make the identity").click()
    page.get_by_text("not signed in any more").wait_for()
    assert "not-made" not in site.run("device", "list")
    viewer.context.close()
    operator.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_in_light_and_dark(browser: Any, site: Site, scheme: str):
    """Nothing runs out of the screen sideways."""
    phone = Visitor(browser, site, viewport={"width": 390, "height": 800}, color_scheme=scheme)
    phone.sign_in("ana")
    phone.page.wait_for_selector("div.page")
    for path in PHONE:
        page = phone.open(path.format(device=site.device))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert page.evaluate("document.body.classList.contains('body--dark')") == (scheme == "dark")
    phone.context.close()
