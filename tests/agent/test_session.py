"""The dialect's device side as state machines: windows, requests, versions, waits. No socket, no clock."""

import json
import logging
from collections.abc import Iterator
from math import inf
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.session import (
    ACK_S,
    ANSWER_S,
    IN_FLIGHT_BYTES,
    RETRY_S,
    Backoff,
    Desired,
    Pace,
    Publish,
    Twin,
    Window,
)
from vedette.wire.iothub import MAX_IN_FLIGHT, TWIN_DESIRED, TWIN_GET, TWIN_REPORTED, TWIN_RESPONSE, query_of

PUSH = f"{TWIN_DESIRED}?$version=0"


def body(document: Any) -> bytes:
    return msgspec.json.encode(document)


def answer(request: Publish, status: int = 200) -> str:
    """The topic of the hub's answer to a request."""
    return f"{TWIN_RESPONSE}{status}/?$rid={query_of(request.topic)['$rid']}"


def twin_body(version: int, **desired: Any) -> bytes:
    return body({"desired": desired | {"$version": version}, "reported": {"$version": 1}})


def pushed(version: int, **patch: Any) -> bytes:
    return body(patch | {"$version": version})


def fetched(version: int = 1, **desired: Any) -> Twin:
    """A connected twin that knows a document."""
    twin = Twin("s")
    twin.connected(0.0)
    [get] = twin.poll(0.0)
    assert twin.received(answer(get), twin_body(version, **desired), 0.0)
    return twin


# Window


def test_a_window_closes_at_twenty_messages():
    """Twenty unacknowledged messages are the bound; each acknowledgement makes room for one."""
    window = Window()
    for i in range(MAX_IN_FLIGHT):
        assert window.open
        window.sent(packet_id=i + 1, row=100 + i, size=10, now=0.0)
    assert not window.open
    assert window.acknowledged(5, 1.0) == 104
    assert window.open
    assert len(window) == MAX_IN_FLIGHT - 1


def test_a_window_closes_when_bodies_take_too_much_memory():
    """Large messages fill the window before twenty are reached."""
    window = Window()
    window.sent(1, 1, IN_FLIGHT_BYTES - 1, 0.0)
    assert window.open
    window.sent(2, 2, 1, 0.0)
    assert not window.open
    window.acknowledged(1, 0.0)
    assert window.open


def test_acknowledgements_match_once():
    """An id that is not in flight, or no longer, stands for no row."""
    window = Window()
    window.sent(7, 70, 10, 0.0)
    assert window.acknowledged(8, 0.0) is None
    assert window.acknowledged(7, 0.0) == 70
    assert window.acknowledged(7, 0.0) is None


def test_a_window_remembers_where_it_is():
    """`last` is the row sent last: the outbox is asked for the one after it."""
    window = Window()
    assert window.last == 0
    window.sent(1, 41, 10, 0.0)
    window.sent(2, 42, 10, 0.0)
    window.acknowledged(2, 0.0)
    assert window.last == 42


def test_a_window_stalls_when_nothing_is_acknowledged():
    """The time counts from the last progress, and only while something is in flight."""
    window = Window()
    assert window.stalled_at() == inf
    window.sent(1, 1, 10, 50.0)
    window.sent(2, 2, 10, 60.0)
    assert window.stalled_at() == 50.0 + ACK_S
    window.acknowledged(1, 70.0)
    assert window.stalled_at() == 70.0 + ACK_S
    window.acknowledged(2, 80.0)
    assert window.stalled_at() == inf


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 300_000))))
def test_a_window_holds_its_bounds(steps):
    """Whatever the order of sends and acknowledgements, an open window has room for one more."""
    window = Window()
    flight: dict[int, int] = {}
    for i, (send, size) in enumerate(steps):
        if send and window.open:
            window.sent(i, i, size, float(i))
            flight[i] = size
        elif flight:
            oldest = next(iter(flight))
            assert window.acknowledged(oldest, float(i)) == oldest
            del flight[oldest]
        assert len(window) == len(flight) <= MAX_IN_FLIGHT
        assert window.open == (len(flight) < MAX_IN_FLIGHT and sum(flight.values()) < IN_FLIGHT_BYTES)


# Twin: the desired half


def test_nothing_is_asked_before_the_connection_stands():
    """Without subscriptions answers could not arrive."""
    twin = Twin("s")
    twin.report({"a": 1})
    assert twin.poll(0.0) == []
    assert twin.deadline() == inf


