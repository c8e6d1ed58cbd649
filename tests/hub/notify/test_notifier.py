"""The whole way while a hub runs: alert, outbox, message, receiver; and what a kill -9 in between does."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from notify_support import SHELL, USB, Receiver, Rig, authority, receiving

from support import free_port
from vedette.hub.api import metrics
from vedette.hub.detect.schema import Database
from vedette.hub.notify import deliveries
from vedette.hub.notify.deliveries import Deliveries
from vedette.hub.notify.notifier import Notifier
from vedette.hub.notify.routes import Route
from vedette.hub.tls import Pki

PERIOD_S = 0.02


@pytest.fixture
async def receiver(pki: Pki) -> AsyncIterator[Receiver]:
    async with receiving(pki) as opened:
        yield opened


def told(rig: Rig, receiver: Receiver, pki: Pki, name: str = "r", **options: object) -> Route:
    return rig.route(name, receiver.url, allow_private=True, authority=authority(pki), **options)


@asynccontextmanager
async def notifying(rig: Rig) -> AsyncIterator[Notifier]:
    notifier = Notifier(lambda: Database(rig.url), period=PERIOD_S)
    await notifier.start()
    try:
        yield notifier
    finally:
        await notifier.close()


async def until_quiet(rig: Rig) -> None:
    """Until nothing waits and nothing is pending."""
    while any(state.waiting or state.pending for state in rig.routes.list()):
        await asyncio.sleep(PERIOD_S)


async def test_exactly_the_alerts_that_were_asked_for_arrive_once(rig: Rig, receiver: Receiver, pki: Pki):
    """In their order, by each route its own."""
    told(rig, receiver, pki, "all", window=0)
    told(rig, receiver, pki, "usb", window=0, types=("IoT_USB*",))
    kinds = [(SHELL, f"d{number}") for number in range(5)] + [(USB, "d9")]
    raised = rig.raise_all(kinds)
    async with notifying(rig):
        await until_quiet(rig)
    got = [json.loads(request.body)["id"] for request in receiver.requests]
    assert sorted(got) == sorted([*raised, raised[-1]])
    assert [one for one in got if one != raised[-1]] == raised[:-1]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 7
    assert {one.state for one in rig.deliveries.list()} == {"sent"}


async def test_a_storm_is_one_message(rig: Rig, receiver: Receiver, pki: Pki):
    """What one batch raises, with the counts inside."""
    told(rig, receiver, pki, window=0.2)
    rig.raise_all([(SHELL, f"d{number}") for number in range(300)])
    async with notifying(rig):
        await until_quiet(rig)
    [request] = receiver.requests
    assert json.loads(request.body)["count"] == 300


async def test_a_message_is_tried_again_with_the_same_id(
    rig: Rig, receiver: Receiver, pki: Pki, monkeypatch: pytest.MonkeyPatch
):
    """Until the receiver takes it."""
    monkeypatch.setattr(deliveries, "RETRY_S", 0.01)
    told(rig, receiver, pki, window=0)
    receiver.answer = lambda _: "503 Busy" if len(receiver.requests) < 3 else "204 No Content"
    rig.alert()
    async with notifying(rig):
        await until_quiet(rig)
    assert len(receiver.requests) == 3
    assert len({(request.headers["webhook-id"], request.body) for request in receiver.requests}) == 1
    [sent] = rig.deliveries.list()
    assert (sent.state, sent.attempts, sent.error) == ("sent", 3, "")


async def test_an_outbox_that_cannot_be_asked_is_asked_again(
    rig: Rig,
    receiver: Receiver,
    pki: Pki,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """It is said once that it fails, and once that it works again."""
    caplog.set_level("INFO")
    told(rig, receiver, pki, window=0)
    rig.alert()
    pack, failures = Deliveries.pack, iter(range(3))

    def sometimes(self: Deliveries, now: float) -> int:
        if next(failures, None) is not None:
            raise OSError("the disk is full")
        return pack(self, now)

    monkeypatch.setattr(Deliveries, "pack", sometimes)
    async with notifying(rig):
        await until_quiet(rig)
    said = [record.message for record in caplog.records if "outbox" in record.message]
    assert said == [
        "notifications: the outbox fails: the disk is full",
        "notifications: the outbox works again",
    ]


async def test_metrics_tell_what_arrived_and_what_did_not(rig: Rig, receiver: Receiver, pki: Pki):
    """And how many routes fail."""
    told(rig, receiver, pki, "good", window=0)
    told(rig, receiver, pki, "bad", window=0, types=(USB,))
    receiver.answer = lambda request: "410 Gone" if USB in request.body else "200 OK"
    rig.alert(SHELL)
    async with notifying(rig) as notifier:
        await until_quiet(rig)
        rig.routes.set_enabled("good", False)
        rig.alert(USB)
        await until_quiet(rig)
        app = FastAPI()
        app.include_router(metrics.router(None, None, notifier=notifier))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
            text = (await client.get("/metrics")).text
    for line in ("notify_sent_total 1", "notify_failures_total 1", "notify_failing 1"):
        assert f"vedette_hub_{line}\n" in text


async def test_a_refused_message_is_dead_until_somebody_sends_it_again(
    rig: Rig, receiver: Receiver, pki: Pki
):
    """By command, while the hub runs."""
    told(rig, receiver, pki, window=0)
    receiver.answer = lambda _: "410 Gone"
    rig.alert()
    async with notifying(rig):
        await until_quiet(rig)
        [dead] = rig.deliveries.list()
        assert (dead.state, dead.error) == ("dead", "status 410")
        receiver.answer = lambda _: "200 OK"
        rig.deliveries.again(dead.id)
        await until_quiet(rig)
    assert [one.state for one in rig.deliveries.list()] == ["sent"]


async def test_a_receiver_that_does_not_answer_holds_up_no_other(rig: Rig, receiver: Receiver, pki: Pki):
    """Messages of several routes are on their way at a time."""
    told(rig, receiver, pki, "slow", window=0)
    told(rig, receiver, pki, "quick", window=0, types=(USB,))
    receiver.answer = lambda request: "" if SHELL in request.body else "200 OK"
    rig.alert(SHELL)
    async with notifying(rig):
        await receiver.came.get()
        rig.alert(USB)
        while USB not in (await receiver.came.get()).body:
            pass
        while not any(one.route == "quick" and one.state == "sent" for one in rig.deliveries.list()):
            await asyncio.sleep(PERIOD_S)
        rig.routes.remove("slow")
        receiver.release.set()


async def test_a_mistake_in_one_message_takes_no_other_along(
    rig: Rig, receiver: Receiver, pki: Pki, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """It is logged with where it happened, and the message is dead."""
    told(rig, receiver, pki, window=0)
    rig.route("broken", "syslog+udp://127.0.0.1:9", window=0)
    monkeypatch.setattr("vedette.hub.notify.syslog.line", lambda *_: 1 / 0)
    rig.alert()
    async with notifying(rig):
        await until_quiet(rig)
    assert {(one.route, one.state, one.error) for one in rig.deliveries.list()} == {
        ("r", "sent", ""),
        ("broken", "dead", "ZeroDivisionError"),
    }
    assert "notifications: route broken: division by zero" in caplog.text


async def test_two_hubs_share_the_messages(rig: Rig, receiver: Receiver, pki: Pki):
    """Each arrives once."""
    for number in range(6):
        told(rig, receiver, pki, f"r{number}", window=0)
    rig.raise_all([(SHELL, f"d{number}") for number in range(5)])
    async with notifying(rig), notifying(rig):
        await until_quiet(rig)
    ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert len(ids) == len(set(ids)) == 30


HUB = """
import asyncio, sys
from vedette.hub.detect.schema import Database
from vedette.hub.notify import deliveries
from vedette.hub.notify.notifier import Notifier

