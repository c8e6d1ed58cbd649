"""Many devices in the console: tags, groups, settings for all of them, enrolment."""

import json
import re
from typing import Any

import pytest

from console_rig import IN_CHROMIUM, Site, Visitor, until
from vedette.hub.registry.fleet import TwinChange
from vedette.hub.registry.users import Role
from vedette.wire.iothub import Identity

pytest.importorskip("playwright")
pytestmark = IN_CHROMIUM


def test_a_setting_is_changed_in_the_form_and_the_device_says_that_it_is_in_force(
    visitor: Visitor, browser: Any, site: Site
):
    """A wrong value is named at once and cannot be applied; another browser sees what was applied."""
    page = visitor.open(f"/twin/{site.device}")
    other = Visitor(browser, site)
    other.sign_in("ana")
    other.open(f"/twin/{site.device}")
    page.get_by_text("Statistics", exact=True).click()
    field = page.get_by_label("Statistics_CacheSize", exact=True)
    field.fill("0")
    page.locator(".error-line").filter(has_text="Statistics_CacheSize").wait_for()
    assert page.get_by_role("button", name="Apply").is_disabled()
    field.fill("300")
    page.get_by_text("1 changed: Statistics_CacheSize").wait_for()
    page.get_by_role("button", name="Apply").click()
    for watcher in (page, other.page):
        row = watcher.locator("tr").filter(has_text="Statistics_CacheSize")
        row.get_by_text("in force").wait_for()
    assert '"Statistics_CacheSize": 300' in site.run("twin", "get", site.device, "--json")
    other.context.close()


def test_what_was_desired_before_is_shown_and_restored(visitor: Visitor, site: Site):
    """With who wanted it; restoring is a change like any other."""
    page = visitor.open(f"/twin/{site.device}", "Who wanted what")
    page.get_by_text("Heartbeat", exact=True).click()
    field = page.get_by_label("Heartbeat_MessageFrequency", exact=True)
    field.click()
    page.get_by_role("option", name="High").click()
    page.get_by_role("button", name="Apply").click()
    page.get_by_text('Heartbeat_MessageFrequency: default → "High"').wait_for()
    page.locator(".version").filter(has_text="ana").first.wait_for()
    page.get_by_role("button", name="Restore version").first.click()
    page.get_by_text("1 changed: Heartbeat_MessageFrequency").wait_for()
    page.get_by_role("button", name="Apply").click()
    page.get_by_text('Heartbeat_MessageFrequency: "High" → default').wait_for()
    assert (
        "Heartbeat_MessageFrequency"
        not in json.loads(site.run("twin", "get", site.device, "--json"))["desired"]
    )


def test_devices_are_tagged_grouped_and_configured_together(visitor: Visitor, site: Site):
    """The preview names who changes; each verdict is followed; who says nothing stays pending."""
    page = visitor.open("/devices?q=pump-")
    page.locator("thead .q-checkbox").click()
    page.get_by_role("button", name="Tag …").click()
    page.get_by_label("Tag, as in site").fill("place.hall")
    page.get_by_label("Value; empty removes").fill("north <1>")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("place.hall=north <1>").first.wait_for()
    with site.registry() as registry:
        change = TwinChange(tags={"place": {"hall": "north <1>"}})
        registry.fleet.patch_twin(Identity(site.device), change)
    condition = "tags.place.hall = 'north <1>'"
    page.get_by_label("Condition, as in").fill(condition)
    page.keyboard.press("Enter")
    page.get_by_text("3 devices").wait_for()
    page.get_by_role("button", name="Save group").click()
    page.get_by_label("Name", exact=True).fill("Hall north")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Remove group").wait_for()
    page.get_by_role("link", name="Configure …").click()
    page.get_by_text("Choose devices, and what to change.").wait_for()
    page.get_by_text("Statistics", exact=True).click()
    page.get_by_label("Statistics_CacheSize", exact=True).fill("310")
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("3 of 3 devices change.").wait_for()
    row = page.locator("tr").filter(has_text=site.device)
    row.get_by_text("→ 310").wait_for()
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("heading", name="Rollout").wait_for()
    page.locator("tr").filter(has_text=site.device).get_by_text("in force").wait_for()
    page.locator(".badge").filter(has_text="2 pending").wait_for()
    assert '"Statistics_CacheSize": 310' in site.run("twin", "get", "pump-1", "--json")
    assert "Statistics_CacheSize" not in site.run("twin", "get", "valve-1", "--json")
    page.reload()
    page.locator(".badge").filter(has_text="1 in force").wait_for()


