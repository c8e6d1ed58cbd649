"""From commit to alert: nothing lost, nothing twice, whatever happens in between."""

import time

import pytest
from detect_support import NOW, SHELL, Rig, message, process

from vedette.hub.detect import engine
from vedette.hub.detect.alerts import Status
from vedette.hub.detect.changes import Position
from vedette.hub.lake.maintain import Maintenance
from vedette.hub.lake.tables import utc
from vedette.hub.registry.lease import LEASE_S
from vedette.wire.events import Login, Peripheral


async def test_a_committed_event_becomes_an_alert_with_its_window_and_hits(rig: Rig):
    """What was seen, when and how often stands in the alert."""
    await rig.send(message(process("ls"), process(SHELL), hits=3))
    rig.judge()
    [alert] = rig.found()
    assert (alert.type, alert.severity, alert.device_id, alert.status) == (
        "IoT_ReverseShell",
        "High",
        "d1",
        "Active",
    )
    assert (alert.count, alert.hits) == (1, 3)
    assert alert.start == NOW + 1
    assert alert.end == NOW + 60
    assert alert.evidence[0]["CommandLine"] == SHELL
    assert alert.evidence[0]["HitCount"] == 3


async def test_each_commit_is_judged_once(rig: Rig):
    """A worker goes on where the last transaction ended."""
    worker = rig.worker()
    await rig.send(message(process(SHELL)))
    rig.judge(worker=worker)
    await rig.send(message(process("true")))
    rig.judge(worker=worker)
    assert worker.state.events == 2
    rig.judge(worker=worker)
    assert worker.state.events == 2
    assert worker.state.alerts == 1


async def test_hits_of_one_kind_within_a_day_are_one_alert(rig: Rig):
    """The count grows; after a day a new alert begins."""
    await rig.send(message(process(SHELL)), message(process(SHELL), at=NOW + 3600))
    rig.judge(NOW + 3600)
    assert [(a.count, a.hits) for a in rig.found()] == [(2, 2)]
    await rig.send(message(process(SHELL), at=NOW + 26 * 3600))
    rig.judge(NOW + 26 * 3600)
    assert sorted(a.count for a in rig.found()) == [1, 2]


async def test_what_comes_late_joins_the_alert_of_its_time(rig: Rig):
    """An event that a device sends hours later extends the alert backwards."""
    await rig.send(message(process(SHELL)))
    rig.judge()
    await rig.send(message(process(SHELL), at=NOW - 7200, received=NOW + 60))
    rig.judge(NOW + 60)
    [alert] = rig.found()
    assert alert.start == NOW - 7200
    assert alert.count == 2


