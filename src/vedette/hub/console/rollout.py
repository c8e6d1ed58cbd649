"""One change of settings for many devices: what it would do, doing it, and what the devices say of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from vedette.hub.console import members
from vedette.hub.console.roll import Roll
from vedette.hub.console.twin_form import changes, differences
from vedette.hub.registry import Registry, RegistryError, Twin, TwinError
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.twins import merge
from vedette.wire.iothub import Identity
from vedette.wire.twin import LATEST_STATE

MAX_DEVICES = 20_000
"""Of one rollout: each takes two writes to disk, so that is some minutes. More are rolled out in parts."""

MAX_ROLLOUTS = 20
"""That are remembered, the newest; each holds one entry a device."""

SETTLING = 300
"""Devices that are asked for their verdict at a time."""

Outcome: TypeAlias = Literal["waits", "same", "failed", "pending", "in force", "refused"]
"""waits: its turn has not come. same: had it already. failed: could not be written. Then the verdict."""


class Member(msgspec.Struct):
    """A device of a rollout. changes: what is new for it. why: of what failed or was refused."""

    identity: Identity
    changes: Sequence[str]
    outcome: Outcome
    why: str = ""


def whose(registry: Registry, device_id: str, module: str = "") -> Identity:
    """Whose twin steers the agent: the module that reports a verdict, else the first, else the device's.

    Raises RegistryError.
    """
    chosen = steering([entry.twin for entry in registry.fleet.modules(device_id)], module)
    return chosen.identity if chosen else Identity(device_id)


def steering(twins: Sequence[Twin], module: str = "") -> Twin | None:
    """The same of twins that are known: of a device and its modules."""
    modules = [twin for twin in twins if twin.identity.module_id]
    named = [twin for twin in modules if twin.identity.module_id == module]
    speaking = [twin for twin in modules if LATEST_STATE in twin.reported]
    return next(iter([*named, *speaking, *modules, *twins]), None)


class Rollout:
    """A patch of desired properties for the devices of a condition. Its calls block; one thread at a time.

    total: devices that the condition held for when it was looked at. done: those whose turn has come.
    """

    def __init__(
        self, registry: Registry, roll: Roll, condition: str, patch: Mapping[str, Any], who: str
    ) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.condition = condition
        self.patch = dict(patch)
        self.who = who
        self.begun = time.time()
        self.members: list[Member] = []
        self.total = 0
        self.done = 0
        self.cancelled = False
        self._asked = 0
        self._registry = registry
        self._roll = roll

    def look(self) -> None:
        """See who changes, and what. Raises QueryError, ValueError if they are too many."""
        self.total = members.counted(self._registry, self.condition)
        if self.total > MAX_DEVICES:
            raise ValueError(f"{self.total:,} devices; {MAX_DEVICES:,} at a time are allowed")
        for device_ids in members.every(self._registry, self.condition):
            if self.cancelled:
                return
            found = self._roll.twins(device_ids)
            chosen = (steering(found.get(device_id, ())) for device_id in device_ids)
            self.members += [self._member(twin) for twin in chosen if twin]

    def run(self) -> None:
        """Write the patch to everybody who does not have it."""
        with acting_as(f"user:{self.who}"):
            for member in self.members:
                if self.cancelled:
                    return
                if member.outcome == "waits":
                    self._write(member)
                self.done += 1

    def settle(self) -> None:
        """Ask for the verdict of some that have not said it yet."""
        waiting = [member for member in self.members if member.outcome == "pending"]
        first = self._asked % max(1, len(waiting))
        self._asked += SETTLING
        asked = (waiting[first:] + waiting[:first])[:SETTLING]
        found = self._roll.twins([member.identity.device_id for member in asked])
        twins = {twin.identity: twin for some in found.values() for twin in some}
        for member in asked:
            if twin := twins.get(member.identity):
                self._judge(member, twin)
            else:
                member.outcome, member.why = "failed", "was removed meanwhile"

    def _judge(self, member: Member, twin: Twin) -> None:
        """What a device says of the change."""
        wanted = {key: value for key, value in self.patch.items() if value is not None}
        said = differences(wanted, twin.reported)
        if refused := [one for one in said if one.state == "refused"]:
            member.outcome = "refused"
            member.why = "; ".join(f"{one.key}: {one.reason}" for one in refused)
        elif all(one.state == "in force" for one in said):
            member.outcome = "in force"

    def counts(self) -> Mapping[Outcome, int]:
        """How many devices there are of each outcome."""
        counted: dict[Outcome, int] = {}
        for member in self.members:
            counted[member.outcome] = counted.get(member.outcome, 0) + 1
        return counted

    def cancel(self) -> None:
        """Leave alone those whose turn has not come."""
        self.cancelled = True

    def _member(self, twin: Twin) -> Member:
        new = changes(twin.desired, merge(twin.desired, self.patch))
        return Member(twin.identity, new, "waits" if new else "same")

    def _write(self, member: Member) -> None:
        try:
            self._registry.patch_desired(member.identity, self.patch)
        except (RegistryError, TwinError) as error:
            member.outcome, member.why = "failed", str(error)
        else:
            member.outcome = "pending"


class Rollouts:
    """The rollouts of this hub since it started, the newest MAX_ROLLOUTS of them."""

    def __init__(self) -> None:
        self._kept: dict[str, Rollout] = {}

    def keep(self, rollout: Rollout) -> None:
        """Remember one."""
        self._kept[rollout.id] = rollout
        while len(self._kept) > MAX_ROLLOUTS:
            del self._kept[next(iter(self._kept))]

    def get(self, rollout_id: str) -> Rollout | None:
        """One that is remembered."""
        return self._kept.get(rollout_id)

    def newest(self) -> Sequence[Rollout]:
        """All that are remembered."""
        return list(self._kept.values())[::-1]