def test_a_condition_that_is_none_is_named(visitor: Visitor):
    """On the list, and in the preview."""
    visitor.open("/devices?where=tags.site%20%3D").locator(".error-line").filter(has_text="query").wait_for()
    page = visitor.open("/configure?where=tags.&patch=%7B%22Process_CacheSize%22%3A300%7D")
    page.get_by_role("button", name="Preview").click()
    page.locator(".q-notification").filter(has_text="query").wait_for()


def test_tags_of_a_device_are_edited_as_json(visitor: Visitor, site: Site):
    """What is wrong is named, and changes nothing."""
    page = visitor.open("/device/valve-1")
    page.get_by_role("button", name="Edit tags").click()
    editor = page.locator(".q-dialog .cm-content")
    for text, outcome in (('{"a.b": 1}', "tags: a.b"), ("{", "JSON:"), ('{"line": 4}', "")):
        editor.click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(text)
        page.get_by_role("button", name="Save").click()
        if outcome:
            page.locator(".q-notification").filter(has_text=outcome).wait_for()
    page.locator(".badge").filter(has_text="line=4").wait_for()
    with site.registry() as registry:
        assert registry.fleet.profile(Identity("valve-1")).tags == {"line": 4}


def test_a_device_is_enrolled_by_the_wizard(visitor: Visitor, site: Site):
    """It shows the commands, and waits; a name twice is refused with the reason."""
    page = visitor.open("/enrol")
    page.get_by_label("Device name").fill("press-9")
    page.get_by_role("button", name="Make the identity").click()
    page.get_by_text("HostName=localhost;DeviceId=press-9").wait_for()
    page.get_by_text("Nothing has arrived yet").wait_for()
    assert "press-9" in site.run("device", "list")
    page = visitor.open("/enrol")
    page.get_by_label("Device name").fill("press-9")
    page.get_by_role("button", name="Make the identity").click()
    page.get_by_text("registered").first.wait_for()


def test_a_group_registers_itself_and_the_page_says_when(visitor: Visitor, site: Site):
    """With the key that the page makes for a device of the group."""
    page = visitor.open("/enrol?kind=group")
    page.get_by_label("Group name").fill("presses")
    page.get_by_label("Tags of its devices").fill("site=north, place.line=3")
    page.get_by_role("button", name="Make the group").click()
    page.get_by_label("Registration id").fill("press-77")
    page.get_by_text('"registration_id":"press-77"').wait_for()
    for way in ("Container", "Python package", "From a Defender micro agent", "Debian package"):
        page.get_by_role("button", name=way).click()
    page.get_by_text("Nothing has arrived yet").wait_for()
    shown = page.locator("div.code").inner_text()
    [document] = re.findall(r"printf %s '([^']*)' > /etc/vedette/provisioning.json", shown)
    with site.agent("press-77", document):
        until(lambda: "press-77" in site.run("device", "list"), "the registration")
        with site.registry() as registry:  # half an hour is too long to wait
            registry.patch_desired(Identity("press-77"), {"CollectorsCore_PriorityIntervals": "0.05,0.1,0.5"})
        page.get_by_role("link", name="See press-77").click()
    page.get_by_role("heading", name="press-77").wait_for()
    page.locator(".badge").filter(has_text="place.line=3").wait_for()


def test_a_viewer_may_tag_and_configure_nothing(browser: Any, site: Site):
    """Neither by button nor by address."""
    site.add_user("viktor", Role.VIEWER)
    viewer = Visitor(browser, site)
    viewer.sign_in("viktor")
    viewer.page.wait_for_selector("div.page")
    page = viewer.open("/devices")
    assert page.get_by_role("checkbox").count() == 0
    assert viewer.open("/device/valve-1").get_by_role("button", name="Edit tags").count() == 0
    viewer.open("/configure", "needs the role operator")
    viewer.open("/enrol?kind=group", "needs the role operator")
    viewer.context.close()