def test_the_twin_is_fetched_after_connecting():
    """One GET, with an empty body, and no second one while it is open."""
    twin = Twin("s")
    twin.connected(0.0)
    assert twin.deadline() == 0.0
    [get] = twin.poll(0.0)
    assert get == Publish(f"{TWIN_GET}?$rid=s1", b"")
    twin.connected(1.0)
    assert twin.poll(1.0) == []
    assert twin.deadline() == ANSWER_S


def test_the_fetched_document_is_news_once():
    """The first document is handed on; the same one after a reconnect is not."""
    twin = Twin("s")
    for expected in (Desired({"a": 1, "$version": 4}, 4), None):
        twin.connected(0.0)
        [get] = twin.poll(0.0)
        assert twin.received(answer(get), twin_body(4, a=1), 0.0) == expected
        twin.disconnected()


def test_a_document_that_changed_meanwhile_is_news():
    """What changed while the device was away is handed on after the reconnect, as a whole."""
    twin = fetched(4, a=1, b=2)
    twin.disconnected()
    twin.connected(9.0)
    [get] = twin.poll(9.0)
    assert twin.received(answer(get), twin_body(6, a=2), 9.0) == Desired({"a": 2, "$version": 6}, 6)


def test_a_twin_that_began_anew_is_news():
    """An identity that was registered again counts its versions from one: the fetched document holds."""
    twin = fetched(40, a=1)
    twin.disconnected()
    twin.connected(9.0)
    [get] = twin.poll(9.0)
    assert twin.received(answer(get), twin_body(1), 9.0) == Desired({"$version": 1}, 1)
    assert twin.received(PUSH, pushed(2, b=1), 9.0) == Desired({"b": 1, "$version": 2}, 2)


def test_a_pushed_change_is_merged():
    """A change that follows the known version is handed on as the whole document; null deletes."""
    twin = fetched(4, a=1, b={"c": 1, "d": 2}, e=5)
    change = pushed(5, a=None, b={"c": None, "x": {"y": 1}}, e={"f": 6})
    assert twin.received(PUSH, change, 0.0) == Desired(
        {"b": {"d": 2, "x": {"y": 1}}, "e": {"f": 6}, "$version": 5}, 5
    )


@pytest.mark.parametrize("version", [1, 3, 4])
def test_stale_changes_are_ignored(version):
    """A change at or below the fetched version is already in the document."""
    twin = fetched(4, a=1)
    assert twin.received(PUSH, pushed(version, a=2), 0.0) is None
    assert twin.poll(0.0) == []
    assert twin.received(PUSH, pushed(5, b=2), 0.0) == Desired({"a": 1, "b": 2, "$version": 5}, 5)


def test_a_gap_between_changes_fetches_the_whole():
    """If a change went missing its successor is not merged: the whole document is fetched."""
    twin = fetched(4, a=1)
    assert twin.received(PUSH, pushed(6, a=3), 1.0) is None
    [get] = twin.poll(1.0)
    assert get.topic.startswith(TWIN_GET)
    assert twin.received(answer(get), twin_body(6, a=3, z=1), 1.0) == Desired(
        {"a": 3, "z": 1, "$version": 6}, 6
    )


def test_a_change_that_overtakes_the_answer_fetches_again():
    """A change pushed while the GET is open may be newer than its answer: then the twin is fetched again."""
    twin = Twin("s")
    twin.connected(0.0)
    [get] = twin.poll(0.0)
    assert twin.received(PUSH, pushed(5, a=2), 0.0) is None
    assert twin.received(answer(get), twin_body(4, a=1), 0.0) == Desired({"a": 1, "$version": 4}, 4)
    [again] = twin.poll(0.0)
    assert twin.received(answer(again), twin_body(5, a=2), 0.0) == Desired({"a": 2, "$version": 5}, 5)
    assert twin.poll(0.0) == []


def test_a_change_that_the_answer_holds_fetches_nothing():
    """The same push, but the answer is as new."""
    twin = Twin("s")
    twin.connected(0.0)
    [get] = twin.poll(0.0)
    twin.received(PUSH, pushed(4, a=2), 0.0)
    assert twin.received(answer(get), twin_body(4, a=2), 0.0)
    assert twin.poll(0.0) == []


