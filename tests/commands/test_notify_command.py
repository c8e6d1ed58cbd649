"""`vedette notify` and `vedette export`, as they are typed."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from vedette.cli import main
from vedette.hub.detect.schema import Database
from vedette.hub.intake import Inbound, Intake
from vedette.hub.notify.routes import Routes
from vedette.hub.registry.shelf import Group, Shelf
from vedette.hub.settings import HubSettings, HubState
from vedette.wire.events import Event, Process
from vedette.wire.iothub import Identity
from vedette.wire.message import INTERFACE_ID, MTI, Window, pack


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubState:
    monkeypatch.setenv("VEDETTE_STATE", str(tmp_path))
    made = HubState(tmp_path)
    made.save(HubSettings(host_names=("hub.example",)))
    return made


def run(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert main(words) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


def test_a_route_is_added_listed_and_removed(state: HubState, capsys, tmp_path: Path):
    """The signing secret is printed once; the URL's path never."""
    made = run(capsys, "notify", "add", "chat", "https://hooks.example.net/T0/hunter2", "--severity", "High")
    assert "signing secret: whsec_" in made
    listed = run(capsys, "notify", "list")
    assert "https://hooks.example.net:443/…" in listed
    assert "alerts, from High" in listed
    assert "hunter2" not in made + listed
    run(capsys, "notify", "disable", "chat")
    assert "chat (disabled)" in run(capsys, "notify", "list")
    run(capsys, "notify", "remove", "chat")
    assert json.loads(run(capsys, "notify", "list", "--json")) == []


def test_a_route_is_changed_where_it_is_named(state: HubState, capsys):
    """The rest stays as it is, the signing secret too; a saved group says which devices."""
    database = Database(state.registry_url)
    shelf = Shelf(database.read, database.write)
    shelf.keep_group(Group("north", "tags.site = 'north'"))
    run(capsys, "notify", "add", "chat", "https://hooks.example.net/T0", "--type", "IoT_USB*", "--changes")
    secret = Routes(database.read, database.write).get("chat").secret
    words = run(capsys, "notify", "change", "chat", "--severity", "High", "--group", "north")
    assert "alerts, from High, IoT_USB*, tags.site = 'north', changes" in words
    words = run(
        capsys, "notify", "change", "chat", "--no-changes", "--where", "", "--url", "https://b.example/"
    )
    assert "https://b.example:443/" in words
    assert "alerts, from High, IoT_USB*)" in words
    assert Routes(database.read, database.write).get("chat").secret == secret
    for wrong, reason in (
        ("--group=south", "no group south"),
        ("--url=mqtts://b/t", "another kind of route"),
    ):
        assert reason in run(capsys, "notify", "change", "chat", wrong, status=1)
    database.close()


def test_a_secret_comes_from_a_file(state: HubState, capsys, tmp_path: Path):
    """And is not printed."""
    password = tmp_path / "password"
    password.write_text("hunter2\n")
    url = "smtps://hub@mail.example.net?from=a@x.y&to=b@x.y"
    made = run(capsys, "notify", "add", "duty", url, "--secret-file", str(password), "--json")
    assert "hunter2" not in made
    assert "signing_secret" not in json.loads(made)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("add", "r", "gopher://x"), "url: gopher scheme is none of"),
        (("add", "r", "https://x/", "--window", "-1"), "window:"),
        (("add", "r", "https://x/", "--ca", "/nowhere"), "/nowhere: No such file"),
        (("test", "r"), "r: no such route"),
        (("redeliver", "abc"), "abc: no such dead message"),
    ],
)
def test_what_cannot_be_says_why(state: HubState, capsys, words: tuple[str, ...], reason: str):
    """For the person at the terminal."""
    assert f"vedette: {reason}" in run(capsys, "notify", *words, status=1)


def test_trying_a_route_tells_why_nothing_arrives(state: HubState, capsys):
    """With the address that was refused."""
    run(capsys, "notify", "add", "r", "https://127.0.0.1:9/x")
    assert "127.0.0.1 is no public address" in run(capsys, "notify", "test", "r", status=1)


@pytest.fixture
def events(state: HubState) -> None:
    async def fill() -> None:
        intake = Intake(state.lake)
        await intake.start()
        for number, device in enumerate(("d1", "d2")):
            payload = Process(
                event_type="EXEC", process_id=7, parent_process_id=1, commandline=f"ls {device}", user_id=0
            )
            now = time.time()
            [packed] = pack([([Event(payload, now, 4)], Window(now - 60, now + 5))])
            properties = {"$.ifid": INTERFACE_ID, "mti": MTI, "$.mid": str(number)}
            await intake.submit(Inbound(Identity(device, "agent"), properties, packed.body, now))
        await intake.close()

    asyncio.run(fill())


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 2),
        (("--device", "d2"), 1),
        (("--since", "1h", "--event", "Process", "--event", "DNS"), 2),
        (("--event", "Login"), 0),
        (("--query", "SecurityIoTRawEvent | where DeviceId == 'd1'"), 1),
    ],
)
def test_events_are_exported_as_ocsf(events: None, capsys, words: tuple[str, ...], count: int):
    """Newline-delimited, chosen by device, name, time or query; the hit count is the standard's."""
    lines = run(capsys, "export", *words).splitlines()
    documents = [json.loads(line) for line in lines]
    assert len(documents) == count
    assert {(d["class_uid"], d["count"]) for d in documents} <= {(1007, 4)}


def test_an_export_goes_to_a_file_that_is_whole_or_not_there(events: None, capsys, tmp_path: Path):
    """ECS, with the window's end where the rows have it."""
    file = tmp_path / "events.ndjson"
    run(capsys, "export", "--form", "ecs", "--device", "d1", "-o", str(file))
    [document] = map(json.loads, file.read_text().splitlines())
    assert document["process"]["command_line"] == "ls d1"
    assert document["event"]["end"] > document["event"]["start"]
    file.unlink()
    query = "SecurityIoTRawEvent | summarize count() by DeviceId"
    refusal = run(capsys, "export", "--query", query, "-o", str(file), status=1)
    assert "ocsf: whole events are needed, as of SecurityIoTRawEvent; the rows lack AgentVersion" in refusal
    assert list(tmp_path.glob("events*")) == []


def test_rows_that_only_look_like_events_are_refused(events: None, capsys):
    """With the column that is wrong."""
    query = "SecurityIoTRawEvent | extend EventDetails = 'no object'"
    assert "ocsf: EventDetails: " in run(capsys, "export", "--query", query, status=1)
