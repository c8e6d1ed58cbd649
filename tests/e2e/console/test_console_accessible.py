"""The console as axe-core judges it: nothing serious, in light and in dark."""

from typing import Any

import axe
import pytest

from console_rig import IN_CHROMIUM, Site, Visitor

pytest.importorskip("playwright")
pytestmark = IN_CHROMIUM

PATHS = (
    "/",
    "/devices",
    "/device/{device}",
    "/device/{device}?tab=software",
    "/device/{device}?tab=events",
    "/twin/{device}",
    "/configure",
    "/alerts?status=all",
    "/suppressions",
    "/recommendations",
    "/investigate",
    "/rules",
    "/rule-editor",
    "/enrol",
    "/enrol?kind=group",
    "/enrol?kind=list",
    "/intelligence?value=203.0.113.66",
    "/vulnerabilities",
    "/notifications",
    "/hub",
    "/admin",
)

JUDGE = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
    .filter(v => ['serious', 'critical'].includes(v.impact))
    .map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join(' | '))"""


@pytest.fixture(scope="session")
def axe_script() -> str:
    try:
        return axe.script()
    except axe.CannotInstall as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_violation(browser: Any, site: Site, axe_script: str, scheme: str):
    """Contrast, names, roles, structure."""
    reader = Visitor(browser, site, color_scheme=scheme)
    reader.sign_in("ana")
    reader.page.wait_for_selector("div.page")
    found = {}
    for path in PATHS:
        page = reader.open(path.format(device=site.device))
        page.wait_for_load_state("networkidle")
        page.evaluate(axe_script)
        if violations := page.evaluate(JUDGE):
            found[path] = violations
    assert found == {}
    reader.context.close()
