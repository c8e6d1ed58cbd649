"""Devices, modules, keys, twins: the hub's mutable state, in SQLite or PostgreSQL."""

from vedette.hub.registry.feed import ChangeFeed
from vedette.hub.registry.records import (
    Activity,
    AlreadyExists,
    Change,
    ChangesLost,
    Device,
    RegistryError,
    UnknownIdentity,
)
from vedette.hub.registry.store import Registry
from vedette.hub.registry.twins import Twin, TwinError, merge

__all__ = [
    "Activity",
    "AlreadyExists",
    "Change",
    "ChangeFeed",
    "ChangesLost",
    "Device",
    "Registry",
    "RegistryError",
    "Twin",
    "TwinError",
    "UnknownIdentity",
    "merge",
]
