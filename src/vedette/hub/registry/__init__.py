"""Devices, modules, keys, twins: the hub's mutable state, in SQLite or PostgreSQL."""

from vedette.hub.registry.schema import RegistryError
from vedette.hub.registry.store import (
    Activity,
    AlreadyExists,
    Change,
    ChangeFeed,
    ChangesLost,
    Device,
    Registry,
    UnknownIdentity,
)
from vedette.hub.registry.twins import Twin, TwinError

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
]
