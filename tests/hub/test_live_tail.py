"""Live tails: what readers see, what slow ones lose, and how a tail ends."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from api_rig import Rig, running
from lake_support import NOON, SECURITY, body, intake, message

from support import PATIENCE_S
from vedette.hub import tail
from vedette.hub.api import v1
from vedette.hub.follow import Following
from vedette.hub.intake import Inbound, rows_of
from vedette.hub.lake import Lake
from vedette.hub.lake.tables import RawEvent
from vedette.hub.registry.tokens import Role
from vedette.hub.tail import Tail, TailFull
from vedette.wire.iothub import Identity


def event(device: str = "d1") -> RawEvent:
    [made] = rows_of(Inbound(Identity(device), SECURITY, body("ls"), 0.0), "m").events
    return made


async def test_a_reader_sees_what_it_asked_for():
    """By device and by name; from its start on."""
    live = Tail()
    live.publish([event()])
    with live.reader("d1", "Process") as reader, live.reader("", "Login") as other:
        live.publish([event("d1"), event("d2")])
        live.close()
        assert [[e.DeviceId for e in batch] async for batch, _ in reader.batches(1)] == [["d1"]]
        assert [batch async for batch, _ in other.batches(1)] == []


async def test_a_slow_reader_loses_the_oldest_and_is_told(monkeypatch: pytest.MonkeyPatch):
    """Nothing waits for it, and it takes no more than its share of memory."""
    monkeypatch.setattr(tail, "MAX_WAITING", 2)
    live = Tail()
    with live.reader() as reader:
        live.publish([event(f"d{number}") for number in range(5)])
        batch, lost = await anext(reader.batches(1))
    assert ([e.DeviceId for e in batch], lost) == (["d3", "d4"], 3)


async def test_silence_is_told():
    """So that the other end can be shown that the line is alive."""
    live = Tail()
    with live.reader() as reader:
        assert await anext(reader.batches(0.01)) == ([], 0)


def test_readers_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """One that has gone makes room."""
    monkeypatch.setattr(tail, "MAX_READERS", 1)
    live = Tail()
    with live.reader():
        with pytest.raises(TailFull), live.reader():
            pass
        assert live.readers == 1
    with live.reader():
        pass
    assert live.readers == 0


async def follow(rig: Rig, query: bytes) -> tuple[asyncio.Queue[bytes], asyncio.Task[None], asyncio.Event]:
    """A request for the stream: its pieces, its task, and what hangs it up."""
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    gone = asyncio.Event()
    requested = False

    async def receive() -> dict[str, object]:
        nonlocal requested
        if not requested:
            requested = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(sent: dict[str, object]) -> None:
        if sent["type"] == "http.response.body" and sent.get("body"):
            pieces.put_nowait(sent["body"])  # type: ignore[arg-type]

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"{v1.PREFIX}/events/stream",
        "root_path": "",
        "query_string": query,
        "scheme": "http",
        "server": ("hub", 80),
        "client": ("c", 1),
        "http_version": "1.1",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "headers": [(b"authorization", f"Bearer {rig.tokens[Role.ANALYST]}".encode())],
    }
    application: Callable[..., Awaitable[None]] = rig.app
    return pieces, asyncio.ensure_future(application(scope, receive, send)), gone  # type: ignore[arg-type]


async def test_events_are_streamed_as_they_become_durable(tmp_path: Path):
    """As server-sent events with the columns of the raw table; hanging up ends it."""
    async with running(tmp_path) as rig, asyncio.timeout(PATIENCE_S):
        pieces, task, gone = await follow(rig, b"device_id=d2")
        assert await pieces.get() == b": live\n\n"
        await rig.event("not for us", "d1")
        await rig.event("ls -l", "d2")
        name, data = (await pieces.get()).strip().splitlines()
        assert name == b"event: raw"
        row = json.loads(data.removeprefix(b"data: "))
        assert (row["DeviceId"], json.loads(row["EventDetails"])["Commandline"]) == ("d2", "ls -l")
        gone.set()
        await task
        assert rig.intake.tail.readers == 0


async def test_a_stopping_hub_ends_its_tails(tmp_path: Path):
    """Whoever looks on is let go at once."""
    async with running(tmp_path) as rig, asyncio.timeout(PATIENCE_S):
        pieces, task, _ = await follow(rig, b"")
        await pieces.get()
        rig.intake.tail.close()
        await task


async def test_what_another_process_stores_is_told_of(tmp_path: Path):
    """Once, as are one's own events, which stand in the lake, too; from when somebody begins to look on."""
    async with intake(tmp_path) as own, intake(tmp_path) as other:
        following = Following(tmp_path, own.tail)
        await other.submit(message("before"))
        await following.look()
        with own.tail.reader() as reader:
            await following.look()
            await other.submit(message("theirs", device="d2"))
            await own.submit(message("ours", device="d1"))
            await following.look()
            await following.look()
            own.tail.close()
            told = [e async for batch, _ in reader.batches(1) for e in batch]
    assert sorted((e.DeviceId, json.loads(e.EventDetails)["Commandline"]) for e in told) == [
        ("d1", "ours"),
        ("d2", "theirs"),
    ]
    stored = {row.IoTRawEventId: row for row in told}
    found = Lake(tmp_path).query("SELECT * FROM raw_events WHERE DeviceId = 'd2'", "sql")
    (row,) = found.rows
    theirs = stored[row[found.columns.index("IoTRawEventId")]]
    assert theirs.TimeGenerated.timestamp() == NOON
    assert set(found.columns) == set(theirs._fields)
