"""The outbox: exactly the findings that a route asked for, in the transaction that made them."""

import time

import pytest
from notify_support import HISTORY, SHELL, USB, USER_ADDED, Rig

from vedette.hub.detect.alerts import Status
from vedette.hub.detect.schema import AlertRow, RecommendationRow
from vedette.hub.notify import outbox
from vedette.hub.notify.schema import NotifyRouteRow
from vedette.hub.posture import ACTIVE, RESOLVED
from vedette.hub.registry import Registry
from vedette.hub.registry.fleet import TwinChange
from vedette.hub.registry.profiles import Draft
from vedette.wire.iothub import Identity


def advise(rig: Rig, state: str = ACTIVE) -> None:
    """Give a device a recommendation, or a new state to the one it has."""
    now = time.time()
    texts = dict.fromkeys(("title", "description", "remediation", "module_id"), "x")
    times = dict.fromkeys(("first", "discovered", "changed", "evaluated", "updated"), now)
    with rig.database.write.begin() as session:
        row = session.get(RecommendationRow, ("IoT_OpenPorts", "d1"))
        if row:
            row.state = state
        else:
            session.add(
                RecommendationRow(
                    name="IoT_OpenPorts",
                    device_id="d1",
                    severity="Medium",
                    state=state,
                    resolved=None,
                    data="{}",
                    **texts,
                    **times,
                )
            )


def test_an_alert_is_put_down_for_each_route_that_wants_it(either_rig: Rig):
    """By least severity, by type, by rule, by kind."""
    either_rig.route("all")
    either_rig.route("grave", severity="High")
    either_rig.route("usb", types=("IoT_USB*",))
    either_rig.route("advice", about="recommendations")
    for kind in (SHELL, USB, USER_ADDED, HISTORY):
        either_rig.alert(kind)
    told: dict[str, list[str]] = {}
    for route, kind, change in either_rig.outbox():
        assert change == outbox.RAISED
        told.setdefault(route, []).append(kind)
    assert told == {"all": [SHELL, USB, USER_ADDED, HISTORY], "grave": [SHELL, USB], "usb": [USB]}


def test_a_route_for_a_group_is_told_of_its_devices_only(either_rig: Rig):
    """The condition is one on tags, as they are when the alert is raised."""
    registry = Registry(either_rig.url)
    registry.fleet.create(Draft(Identity("north-1"), None), TwinChange(tags={"site": "north"}))
    registry.fleet.create(Draft(Identity("south-1"), None), TwinChange(tags={"site": "south"}))
    registry.close()
    either_rig.route("north", where="tags.site = 'north'")
    either_rig.route("named", where="STARTS_WITH(deviceId, 'south')")
    for device in ("north-1", "south-1", "unknown"):
        either_rig.alert(device=device)
    assert [route for route, *_ in either_rig.outbox()] == ["north", "named"]


def test_alert_and_word_of_it_are_committed_together_or_not_at_all(
    either_rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """A transaction that fails while it is told of leaves neither."""
    either_rig.route()

    def full(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "_put", full)
        with pytest.raises(OSError, match="full"):
            either_rig.alert()
    assert (list(either_rig.alerts.list()), either_rig.outbox()) == ([], [])
    either_rig.alert()
    assert len(either_rig.outbox()) == len(either_rig.alerts.list()) == 1


def test_growth_of_an_alert_is_not_told_again(rig: Rig):
    """Findings that join an alert raise none."""
    rig.route(changes=True)
    identifier = rig.alert()
    with rig.database.write.begin() as session:
        session.get_one(AlertRow, identifier).hits += 5
    assert len(rig.outbox()) == 1


def test_decisions_are_told_to_those_who_ask_for_changes(rig: Rig):
    """By whichever road they come."""
    rig.route("raised")
    rig.route("changes", changes=True)
    identifier = rig.alert()
    rig.alerts.set_status(identifier, Status.DISMISSED, who="me")
    rig.alerts.set_status(identifier, Status.DISMISSED, who="me", why="again")
    assert sorted(rig.outbox()) == [
        ("changes", SHELL, "Dismissed"),
        ("changes", SHELL, "raised"),
        ("raised", SHELL, "raised"),
    ]


def test_a_recommendation_is_told_when_it_becomes_active_again(rig: Rig):
    """And that it was resolved only to those who ask for changes."""
    rig.route("raised", about="recommendations")
    rig.route("changes", about="all", changes=True)
    for state in (ACTIVE, RESOLVED, ACTIVE):
        advise(rig, state)
    assert [change for route, _, change in rig.outbox() if route == "raised"] == ["raised", "raised"]
    assert [c for route, _, c in rig.outbox() if route == "changes"] == ["raised", "Resolved", "raised"]


def test_a_disabled_route_is_not_told(rig: Rig):
    """What waits for it stays."""
    rig.route()
    rig.alert()
    rig.routes.set_enabled("r", False)
    rig.alert(USB)
    assert rig.outbox() == [("r", SHELL, "raised")]


def test_what_does_not_fit_is_counted(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """A route that nobody takes anything from does not fill the disk."""
    monkeypatch.setattr(outbox, "MAX_WAITING", 3)
    rig.route()
    rig.raise_all([(SHELL, f"d{number}") for number in range(5)])
    assert len(rig.outbox()) == 3
    assert rig.routes.get("r").dropped == 2


def test_a_route_that_cannot_be_understood_stops_nothing(rig: Rig, caplog: pytest.LogCaptureFixture):
    """As of a later release: it is named, what it missed is counted, and the others are told."""
    rig.route("later")
    rig.route("other")
    with rig.database.write.begin() as session:
        session.get_one(NotifyRouteRow, "later").wanted = '{"where":"tags.x ~ 1"}'
    rig.alert()
    assert [route for route, *_ in rig.outbox()] == ["other"]
    assert rig.routes.get("later").dropped == 1
    assert "route later cannot be told: where:" in caplog.text


def test_a_severity_that_is_not_known_is_told(rig: Rig):
    """Rather than kept back."""
    rig.route(severity="High")
    with rig.database.write.begin() as session:
        row = session.get_one(AlertRow, rig.alert(HISTORY))
        columns = {column.name: getattr(row, column.name) for column in AlertRow.__table__.columns}
        session.add(AlertRow(**columns | {"id": "other", "severity": "Critical"}))
    assert len(rig.outbox()) == 1
    [claimed] = rig.deliveries.claim(now, 1) if rig.deliveries.pack(now := time.time() + 60) else []
    assert claimed.message.severity == "Critical"
