"""Identities for simulated devices: all keys come from that of one enrollment group, as a factory's would."""

from __future__ import annotations

from collections.abc import Sequence

from vedette.hub.registry import Registry
from vedette.hub.registry.enrollments import Enrollment, UnknownEnrollment
from vedette.hub.simulate.device import Account
from vedette.wire.dps import device_key
from vedette.wire.iothub import Identity

GROUP = "simulated"
"""Name of the enrollment group. Its key is in the registry only, sealed like all keys."""


def accounts(registry: Registry, count: int, group: str = GROUP) -> Sequence[Account]:
    """So many devices `simulated-00001` …, registered if they are not yet. Raises RegistryError."""
    try:
        key = registry.enrollments.get(group, grouped=True).primary_key
    except UnknownEnrollment:
        key = registry.enrollments.add(Enrollment(group, grouped=True)).primary_key
    made = [
        Account(Identity(name := f"{group}-{number:05}"), device_key(key, name))
        for number in range(1, count + 1)
    ]
    registry.add_devices({account.identity.device_id: account.key for account in made})
    return made