def test_answers_match_their_request():
    """An answer to an earlier request, or to none, is ignored."""
    twin = Twin("s")
    twin.connected(0.0)
    [lost] = twin.poll(0.0)
    [get] = twin.poll(ANSWER_S)
    assert lost.topic != get.topic
    assert twin.received(answer(lost), twin_body(9, a=9), ANSWER_S) is None
    assert twin.received(f"{TWIN_RESPONSE}200/", twin_body(9, a=9), ANSWER_S) is None
    assert twin.received(answer(get), twin_body(1), ANSWER_S) == Desired({"$version": 1}, 1)


def test_request_ids_differ_between_connections():
    """A late answer on a kept session cannot be taken for that of a new request."""
    twin = Twin("s")
    topics = set()
    for _ in range(5):
        twin.connected(0.0)
        topics |= {request.topic for request in twin.poll(0.0)}
        twin.disconnected()
    assert len(topics) == 5


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (429, b'{"errorCode":429001,"message":"slow down"}'),
        (500, b""),
        (404, b"{}"),
        (200, b"not json"),
        (200, b"[1]"),
        (200, b'{"desired": []}'),
        (200, b"\xff\xfe"),
        (200, b'{"desired":' + b"[" * 100_000),
    ],
)
def test_a_failed_get_is_repeated(status, content, caplog):
    """Whatever the answer was, the twin is asked for again after a pause; the log hears of it once."""
    twin = Twin("s")
    twin.connected(0.0)
    now = 0.0
    for _ in range(3):
        [get] = twin.poll(now)
        assert twin.received(answer(get, status), content, now) is None
        assert twin.poll(now) == []
        now += RETRY_S
        assert twin.deadline() == now
    [get] = twin.poll(now)
    assert twin.received(answer(get), twin_body(1), now)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    "content", [b"", b"null", b"3", b"{}", b'{"$version":"7"}', b'{"$version":true}', b"\xff"]
)
def test_an_unreadable_change_fetches_the_whole(content):
    """A push that cannot be understood is made good by a GET; the known document stays."""
    twin = fetched(4, a=1)
    assert twin.received(PUSH, content, 0.0) is None
    assert twin.poll(0.0) == []
    [get] = twin.poll(RETRY_S)
    assert twin.received(answer(get), twin_body(4, a=1), RETRY_S) is None


@given(st.lists(st.integers(1, 12), max_size=30), st.integers(1, 6))
def test_versions_only_ever_lead_to_the_hub_state(arrivals, start):
    """Whatever pushes are lost, doubled or late, what is handed on is a state the hub had, in rising order,
    and the last fetch brings the newest."""
    states = {
        version: {"n": version, f"k{version}": version, "$version": version} for version in range(1, 14)
    }

    def patch(version: int) -> bytes:
        before, after = states[version - 1] if version > 1 else {}, states[version]
        gone = {key: None for key in before if key not in after}
        return body({**gone, **after})

    twin = Twin("s")
    twin.connected(0.0)
    newest = start
    handed: list[Desired] = []

    def serve() -> Iterator[Desired | None]:
        while requests := twin.poll(0.0):
            for request in requests:
                yield twin.received(answer(request), body({"desired": states[newest]}), 0.0)

    handed += [news for news in serve() if news]
    for version in arrivals:
        newest = max(newest, version)
        if news := twin.received(PUSH, patch(version), 0.0):
            handed.append(news)
        handed += [news for news in serve() if news]
    assert [news.document for news in handed] == [states[news.version] for news in handed]
    assert [news.version for news in handed] == sorted({news.version for news in handed})
    assert handed[-1].version == newest


@given(st.binary(max_size=200), st.text(max_size=60))
def test_nothing_that_arrives_raises(content, tail):
    """Whatever a hub sends, on whatever topic, the twin survives it."""
    logging.getLogger("vedette.agent.session").disabled = True
    twin = fetched(1)
    twin.report({"a": 1})
    twin.poll(0.0)
    for prefix in (
        TWIN_RESPONSE,
        TWIN_DESIRED,
        "",
        f"{TWIN_RESPONSE}200/?$rid=s1&x=",
        f"{TWIN_RESPONSE}204/?$rid=s2",
    ):
        twin.received(prefix + tail, content, 0.0)
    logging.getLogger("vedette.agent.session").disabled = False


# Twin: the reported half


def connected_for_reports() -> Twin:
    return fetched(1)


