"""Settings for many devices: who would change, who changed, what they say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vedette.hub.console import members
from vedette.hub.console.roll import Roll
from vedette.hub.console.rollout import MAX_ROLLOUTS, Rollout, Rollouts
from vedette.hub.detect.schema import Database
from vedette.hub.registry import Registry
from vedette.hub.registry.fleet import TwinChange
from vedette.hub.registry.query import QueryError
from vedette.wire.iothub import Identity

NORTH = "tags.site = 'north'"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """Three devices in the north, the last of them with an agent's module; one in the south."""
    made = Registry(f"sqlite:///{tmp_path / 'registry.db'}")
    for device, site in (("a", "north"), ("b", "north"), ("c", "north"), ("d", "south")):
        made.add(Identity(device))
        made.fleet.patch_twin(Identity(device), TwinChange(tags={"site": site}))
    made.add(Identity("c", "agent"))
    yield made
    made.close()


@pytest.fixture
def roll(registry: Registry, tmp_path: Path) -> Iterator[Roll]:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    yield Roll(database.read)
    database.close()


def outcomes(rollout: Rollout) -> dict[str, str]:
    return {member.identity.device_id: member.outcome for member in rollout.members}


def test_the_preview_says_who_changes_and_writes_nothing(registry: Registry, roll: Roll):
    """A device that has it already stays as it is; of one with an agent's module it is the module's twin."""
    registry.patch_desired(Identity("b"), {"Process_CacheSize": 300})
    rollout = Rollout(registry, roll, NORTH, {"Process_CacheSize": 300, "Process_Mode": None}, "ana")
    rollout.look()
    assert rollout.total == 3
    assert outcomes(rollout) == {"a": "waits", "b": "same", "c": "waits"}
    assert rollout.members[0].changes == ["Process_CacheSize: default → 300"]
    assert rollout.members[2].identity == Identity("c", "agent")
    assert registry.twin(Identity("a")).desired == {}


def test_every_verdict_is_followed(registry: Registry, roll: Roll):
    """In force, refused with the reason, and pending of who says nothing."""
    rollout = Rollout(registry, roll, NORTH, {"Process_CacheSize": 300}, "ana")
    rollout.look()
    rollout.run()
    assert rollout.done == 3
    assert registry.twin(Identity("d")).desired == {}
    registry.patch_reported(Identity("a"), {"Process_CacheSize": 300, "latest_state": "success"})
    refusal = {"latest_state": "failed", "latest_invalid_fields": ["Process_CacheSize: too large for me"]}
    registry.patch_reported(Identity("b"), refusal)
    rollout.settle()
    assert outcomes(rollout) == {"a": "in force", "b": "refused", "c": "pending"}
    assert rollout.members[1].why == "Process_CacheSize: too large for me"
    assert rollout.counts() == {"in force": 1, "refused": 1, "pending": 1}


def test_what_is_cancelled_leaves_the_rest_alone(registry: Registry, roll: Roll):
    """Those whose turn has not come."""
    rollout = Rollout(registry, roll, NORTH, {"Process_CacheSize": 300}, "ana")
    rollout.look()
    rollout.cancel()
    rollout.run()
    assert rollout.counts() == {"waits": 3}
    assert registry.twin(Identity("a")).desired == {}


def test_a_device_that_goes_meanwhile_fails_alone(registry: Registry, roll: Roll):
    """With the reason."""
    rollout = Rollout(registry, roll, NORTH, {"Process_CacheSize": 300}, "ana")
    rollout.look()
    registry.remove(Identity("a"))
    rollout.run()
    assert outcomes(rollout) == {"a": "failed", "b": "pending", "c": "pending"}
    assert "no such device" in rollout.members[0].why


def test_changes_are_put_down_to_who_made_them(registry: Registry, roll: Roll):
    """In the audit log."""
    rollout = Rollout(registry, roll, "deviceId = 'a'", {"Process_CacheSize": 300}, "ana")
    rollout.look()
    rollout.run()
    assert registry.tokens.audit(1)[0].actor == "user:ana"


def test_members_come_in_pages(registry: Registry, roll: Roll):
    """Each once, with a continuation until the last."""
    first, behind = members.page(registry, NORTH, 2)
    assert (first, bool(behind)) == (["a", "b"], True)
    assert members.page(registry, NORTH, 2, behind) == (["c"], "")
    assert members.counted(registry, NORTH) == 3
    assert list(members.every(registry, NORTH)) == [["a", "b", "c"]]
    with pytest.raises(QueryError):
        members.counted(registry, "tags.site =")


def test_the_newest_rollouts_are_remembered(registry: Registry, roll: Roll):
    """So many, and no more."""
    kept = Rollouts()
    made = [Rollout(registry, roll, NORTH, {}, "ana") for _ in range(MAX_ROLLOUTS + 2)]
    for one in made:
        kept.keep(one)
    assert list(kept.newest()) == made[:1:-1]
    assert kept.get(made[0].id) is None
    assert kept.get(made[-1].id) is made[-1]


def test_the_twins_of_many_devices_come_at_once(registry: Registry, roll: Roll):
    """Each device's own first, then its modules'; one that is not there is left out."""
    found = roll.twins(["c", "a", "gone"])
    assert {device: [twin.identity.module_id for twin in twins] for device, twins in found.items()} == {
        "a": [""],
        "c": ["", "agent"],
    }


def test_a_device_that_goes_before_its_verdict_has_failed(registry: Registry, roll: Roll):
    """The others are followed on."""
    rollout = Rollout(registry, roll, NORTH, {"Process_CacheSize": 300}, "ana")
    rollout.look()
    rollout.run()
    registry.remove(Identity("a"))
    rollout.settle()
    assert outcomes(rollout) == {"a": "failed", "b": "pending", "c": "pending"}
