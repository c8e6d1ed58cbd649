"""How long twin queries take on a fleet: counting, grouping, a page of a filter, the last page of all.

    python benchmarks/twins.py [DEVICES] [REGISTRY_URL]

Fills a registry (default: a SQLite file that is removed afterwards) with devices, each with tags and the
reported configuration of an agent, asks each question three times and prints the quickest answer.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from sqlalchemy import insert

from vedette.hub.api.search import search
from vedette.hub.registry import Registry
from vedette.hub.registry.profiles import ProfileRow
from vedette.hub.registry.query import parse
from vedette.hub.registry.rows import new_etag, new_key
from vedette.hub.registry.schema import IdentityRow, TwinRow
from vedette.wire.twin import Settings

BATCH = 10_000
QUESTIONS = (
    "SELECT COUNT() AS n FROM devices",
    "SELECT COUNT() AS n FROM devices WHERE tags.site = 'north' AND tags.floor > 3",
    "SELECT tags.site, COUNT() AS n FROM devices GROUP BY tags.site",
    "SELECT * FROM devices WHERE tags.site = 'north'",
    "SELECT deviceId FROM devices WHERE tags.serial = {last}",
    "SELECT deviceId FROM devices WHERE properties.reported.Baseline_Disabled = true",
    "SELECT * FROM devices WHERE deviceId = '{name}'",
)


def fill(registry: Registry, devices: int) -> None:
    """Register devices, in large transactions and with one key for all: keys are not what is measured."""
    key, reported = new_key(), msgspec.json.encode(Settings().document()).decode()
    for begin in range(0, devices, BATCH):
        numbers = range(begin, min(begin + BATCH, devices))
        names = [{"device_id": f"device-{number:06}", "module_id": ""} for number in numbers]
        record = {"primary_key": key, "secondary_key": key, "enabled": True, "created": time.time()}
        with registry._write.begin() as session:
            rows = [name | record | {"etag": new_etag()} for name in names]
            session.execute(insert(IdentityRow), rows)
            session.execute(insert(TwinRow), [name | {"reported": reported} for name in names])
            tags = [
                {"site": ("north", "south", "east")[number % 3], "floor": number % 7, "serial": number}
                for number in numbers
            ]
            profiles = zip(names, tags, strict=True)
            session.execute(
                insert(ProfileRow),
                [name | {"tags": msgspec.json.encode(tag).decode()} for name, tag in profiles],
            )


def quickest(work: Callable[[], object], times: int = 3) -> float:
    """Milliseconds of the quickest of some runs."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return min(spent) * 1_000


def main() -> None:
    """Fill, ask, print."""
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as directory:
        url = sys.argv[2] if len(sys.argv) > 2 else f"sqlite:///{directory}/registry.db"
        registry = Registry(url, Path(directory) / "registry.key")
        fill(registry, devices)
        print(f"{devices} devices")
        for question in QUESTIONS:
            text = question.format(last=devices - 1, name=f"device-{devices // 2:06}")
            query = parse(text)
            print(f"{quickest(lambda query=query: search(registry.fleet, query, 100)):9.1f} ms  {text}")
        registry.close()


if __name__ == "__main__":
    main()
