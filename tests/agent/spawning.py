"""Real processes in exact numbers, told apart from everybody else's by a tag in their command lines."""

import asyncio
import atexit
import os
import shutil
import subprocess
import uuid
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from vedette.agent.collectors import Collected
from vedette.agent.sources import bpf
from vedette.wire.events import Event, Process

SOURCE = Path(__file__).parent.parent / "fixtures" / "spawner.c"

needs_root = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc"),
]
needs_bpf = [
    *needs_root,
    pytest.mark.bpf,
    pytest.mark.skipif(
        any(bpf.obstacles()), reason="; ".join(str(obstacle) for obstacle in bpf.obstacles()) or "eBPF works"
    ),
]


@cache
def spawner() -> str:
    """The compiled spawner, at a path that every user may execute."""
    folder = Path(mkdtemp(prefix="vedette-spawner-"))
    atexit.register(shutil.rmtree, folder)
    folder.chmod(0o755)
    program = folder / "spawner"
    subprocess.run(["gcc", "-O2", "-static", "-pthread", SOURCE, "-o", program], check=True)
    return str(program)


def new_tag() -> str:
    """A word that no other process on this machine has in its command line."""
    return f"tag-{uuid.uuid4().hex}"


async def run(*arguments: str | bytes, executable: str | None = None, cpu: int | None = None) -> None:
    """Run a program to its end while the loop goes on."""
    prefix = ("taskset", "-c", str(cpu)) if cpu is not None else ()
    process = await asyncio.create_subprocess_exec(*prefix, *arguments, executable=executable)
    assert await process.wait() == 0


async def spawn(kind: str, count: int, tag: str, *arguments: str, cpu: int | None = None) -> None:
    """Let the spawner make processes of a kind, on one CPU if wanted."""
    await run(spawner(), kind, str(count), tag, *arguments, cpu=cpu)


class Lingering:
    """Children that execute nothing and live as long as the block."""

    def __init__(self, count: int, tag: str) -> None:
        self._arguments = (spawner(), "linger", str(count), tag)

    async def __aenter__(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._arguments, stdin=pipe, stdout=pipe)
        assert self._process.stdout
        assert await self._process.stdout.readline() == b"ready\n"

    async def __aexit__(self, *_: object) -> None:
        await self._process.communicate(b"")  # ends its standard input


def of(events: list[Event], text: str) -> list[Event]:
    """The events that have a text in their command line."""
    return [e for e in events if isinstance(e.payload, Process) and text in e.payload.commandline]


def hits(events: list[Event], text: str) -> Counter[tuple[str, str]]:
    """Hits by event type and command line, of those that have a text in it."""
    found: Counter[tuple[str, str]] = Counter()
    for event in of(events, text):
        assert isinstance(event.payload, Process)
        found[event.payload.event_type, event.payload.commandline] += event.hits
    return found


def lost(collected: Collected) -> dict[str, int]:
    """Hits lost by reason."""
    return {loss.reason: loss.hits for loss in collected.losses}


def total(collected: Collected) -> int:
    """All that happened: what was counted and what was lost."""
    return sum(event.hits for event in collected.events) + sum(lost(collected).values())
