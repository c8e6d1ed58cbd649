"""What a suppression keeps back is what it names, each part for itself, and nothing longer than it lasts."""

import time
from collections.abc import Iterable

import pytest
from detect_support import SHELL, Rig, message, process

from vedette.hub.detect.alerts import Suppression
from vedette.hub.detect.rules import BUILT_IN, load
from vedette.hub.registry import Registry
from vedette.hub.registry.fleet import TwinChange
from vedette.wire.iothub import Identity

CLEARED = "history -c"
SHELLS, HISTORIES = ("IoT_ReverseShell",), ("IoT_ClearHistoryFile",)
EVERYTHING = {(device, kind) for device in ("pump-1", "valve-1") for (kind,) in (SHELLS, HISTORIES)}


@pytest.fixture
def two(rig: Rig) -> Rig:
    """A hub with two rules and two devices, one of them in a group."""
    rig.rules = load(
        *(BUILT_IN / f"{name}.yml" for name in ("reverse_shell", "clear_history")), built_in=False
    )
    registry = Registry(rig.url)
    for device in ("pump-1", "valve-1"):
        registry.add(Identity(device))
    registry.fleet.patch_twin(Identity("pump-1"), TwinChange(tags={"SecurityGroup": "hall"}))
    registry.close()
    return rig


@pytest.fixture
def end() -> float:
    """When suppressions end: none can be made that is over."""
    return time.time() + 3600


async def raised(rig: Rig, now: float) -> set[tuple[str, str]]:
    """The alerts of both attacks on both devices, which the hub judges at this moment."""
    attacks: Iterable[str] = (SHELL, CLEARED)
    await rig.send(
        *(message(process(line), device=name, at=now) for line in attacks for name in ("pump-1", "valve-1"))
    )
    rig.judge(now)
    return {(alert.device_id, alert.type) for alert in rig.found()}


@pytest.mark.parametrize(
    ("part", "kept_back"),
    [
        ({"device": "pump-*"}, {("pump-1", kind) for (kind,) in (SHELLS, HISTORIES)}),
        ({"group": "hall"}, {("pump-1", kind) for (kind,) in (SHELLS, HISTORIES)}),
        ({"type": "IoT_ReverseShell"}, {("pump-1", *SHELLS), ("valve-1", *SHELLS)}),
        ({"expression": "Program=hist*"}, {("pump-1", *HISTORIES), ("valve-1", *HISTORIES)}),
        ({"expression": "Program=bash and UserId=0"}, {("pump-1", *SHELLS), ("valve-1", *SHELLS)}),
        ({"device": "valve-1", "type": "IoT_ReverseShell"}, {("valve-1", *SHELLS)}),
        ({"group": "yard"}, set()),
    ],
    ids=["device", "group", "type", "expression", "two fields", "device and type", "other group"],
)
async def test_each_part_keeps_back_what_it_names(
    two: Rig, end: float, part: dict[str, str], kept_back: set[tuple[str, str]]
):
    """And counts it; everything else is raised."""
    two.alerts.suppress(Suppression(until=end, who="ana", why="test", **part))
    assert await raised(two, end - 60) == EVERYTHING - kept_back
    [known] = two.alerts.suppressions()
    assert known.hits == len(kept_back)


async def test_a_suppression_that_is_over_keeps_nothing_back(two: Rig, end: float):
    """By the hub's clock, to the second."""
    two.alerts.suppress(Suppression(device="*", until=end, who="ana", why="test"))
    assert await raised(two, end - 1) == set()
    assert await raised(two, end) == EVERYTHING


async def test_a_suppression_that_was_withdrawn_keeps_nothing_back(two: Rig, end: float):
    """From the next batch on."""
    made = two.alerts.suppress(Suppression(device="*", until=end, who="ana", why="test"))
    assert await raised(two, end - 60) == set()
    two.alerts.unsuppress(made.id)
    assert await raised(two, end - 59) == EVERYTHING