async def run():
    deliveries.CLAIM_S = 0.5
    notifier = Notifier(lambda: Database(sys.argv[1]), period=0.02)
    await notifier.start()
    await asyncio.Event().wait()

asyncio.run(run())
"""


def start(rig: Rig) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", HUB, rig.url])


@pytest.mark.slow
async def test_a_hub_that_is_killed_after_it_has_sent_sends_again_under_the_same_id(
    rig: Rig, receiver: Receiver, pki: Pki
):
    """kill -9 between the message and the mark: at least once, and a receiver can tell."""
    told(rig, receiver, pki, window=0)
    receiver.answer = lambda _: ""  # so that the hub has sent and does not yet know
    rig.alert()
    first = start(rig)
    try:
        before = await receiver.came.get()
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert [one.state for one in rig.deliveries.list()] == ["pending"]
    receiver.answer = lambda _: "204 No Content"
    second = start(rig)
    try:
        after = await receiver.came.get()
        await until_quiet(rig)
    finally:
        second.send_signal(signal.SIGKILL)
        second.wait()
    assert after.headers["webhook-id"] == before.headers["webhook-id"]
    assert after.body == before.body
    [sent] = rig.deliveries.list()
    assert (sent.state, sent.attempts) == ("sent", 2)


RAISE = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from notify_support import SHELL, Rig
from sqlalchemy import event

rig = Rig(sys.argv[1])
event.listen(rig.database.engine, os.environ["WHEN"], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
rig.alert(SHELL)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("when", "expected"), [("commit", 0), ("checkin", 1)])
def test_a_kill_leaves_the_alert_and_the_word_of_it_or_neither(rig: Rig, when: str, expected: int):
    """kill -9 before the commit, and right behind it."""
    rig.route(window=0)
    places = [str(Path(__file__).parent), *map(str, Path(__file__).parents[:3])]
    killed = subprocess.run(
        [sys.executable, "-c", RAISE, rig.url, *places], env={"WHEN": when, "PATH": ""}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(rig.alerts.list()) == len(rig.outbox()) == expected


@pytest.mark.slow
async def test_a_running_hub_tells_of_what_is_raised(receiver: Receiver, pki: Pki, tmp_path: Path):
    """The command line makes hub and route; the alert comes from another process, as from a worker."""
    state = ["--state", str(tmp_path / "state")]
    vedette = [sys.executable, "-m", "vedette.cli"]
    ports = ["--mqtt-port", str(free_port()), "--https-port", str(free_port())]
    subprocess.run([*vedette, "hub", "init", "--host", "localhost", *state], check=True)
    route = ["chat", receiver.url, "--ca", pki.ca, "--allow-private", "--window", "0"]
    subprocess.run([*vedette, "notify", "add", *route, *state], check=True)
    hub = subprocess.Popen([*vedette, "hub", "run", *ports, *state])
    try:
        rig = Rig(f"sqlite:///{tmp_path / 'state' / 'registry.db'}")
        raised = rig.alert()
        request = await receiver.came.get()
        await until_quiet(rig)
        rig.close()
    finally:
        hub.terminate()
        assert hub.wait() == 0
    assert json.loads(request.body)["id"] == raised