async def test_an_event_that_is_stored_twice_counts_once(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """The lake forgets old messages; detection knows an event by its id."""
    one = message(process(SHELL), mid="m-1")
    await rig.send(one)
    rig.judge()
    monkeypatch.setattr("vedette.hub.intake.recall", lambda *_: set())
    monkeypatch.setattr("vedette.hub.intake.Seen", set)
    await rig.send(one)
    rig.judge(NOW + 100)
    assert [(a.count, a.hits) for a in rig.found()] == [(1, 1)]


async def test_entities_have_alerts_of_their_own(rig: Rig):
    """Two USB devices are two alerts, one device twice is one."""

    def plugged(product: str) -> Peripheral:
        return Peripheral(
            action_type="Connection", peripheral_type="USB", vendor_id="0951", product_id=product
        )

    await rig.send(message(plugged("1666"), plugged("1667"), plugged("1666")))
    rig.judge()
    assert sorted((a.entity, a.count) for a in rig.found()) == [("0951 1666", 2), ("0951 1667", 1)]


async def test_a_crash_before_the_transaction_ends_repeats_the_batch(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """Alerts and position are stored together or not at all."""
    await rig.send(message(process(SHELL)))
    worker = rig.worker()

    def crash(*_: object) -> None:
        raise RuntimeError("power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_store", crash)
        with pytest.raises(RuntimeError, match="power"):
            worker.step(NOW)
    assert rig.types() == []
    rig.judge(worker=worker)
    assert [(a.type, a.count) for a in rig.found()] == [("IoT_ReverseShell", 1)]


async def test_compaction_is_not_judged_again(rig: Rig, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A commit that only rearranges adds no events."""
    monkeypatch.setattr("vedette.hub.lake.maintain.FAN_IN", 2)
    worker = rig.worker()
    await rig.send(*(message(process(f"true {i}")) for i in range(4)))
    rig.judge(worker=worker)
    Maintenance(rig.lake, retention_days=9999).turn(utc(NOW))
    before = worker.state.version
    rig.judge(NOW + 60, worker)
    assert worker.state.version > before
    assert worker.state.events == 4


async def test_a_reader_that_comes_too_late_for_the_log_reads_by_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """What compaction replaced and clean-up removed is still found, once."""
    await rig.send(message(process(SHELL)))
    rig.judge()
    await rig.send(
        *(
            message(process(SHELL), device=f"d{i}", at=NOW + 200 + i, received=NOW + 200 + i)
            for i in range(2, 14)
        )
    )
    for entry in sorted((rig.lake / "raw_events" / "_delta_log").glob("*.json"))[:9]:
        entry.unlink()
    monkeypatch.setattr("vedette.hub.detect.changes.BATCH_ROWS", 5)
    rig.judge(NOW + 300)
    assert sorted(a.device_id for a in rig.found()) == sorted(f"d{i}" for i in range(1, 14))
    assert {a.count for a in rig.found()} == {1}


async def test_a_clock_that_was_ahead_for_a_while_hides_nothing(rig: Rig):
    """A row from 2106 was judged; then the log was cleaned up before the next ones were."""
    now = time.time()
    await rig.send(message(process("true"), received=4_291_747_200.0))
    rig.judge(now)
    await rig.send(*(message(process(SHELL), at=now, device=f"d{i}", received=now) for i in range(2, 14)))
    for entry in sorted((rig.lake / "raw_events" / "_delta_log").glob("*.json"))[:9]:
        entry.unlink()
    rig.judge(now)
    assert sorted(a.device_id for a in rig.found()) == sorted(f"d{i}" for i in range(2, 14))


async def test_one_worker_judges_while_the_other_stands_by(rig: Rig):
    """The lease goes over when its holder gives it back, or when it ends."""
    seconds = 0.0
    first, second = (rig.worker(clock=lambda: seconds) for _ in range(2))
    await rig.send(message(process(SHELL)))
    assert first.step(NOW) is False
    assert first.state.holder
    assert second.step(NOW) is False
    assert not second.state.holder
    assert second.state.events == 0
    await rig.send(message(process("true")))
    seconds += LEASE_S + 1
    second.step(NOW + 1)
    assert second.state.events == 1
    await rig.send(message(process("false")))
    first.step(NOW + 2)
    assert first.state.events == 1
    second.release()
    first.step(NOW + 3)
    assert first.state.events == 2


async def test_a_worker_that_lost_its_lease_meanwhile_stores_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """Its transaction finds another holder and is given up."""
    seconds = 0.0
    slow, fast = (rig.worker(clock=lambda: seconds) for _ in range(2))
    await rig.send(message(process(SHELL)))
    taken = []

    def judged_meanwhile(events):
        nonlocal seconds
        if not taken:
            taken.append(True)
            fast.step(NOW)
            seconds += LEASE_S + 1
            fast.step(NOW)
        return []

    monkeypatch.setattr(slow._judge, "judge", judged_meanwhile)
    assert slow.step(NOW) is False
    assert not slow.state.holder
    assert slow.state.events == 0
    assert fast.state.alerts == 1
    assert rig.types() == ["IoT_ReverseShell"]


async def test_a_correlation_spans_batches_and_orders_what_comes_late(rig: Rig):
    """Refused logins in one batch, the accepted one in the next, some of the refused only after it."""

    def login(operation: str) -> Login:
        return Login(operation=operation, user_name="root", remote_address="203.0.113.9")

    refused = [login("LoginFailed")] * 4
    await rig.send(message(*refused, at=NOW))
    rig.judge()
    await rig.send(message(login("Login"), at=NOW + 120))
    rig.judge(NOW + 120)
    assert rig.types() == []
    await rig.send(message(*refused, at=NOW + 60, received=NOW + 180))
    rig.judge(NOW + 180)
    [alert] = rig.found()
    assert alert.type == "IoT_BruteForceSuccess"
    assert alert.entity == "203.0.113.9"


async def test_a_dismissed_alert_takes_its_day_in_and_a_resolved_one_does_not(rig: Rig):
    """Dismissed stays away for the same period; after Resolved it has happened again."""
    await rig.send(message(process(SHELL)))
    rig.judge()
    [alert] = rig.found()
    rig.alerts.set_status(alert.id, Status.DISMISSED, who="ada", why="a drill")
    await rig.send(message(process(SHELL), at=NOW + 600))
    rig.judge(NOW + 600)
    [alert] = rig.found()
    assert (alert.status, alert.count) == ("Dismissed", 2)
    assert [(c.who, c.status, c.why) for c in rig.alerts.get(alert.id).changes] == [
        ("ada", "Dismissed", "a drill")
    ]
    rig.alerts.set_status(alert.id, Status.RESOLVED, who="ada")
    later = rig.alerts.get(alert.id).updated + 10
    await rig.send(message(process(SHELL), at=later))
    rig.judge(later)
    assert sorted(a.status for a in rig.found()) == ["Active", "Resolved"]


def test_the_position_begins_with_the_log(rig: Rig):
    """A lake whose log begins at the beginning is read from there."""
    from vedette.hub.detect.changes import BY_TIME, Changes
    from vedette.hub.lake.tables import RAW_EVENTS, open_table

    assert Changes(rig.lake).beginning(NOW) == Position(BY_TIME, NOW - 24 * 3600)
    open_table(rig.lake, RAW_EVENTS)
    assert Changes(rig.lake).beginning(NOW).version == 0