def test_a_report_is_a_patch_that_waits_for_its_answer():
    """Sent once; confirmed by 204; then nothing is left to do."""
    twin = connected_for_reports()
    twin.report({"a": 1, "b": None})
    assert not twin.settled
    [patch] = twin.poll(0.0)
    assert patch.topic.startswith(f"{TWIN_REPORTED}?$rid=")
    assert json.loads(patch.body) == {"a": 1, "b": None}
    assert not twin.settled
    twin.received(answer(patch, 204) + "&$version=8", b"", 0.0)
    assert twin.settled
    assert twin.poll(1e9) == []


def test_reports_wait_for_each_other():
    """While one patch is open the next ones gather, later values over earlier ones, and go as one."""
    twin = connected_for_reports()
    twin.report({"a": 1, "o": {"x": 1}})
    [first] = twin.poll(0.0)
    twin.report({"a": 2, "o": {"y": 2}})
    twin.report({"b": 3, "o": {"y": None}})
    assert twin.poll(0.0) == []
    twin.received(answer(first, 204), b"", 0.0)
    [second] = twin.poll(0.0)
    assert json.loads(second.body) == {"a": 2, "b": 3, "o": {"y": None}}


@pytest.mark.parametrize("how", ["lost connection", "no answer", "throttled", "hub fault"])
def test_an_unconfirmed_report_is_sent_again(how):
    """With what was reported since on top of it."""
    twin = connected_for_reports()
    twin.report({"a": 1, "b": 1})
    [first] = twin.poll(0.0)
    twin.report({"b": 2})
    match how:
        case "lost connection":
            twin.disconnected()
            twin.connected(5.0)
            now = 5.0
        case "no answer":
            assert twin.deadline() == ANSWER_S
            now = ANSWER_S
        case "throttled" | "hub fault":
            twin.received(answer(first, 429 if how == "throttled" else 503), b"", 0.0)
            assert not [request for request in twin.poll(0.0) if request.topic.startswith(TWIN_REPORTED)]
            assert twin.deadline() == RETRY_S
            now = RETRY_S
    [again] = [request for request in twin.poll(now) if request.topic.startswith(TWIN_REPORTED)]
    assert json.loads(again.body) == {"a": 1, "b": 2}
    twin.received(answer(first, 204), b"", now)
    assert not twin.settled
    twin.received(answer(again, 204), b"", now)
    assert twin.settled


def test_a_rejected_report_is_not_repeated(caplog):
    """What the hub will never take is said and dropped: each repetition would be metered."""
    twin = connected_for_reports()
    twin.report({"a.b": 1})
    [patch] = twin.poll(0.0)
    twin.received(answer(patch, 400), b'{"errorCode":400004,"message":"a.b: key"}', 0.0)
    assert twin.settled
    assert twin.poll(1e9) == []
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert "a.b: key" in record.message


# Backoff


def test_waits_double_up_to_a_ceiling():
    """The limit of the drawn wait doubles with each failure in a row."""
    backoff = Backoff(Pace(first=4, ceiling=30), lambda: 1.0)
    assert [backoff.after(lasted=0) for _ in range(5)] == [4, 8, 16, 30, 30]


def test_waits_are_spread_from_zero():
    """Full jitter: each wait is a random share of its limit."""
    draws = iter([0.0, 0.25, 0.999])
    backoff = Backoff(Pace(first=4, ceiling=1000), lambda: next(draws))
    assert [backoff.after(lasted=0) for _ in range(3)] == [0.0, 2.0, 0.999 * 16]


def test_refused_credentials_wait_longer():
    """Nobody repairs a key within seconds."""
    backoff = Backoff(Pace(), lambda: 1.0)
    assert backoff.after(lasted=0, refused=True) == 30
    waits = [backoff.after(lasted=0, refused=True) for _ in range(100)]
    assert waits[0] == 60
    assert waits[-1] == 1800


def test_only_a_lasting_connection_counts_as_a_success():
    """A connection that is cut at once continues the row of failures; a lasting one ends it."""
    backoff = Backoff(Pace(first=4, ceiling=300, stable=60), lambda: 1.0)
    assert [backoff.after(lasted=lasted) for lasted in (59, 1, 59.9, 60, 0, 1e6)] == [4, 8, 16, 4, 8, 4]


def test_the_waits_stay_finite():
    """After years of failures the exponent has not overflowed."""
    backoff = Backoff(Pace(), lambda: 1.0)
    assert max(backoff.after(lasted=0) for _ in range(5000)) == 300
