"""kill -9 in the middle of load: nothing acknowledged is missing, nothing is there twice."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lake_support import message, stored

import object_store
from vedette.hub.intake import Intake
from vedette.hub.lake import Maintenance, maintain
from vedette.hub.lake.objects import Bucket
from vedette.hub.lake.storage import Directory, Storage, locate

MESSAGES = 300
ROUNDS = 3


async def ingest(lake: Storage, mids: list[str]) -> None:
    """The hub that is killed: takes messages as fast as it can, writes a line for each acknowledged one."""
    maintain.FAN_IN = 3  # merge all the time: the kill should meet every kind of commit
    hub = Intake(lake)
    upkeep = Maintenance(lake, retention_days=90, period=0.01)
    await hub.start()
    await upkeep.start()

    async def send(mid: str) -> None:
        await hub.submit(message("ls", "id", mid=mid, received=time.time()))
        print(mid, flush=True)

    waiting = iter(mids)

    async def sender() -> None:
        for mid in waiting:
            await send(mid)

    await asyncio.gather(*(sender() for _ in range(20)))
    await upkeep.close()
    await hub.close()


def acknowledged(lake: Storage, mids: list[str], kill_after: int | None) -> set[str]:
    """Run a hub with these messages, kill it after some acknowledgements, and return all that it gave."""
    given = json.dumps(lake.given) if isinstance(lake, Bucket) else "{}"
    command = [sys.executable, __file__, lake.uri, given, str(lake.scratch)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as hub:
        assert hub.stdin is not None
        assert hub.stdout is not None
        hub.stdin.write("\n".join(mids))
        hub.stdin.close()
        lines = []
        for line in hub.stdout:
            lines.append(line)
            if len(lines) == kill_after:
                hub.kill()
        status = hub.wait()
    assert status == (0 if kill_after is None else -9)
    # A line that the kill cut short is no acknowledgement.
    return {line.removesuffix("\n") for line in lines if line.endswith("\n")}


@pytest.mark.parametrize("repeat_all", [False, True], ids=["unacknowledged again", "everything again"])
def test_a_killed_hub_loses_and_doubles_nothing(tmp_path: Path, repeat_all: bool):
    """Killed in several places under load, restarted, sent the rest again: each event is there once."""
    kill_and_repeat(Directory(tmp_path / "lake"), repeat_all)


@pytest.mark.slow
def test_a_killed_hub_loses_and_doubles_nothing_in_an_object_store(tmp_path: Path):
    """The same, with commits and merges that take longer and more steps."""
    try:
        with object_store.s3() as server:
            kill_and_repeat(locate(server.url, server.options, tmp_path), repeat_all=True)
    except object_store.CannotInstall as error:
        pytest.skip(str(error))


def kill_and_repeat(lake: Storage, repeat_all: bool) -> None:
    every = [f"m{number}" for number in range(MESSAGES)]
    done: set[str] = set()
    for round_ in range(ROUNDS):
        mids = every if repeat_all else [mid for mid in every if mid not in done]
        done |= acknowledged(lake, mids, kill_after=17 + 23 * round_)
        held = stored(lake)
        assert all(held[f"{mid}/{index}"] == 1 for mid in done for index in (0, 1)), "an acknowledged one"
        assert set(held.values()) == {1}, "one is there twice"
    done |= acknowledged(lake, every if repeat_all else [mid for mid in every if mid not in done], None)
    assert done == set(every)
    assert stored(lake) == {f"{mid}/{index}": 1 for mid in every for index in (0, 1)}


if __name__ == "__main__":
    url, options, scratch = sys.argv[1:]
    asyncio.run(ingest(locate(url, json.loads(options), Path(scratch)), sys.stdin.read().split()))
