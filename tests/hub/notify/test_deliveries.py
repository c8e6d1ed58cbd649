"""From the outbox to messages: gathered for a window, tried again, given up, sent again by command."""

import json
import threading
import time

import pytest
from notify_support import SHELL, Rig

from vedette.hub.detect.schema import Database
from vedette.hub.notify import deliveries
from vedette.hub.notify.deliveries import CLAIM_S, MAX_ATTEMPTS, Claimed, Deliveries, pause
from vedette.hub.notify.target import NotifyError


def take(rig: Rig, now: float, limit: int = 10) -> list[Claimed]:
    rig.deliveries.pack(now)
    return list(rig.deliveries.claim(now, limit))


def test_what_a_window_brings_is_one_message(either_rig: Rig):
    """A storm over a hundred devices is one message with the counts inside."""
    either_rig.route(window=30)
    either_rig.raise_all([(SHELL, f"d{number}") for number in range(100)])
    now = time.time()
    assert take(either_rig, now + 29) == []
    [claimed] = take(either_rig, now + 31)
    assert json.loads(claimed.message.body)["count"] == 100
    assert either_rig.outbox() == []


def test_without_a_window_each_is_a_message_in_its_order(either_rig: Rig):
    """The next one is made when the one before has arrived."""
    either_rig.route(window=0)
    ids = [either_rig.alert(device=f"d{number}") for number in range(3)]
    got = []
    for _ in ids:
        [claimed] = take(either_rig, time.time())
        assert take(either_rig, time.time()) == []
        got.append(json.loads(claimed.message.body)["id"])
        either_rig.deliveries.sent(claimed, time.time())
    assert got == ids
    assert take(either_rig, time.time()) == []


def test_what_comes_while_a_message_waits_gathers(rig: Rig):
    """A receiver that was away gets two messages and no flood."""
    rig.route(window=0.0001)
    rig.alert()
    now = time.time() + 1
    [first] = take(rig, now)
    rig.deliveries.failed(first, now, "away", final=False)
    rig.raise_all([(SHELL, f"d{number}") for number in range(50)])
    [again] = take(rig, now + 10)
    assert again.message == first.message
    rig.deliveries.sent(again, now + 10)
    [second] = take(rig, now + 10)
    assert json.loads(second.message.body)["count"] == 50


def test_a_claim_is_one_worker_s_until_it_ends(either_rig: Rig):
    """Then another takes the message, with the same id; what the first says afterwards counts no more."""
    either_rig.route(window=0)
    either_rig.alert()
    now = time.time()
    [slow] = take(either_rig, now)
    assert take(either_rig, now + CLAIM_S - 1) == []
    [fast] = take(either_rig, now + CLAIM_S + 1)
    assert fast.message == slow.message
    either_rig.deliveries.failed(slow, now, "too late", final=True)
    assert [one.state for one in either_rig.deliveries.list()] == ["pending"]
    either_rig.deliveries.sent(fast, now)
    assert [one.state for one in either_rig.deliveries.list()] == ["sent"]


def test_workers_that_ask_at_the_same_time_share_the_messages(either_rig: Rig):
    """No message is taken twice, none is left."""
    for number in range(12):
        either_rig.route(f"r{number}", window=0)
    either_rig.alert()
    now, taken, start = time.time(), list[str](), threading.Barrier(4)

    def work() -> None:
        database = Database(either_rig.url)
        own = Deliveries(database)
        start.wait()
        own.pack(now)
        while some := own.claim(now, 2):
            taken.extend(claimed.message.id for claimed in some)
        database.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(taken) == len(set(taken)) == 12


def test_a_failure_is_tried_again_later_each_time_and_then_given_up(rig: Rig):
    """The reason is kept, and the message for a command to send it again."""
    rig.route(window=0)
    rig.alert()
    now = time.time()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        [claimed] = take(rig, now)
        assert claimed.attempt == attempt
        rig.deliveries.failed(claimed, now, "no answer", final=False)
        assert take(rig, now) == []
        now += deliveries.LONGEST_RETRY_S * 1.25
    [dead] = rig.deliveries.list(state="dead")
    assert (dead.attempts, dead.error) == (MAX_ATTEMPTS, "no answer")
    assert rig.deliveries.again(dead.id[:8]) == 1
    [claimed] = take(rig, now)
    assert claimed.message.id == dead.id
    with pytest.raises(NotifyError, match="no such dead message"):
        rig.deliveries.again(route="r")


def test_pauses_grow_up_to_an_hour_and_differ():
    """So that hubs and messages do not come all at once."""
    assert 3.75 <= pause(1) <= 6.25
    assert 15 <= pause(2) <= 25
    assert 2_700 <= pause(9) <= 4_500
    assert len({pause(3) for _ in range(20)}) > 10


def test_a_refusal_that_will_last_is_given_up_at_once(rig: Rig):
    """Another route goes on."""
    rig.route(window=0)
    rig.alert()
    [claimed] = take(rig, time.time())
    rig.deliveries.failed(claimed, time.time(), "status 410", final=True)
    [state] = rig.routes.list()
    assert (state.dead, state.pending, state.error) == (1, 0, "status 410")


def test_a_disabled_route_s_messages_wait(rig: Rig):
    """Until it is enabled again."""
    rig.route(window=0)
    rig.alert()
    rig.deliveries.pack(time.time())
    rig.routes.set_enabled("r", False)
    assert take(rig, time.time()) == []
    rig.routes.set_enabled("r", True)
    assert len(take(rig, time.time())) == 1


def test_finished_messages_are_forgotten_by_age_and_number(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """What is pending never is."""
    monkeypatch.setattr(deliveries, "KEPT", 2)
    rig.route(window=0)
    for number in range(5):
        rig.alert(device=f"d{number}")
        [claimed] = take(rig, time.time())
        if number < 4:
            rig.deliveries.sent(claimed, time.time())
    rig.deliveries.forget(time.time())
    assert [one.state for one in rig.deliveries.list()] == ["pending", "sent", "sent"]
    rig.deliveries.forget(time.time() + deliveries.KEPT_S + 1)
    assert [one.state for one in rig.deliveries.list()] == ["pending"]


def test_a_message_that_ends_the_hub_each_time_is_given_up(rig: Rig):
    """Nobody said what became of it."""
    rig.route(window=0)
    rig.alert()
    now = time.time()
    for _ in range(MAX_ATTEMPTS):
        assert len(take(rig, now)) == 1
        now += CLAIM_S + 1
    assert take(rig, now) == []
    [dead] = rig.deliveries.list()
    assert (dead.state, dead.error) == ("dead", deliveries.ABANDONED)
