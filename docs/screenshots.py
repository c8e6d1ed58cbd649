"""Take the pictures of the console that README and docs show, from this machine's own hub and agent.

`make screenshots`; needs Debian's chromium, takes three minutes. The pictures go to docs/images.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from console_rig import SHELL, Site, Visitor, chromium, until  # noqa: E402
from vedette.hub.registry.users import Role  # noqa: E402

IMAGES = Path(__file__).parent / "images"

SCAN_S = 900.0
"""Until the first scan of the baseline must have come: half a minute with HASTE, more where others use the
machine."""

HASTE = ("Baseline_CpuShare=100", "Agent_MaxCpuPercent=0", "Process_CacheSize=4000")
"""Settings that let the scan take a whole core, for somebody waits for it here, and keep all that a machine
runs that is busy otherwise."""

SIZE = {"width": 1280, "height": 800}

MAX_BYTES = 200_000
"""Of a picture: they are part of the repository."""

PICTURES = {
    "overview": ("/?window=1h", "light"),
    "device": ("/device/{device}", "light"),
    "twin": ("/twin/{device}", "light"),
    "rule": ("/rules?q=reverse", "dark"),
    "hub": ("/hub", "light"),
    "investigate": (
        "/investigate?q=SecurityIoTRawEvent%0A%7C%20where%20TimeGenerated%20%3E%20ago(1h)%0A%7C%20summarize"
        "%20Hits%3Dsum(HitCount)%20by%20bin(TimeGenerated%2C%201m)%2C%20RawEventName%0A%7C%20render%20timechart",
        "light",
    ),
}
"""Picture → page and colour scheme."""


def main() -> None:
    """Take them all."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory) / "state")
        try:
            _take(site)
        finally:
            site.stop()


def _scanned(site: Site) -> bool:
    return "CIS" in site.run("query", "Baseline | take 1 | project BaselineCheckId")


def _take(site: Site) -> None:
    site.add_user("ana", Role.ADMIN)
    site.run("twin", "set", site.device, *HASTE)
    for _ in range(200):  # something to count
        subprocess.run(["/bin/true", "--scheduled"], check=True)
    for harmless in (SHELL, "exit 0; history -c"):  # and something to be alarmed at
        site.shell(harmless)
    print("waiting for the scan of the baseline", flush=True)
    until(lambda: _scanned(site), "the scan", SCAN_S)
    with chromium() as browser:
        for name, (path, scheme) in PICTURES.items():
            visitor = Visitor(browser, site, color_scheme=scheme, viewport=SIZE)
            visitor.sign_in("ana")
            visitor.page.wait_for_selector("div.page")
            page = visitor.open(path.format(device=site.device))
            if name == "rule":
                page.get_by_role("link", name="Reverse shell").click()
                page.wait_for_selector(".example")
            if name == "investigate":
                page.wait_for_selector("canvas")
            page.wait_for_timeout(1500)  # fonts and charts
            picture = IMAGES / f"{name}.png"
            page.screenshot(path=picture)
            visitor.context.close()
            print(f"{picture.name}: {picture.stat().st_size // 1000} kB", flush=True)
            assert picture.stat().st_size < MAX_BYTES, f"{picture}: larger than {MAX_BYTES} bytes"


if __name__ == "__main__":
    main()
