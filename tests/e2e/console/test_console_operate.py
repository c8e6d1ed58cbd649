"""What keeps a hub going: notifications, intelligence, enrolment by certificate, the hub's status."""

import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from certificates import issue
from console_rig import IN_CHROMIUM, Site, Visitor, until
from support import PATIENCE_S
from vedette.hub.registry.users import Role
from vedette.wire.iothub import Identity

pytest.importorskip("playwright")
pytestmark = IN_CHROMIUM


class Receiver:
    """Takes webhooks; answers with a status that may be changed. titles: of the findings that it was told."""

    def __init__(self) -> None:
        self.status = 204
        self.bodies: list[bytes] = []
        receiver = self

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.server = HTTPServer(("127.0.0.1", 0), Taking)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook-secret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_route_is_made_tried_and_a_message_that_was_given_up_is_sent_again(
    visitor: Visitor, site: Site, receiver: Receiver
):
    """Its address and its signing secret are not shown afterwards; it can be switched off and removed."""
    page = visitor.open("/notifications", "No route yet")
    page.get_by_role("button", name="New route").click()
    dialog = page.locator(".q-dialog")
    dialog.get_by_label("Name, as in").fill("duty")
    dialog.get_by_label("URL, as in").fill(receiver.url)
    dialog.get_by_role("button", name="Add").click()
    page.get_by_text("http is not protected on its way").wait_for()
    dialog.get_by_text("A webhook may lead to a private address").click()
    dialog.get_by_text("Also when a finding is dismissed").click()
    dialog.get_by_label("Gathered for").click()
    page.get_by_role("option", name="Each by itself").click()
    dialog.get_by_role("button", name="Add").click()
    secret = dialog.locator("div.code").inner_text()
    assert secret.startswith("whsec_")
    dialog.get_by_role("button", name="Done").click()
    page.get_by_role("link", name="duty").wait_for()
    shown = page.locator(".page").inner_text()
    assert "hook-secret" not in shown
    assert secret not in shown

    page.locator("tbody .q-checkbox").click()
    page.get_by_role("button", name="Test").click()
    page.get_by_text("duty: the test alert arrived.").wait_for()
    assert b"IoT_NotificationTest" in receiver.bodies[0]

    receiver.status = 410
    alert = json.loads(site.run("alerts", "list", "--json"))[0]["id"]
    site.run("alerts", "start", alert)
    until(lambda: len(receiver.bodies) > 1, "the message")
    until(lambda: "dead" in site.run("notify", "deliveries"), "the message being given up")
    receiver.status = 204
    visitor.open("/notifications?state=dead&route=duty", "410")
    page.locator(".panel").nth(1).locator("tbody .q-checkbox").click()
    page.get_by_role("button", name="Send again").click()
    page.get_by_text("No message fits.").wait_for()
    until(lambda: "sent" in site.run("notify", "deliveries"), "the message being sent")
    assert receiver.bodies[1] == receiver.bodies[-1]

    visitor.open("/notifications", "duty")
    for name in ("Disable", "Remove"):
        page.locator(".panel").first.locator("tbody .q-checkbox").click()
        page.get_by_role("button", name=name).click()
        if name == "Disable":
            page.locator("tr", has_text="duty").get_by_text("off", exact=True).wait_for()
    page.locator(".q-dialog").get_by_role("button", name="Remove").click()
    page.get_by_text("No route yet").wait_for()
    assert json.loads(site.run("notify", "list", "--json")) == []


def import_file(visitor: Visitor, path: Path, contents: str = "") -> None:
    """Through the form."""
    page = visitor.open("/intelligence", "Nothing is downloaded")
    page.get_by_role("button", name="Import").click()
    if contents:
        page.get_by_label("The file holds").click()
        page.get_by_role("option", name=contents).click()
    page.locator("input[type=file]").set_input_files(path)


def test_a_list_is_imported_asked_and_removed(visitor: Visitor, site: Site, tmp_path: Path):
    """What could not be used is told; a file without anything usable changes nothing."""
    feed = tmp_path / "feed.txt"
    feed.write_text("# made up\n203.0.113.66\nfiles.bad.example\nno indicator at all!\n")
    import_file(visitor, feed)
    page = visitor.page
    row = page.locator("tr", has_text="feed.txt")
    row.wait_for()
    assert "1" in row.inner_text()
    assert {"feed"} == {one["name"] for one in json.loads(site.run("intel", "list", "--json"))}
    page.get_by_label("Value").fill("https://203.0.113.66/x86")
    page.keyboard.press("Enter")
    page.locator("tr", has_text="203.0.113.66").get_by_text("address").wait_for()
    visitor.open("/intelligence?value=198.51.100.1", "No list knows it.")
    empty = tmp_path / "empty.txt"
    empty.write_text("nothing here!\n")
    import_file(visitor, empty)
    page.get_by_text("nothing to import").wait_for()
    visitor.open("/intelligence", "feed.txt")
    page.locator("tbody .q-checkbox").click()
    page.get_by_role("button", name="Remove").click()
    page.locator(".q-dialog").get_by_role("button", name="Remove").click()
    page.get_by_text("No list yet.").wait_for()


