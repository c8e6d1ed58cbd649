"""How long the console's pages take over a large fleet, and how large they are: no list is ever loaded whole.

    python benchmarks/console.py [DEVICES]

Fills the registry of a hub of its own with devices (each with a module and tags), starts the hub, signs in
and asks for pages over HTTPS on loopback: once to warm up, then five times. A page is there when its whole
document has come; what it shows is in it. The hub runs as a gateway: detection has a process of its own in
a fleet of this size.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert

from vedette.hub.detect.schema import Database
from vedette.hub.registry import Registry
from vedette.hub.registry.profiles import ProfileRow
from vedette.hub.registry.rows import new_etag, new_key
from vedette.hub.registry.schema import IdentityRow, TwinRow
from vedette.hub.registry.users import Role, Users
from vedette.hub.settings import HubState

BATCH = 10_000
SITES = ("north", "south", "east")
TIMES = 5
PAGES = (
    "/",
    "/devices",
    "/devices?page={last}",
    "/devices?state=never&order=created&down=1",
    "/devices?q=99",
    "/devices?where=tags.site='north'",
    "/devices?where=tags.serial=77777",
    "/device/device-000042",
    "/twin/device-000042",
    "/alerts",
    "/recommendations",
    "/rules",
    "/investigate",
)


def fill(registry: Registry, devices: int) -> None:
    """Register devices, each with its agent as a module and with tags, in large transactions."""
    for begin in range(0, devices, BATCH):
        numbers = range(begin, min(begin + BATCH, devices))
        names = [f"device-{number:06}" for number in numbers]
        rows = [_identity(name, module) for name in names for module in ("", "agent")]
        with registry._write.begin() as session:
            session.execute(insert(IdentityRow), rows)
            session.execute(
                insert(TwinRow), [{key: row[key] for key in ("device_id", "module_id")} for row in rows]
            )
            tags = [f'{{"site":"{SITES[number % 3]}","serial":{number}}}' for number in numbers]
            profiles = zip(names, tags, strict=True)
            session.execute(
                insert(ProfileRow),
                [{"device_id": name, "module_id": "", "tags": tag} for name, tag in profiles],
            )


def _identity(device_id: str, module_id: str) -> dict[str, Any]:
    return {
        "device_id": device_id,
        "module_id": module_id,
        "primary_key": new_key(),
        "secondary_key": new_key(),
        "enabled": True,
        "etag": new_etag(),
        "created": time.time(),
    }


def prepare(state: HubState, devices: int) -> str:
    """Fill the registry; the password of a user in it."""
    registry = Registry(state.registry_url)
    began = time.perf_counter()
    fill(registry, devices)
    registry.close()
    print(f"{devices} devices, each with a module: filled in {time.perf_counter() - began:.0f} s")
    database = Database(state.registry_url)
    users = Users(database.read, database.write)
    password = users.add("bench", Role.ADMIN) + "-bench"
    users.set_password("bench", password)
    database.close()
    return password


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ask(client: httpx.Client, path: str) -> tuple[float, int]:
    """Milliseconds until a page is there, and its size in bytes."""
    began = time.perf_counter()
    answer = client.get(path)
    answer.raise_for_status()
    return (time.perf_counter() - began) * 1_000, len(answer.content)


def measure(base: str, password: str, devices: int) -> None:
    """Sign in, ask, print."""
    with httpx.Client(base_url=base, verify=False, timeout=120) as client:
        answer = client.post("/console/sign-in", data={"name": "bench", "password": password})
        assert answer.status_code == httpx.codes.SEE_OTHER, answer.text
        print(f"{'first':>9}  {'median':>9}  {'size':>8}  page")
        for page in PAGES:
            path = "/console" + page.format(last=-(-devices // 50))
            first, size = ask(client, path)
            median = statistics.median(ask(client, path)[0] for _ in range(TIMES))
            print(f"{first:6.0f} ms  {median:6.0f} ms  {size / 1000:5.0f} kB  {page}")


def main() -> None:
    """Run it all in a directory that is removed afterwards."""
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    vedette = [sys.executable, "-m", "vedette.cli", "hub"]
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "hub"
        https = free_port()
        ports = ["--mqtt-port", str(free_port()), "--https-port", str(https)]
        subprocess.run([*vedette, "init", "--state", str(root), *ports], check=True, capture_output=True)
        password = prepare(HubState(root), devices)
        with (Path(directory) / "log").open("w") as log:
            hub = subprocess.Popen(
                [*vedette, "run", "--role", "gateway", "--state", str(root)], stdout=log, stderr=log
            )
        try:
            base = f"https://localhost:{https}"
            while True:
                try:
                    httpx.get(f"{base}/healthz", verify=False)
                    break
                except httpx.TransportError:
                    assert hub.poll() is None, (Path(directory) / "log").read_text()
                    time.sleep(0.2)
            measure(base, password, devices)
        finally:
            hub.terminate()
            hub.wait()


if __name__ == "__main__":
    main()
