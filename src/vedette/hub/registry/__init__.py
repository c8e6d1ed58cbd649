"""Devices, modules, keys, twins: the hub's mutable state, in SQLite or PostgreSQL."""

from vedette.hub.registry.feed import ChangeFeed
from vedette.hub.registry.fleet import Counts, Fleet, TwinChange
from vedette.hub.registry.policies import Policies, Policy, Right
from vedette.hub.registry.profiles import Draft, Entry, Profile
from vedette.hub.registry.records import (
    AlreadyExists,
    Change,
    ChangesLost,
    Device,
    Outdated,
    RegistryError,
    UnknownIdentity,
)
from vedette.hub.registry.store import Registry
from vedette.hub.registry.twins import Twin, TwinError, merge

__all__ = [
    "AlreadyExists",
    "Change",
    "ChangeFeed",
    "ChangesLost",
    "Counts",
    "Device",
    "Draft",
    "Entry",
    "Fleet",
    "Outdated",
    "Policies",
    "Policy",
    "Profile",
    "Registry",
    "RegistryError",
    "Right",
    "Twin",
    "TwinChange",
    "TwinError",
    "UnknownIdentity",
    "merge",
]