def test_advisories_are_held_against_what_devices_have_installed(
    visitor: Visitor, site: Site, tmp_path: Path
):
    """The fleet's page and the device's name the weakness of a package of this machine."""
    until(lambda: "1" in site.run("query", "SBoM | where Part == Parts | count").split(), "the inventory")
    advisory = {
        "id": "EX-2099-1",
        "aliases": ["CVE-2099-0001"],
        "summary": "A made-up weakness <b>of bash</b>",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [
            {
                "package": {"ecosystem": "Debian:12", "name": "bash"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99-1"}]}],
            }
        ],
    }
    archive = tmp_path / "advisories.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("EX-2099-1.json", json.dumps(advisory))
    import_file(visitor, archive, "Advisories")
    page = visitor.page
    page.locator("tr", has_text="advisories.zip").wait_for()
    until(lambda: "EX-2099-1" in site.run("query", "SoftwareVulnerability"), "the comparison")
    visitor.open("/vulnerabilities?q=cve-2099&severity=Critical", "A made-up weakness <b>of bash</b>")
    page.locator("tr", has_text="EX-2099-1").get_by_role("link", name=site.device).click()
    page.get_by_text("Known vulnerabilities").wait_for()
    page.locator("tr", has_text="EX-2099-1").get_by_text("99-1", exact=True).wait_for()
    site.run("intel", "remove", "advisories")


def test_a_group_enrols_by_certificates_of_an_authority(visitor: Visitor, site: Site):
    """A device with a certificate of it registers itself, and the page says when its first event arrives."""
    authority = issue("Works of Example", ca=True)
    page = visitor.open("/enrol?kind=group")
    page.get_by_label("Group name").fill("lathes")
    page.get_by_label("Proof").click()
    page.get_by_role("option", name="Certificates of an authority").click()
    page.get_by_role("button", name="Make the group").click()
    page.get_by_text("paste the PEM text of one").wait_for()
    page.get_by_label("The authority's certificate").fill(authority.pem.decode())
    page.get_by_role("button", name="Make the group").click()
    page.get_by_label("Registration id of the device").fill("lathe-7")
    shown = page.locator("div.code")
    shown.filter(has_text="lathe-7").wait_for()
    commands = shown.inner_text()
    assert "certificate_private.pem" in commands
    document = commands.partition("printf %s '")[2].partition("'")[0]
    assert json.loads(document)["x509"] is True
    own = issue("lathe-7", authority)
    files = {"certificate_public.pem": own.pem, "certificate_private.pem": own.key_pem}
    with site.agent("lathe-7", document, files):
        page.get_by_text("Connected: lathe-7").wait_for(timeout=PATIENCE_S * 1000)
        with site.registry() as registry:  # half an hour is too long to wait
            registry.patch_desired(Identity("lathe-7"), {"CollectorsCore_PriorityIntervals": "0.05,0.1,0.5"})
        page.get_by_role("link", name="See lathe-7").wait_for(timeout=PATIENCE_S * 1000)
    visitor.open("/enrol?kind=list", "lathes")
    page.locator("tr", has_text="lathes").locator(".q-checkbox").click()
    page.get_by_role("button", name="End").click()
    page.locator(".q-dialog").get_by_role("button", name="End").click()
    until(lambda: "lathes" not in site.run("enrollment", "list"), "the end of the enrolment")


def test_the_hub_tells_how_it_is(visitor: Visitor):
    """Processes, leases and tables as the command tells them; what is wrong stands at the top."""
    page = visitor.open("/hub", "detection")
    for name in ("raw_events", "dead_letters", "maintenance", "alive"):
        page.get_by_text(name).first.wait_for()


def test_each_role_finds_what_it_may_see(browser: Any, site: Site):
    """The rest is not in the navigation, and tells what it needs where somebody knows its address."""
    site.add_user("arno", Role.ANALYST)
    analyst = Visitor(browser, site)
    analyst.sign_in("arno")
    analyst.page.wait_for_selector("div.page")
    entries = analyst.page.locator("nav .entry").all_inner_texts()
    assert any("Intelligence" in entry for entry in entries)
    assert not any("Notifications" in entry or "Hub" in entry for entry in entries)
    page = analyst.open("/intelligence", "Nothing is downloaded")
    assert page.get_by_role("button", name="Import").count() == 0
    for path in ("/notifications", "/hub", "/enrol", "/admin"):
        analyst.open(path, "the role")
    analyst.context.close()


def test_on_a_phone_the_navigation_opens_and_leads_on(browser: Any, site: Site):
    """It is behind a button that says whether it is open."""
    phone = Visitor(browser, site, viewport={"width": 390, "height": 800})
    phone.sign_in("ana")
    page = phone.page
    page.wait_for_selector("div.page")
    entry = page.locator("nav").get_by_role("link", name="Notifications")
    assert not entry.is_visible()
    menu = page.get_by_role("button", name="Menu")
    menu.click()
    assert menu.get_attribute("aria-expanded") == "true"
    entry.click()
    page.get_by_role("heading", name="Notifications").wait_for()
    phone.context.close()
