"""One hub with this machine's agent, and one browser, for all tests of the console."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from console_rig import HOSTILE, ODD_DEVICE, SHELL, Site, Visitor, chromium, until
from vedette.hub.registry.users import Role


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A hub that has devices, hostile command lines and an alert."""
    running = Site(tmp_path_factory.mktemp("console") / "state")
    running.add_user("ana", Role.ADMIN)
    for text in HOSTILE:
        subprocess.run(["sleep", "0.3", "0", text], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["bash", "-c", SHELL], check=False, stderr=subprocess.DEVNULL)
    running.run("device", "add", ODD_DEVICE)
    for device in ("pump-1", "pump-2", "valve-1"):
        running.run("device", "add", device)
    until(
        lambda: "sleep" in running.run("query", "Process | where Commandline has 'pwned'"), "the first events"
    )
    until(lambda: "IoT_ReverseShell" in running.run("alerts", "list"), "the first alert")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def visitor(browser: Any, site: Site) -> Iterator[Visitor]:
    """An admin."""
    made = Visitor(browser, site)
    made.sign_in("ana")
    made.page.wait_for_selector("div.page")
    yield made
    made.context.close()
