"""What the registry hands out, and how it says no."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from vedette.hub.errors import DomainError
from vedette.wire.iothub import Identity

CHANGES_PAGE = 256
"""Entries of the change log that are read at a time; each holds up to 32 KB."""


class RegistryError(DomainError):
    """The registry refuses, or cannot be used as it is; the text says why and what helps."""


class UnknownIdentity(RegistryError):
    """No such device or module."""


class AlreadyExists(RegistryError):
    """The device or module is there."""


class Outdated(RegistryError):
    """The condition on an ETag does not hold."""


class ChangesLost(RegistryError):
    """The change log no longer reaches back as far as was asked."""


class Veiled(msgspec.Struct, frozen=True):
    """A record with secrets: whoever prints it, `rich` included, sees the fields of SHOWN alone.

    Without this, `rich` (and so a traceback of its) would ask msgspec for all fields.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Of `rich`: names and values."""
        return [(name, getattr(self, name)) for name in self.SHOWN]

    def __repr__(self) -> str:
        """The same as text."""
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"


class Device(Veiled, frozen=True):
    """A device or module as registered.

    enabled: may connect (a module only if its device may, too). etag: changes when this record does.
    created, last_activity: Unix seconds. gateway: name of the gateway that it is connected to, or empty.
    """

    SHOWN = ("identity", "enabled", "gateway")

    identity: Identity
    primary_key: str
    secondary_key: str
    enabled: bool
    etag: str
    created: float
    gateway: str = ""
    last_activity: float | None = None

    @property
    def connected(self) -> bool:
        """True if a gateway holds a connection of it (its end is known within seconds, not at once)."""
        return bool(self.gateway)


class Change(msgspec.Struct, frozen=True):
    """One entry of the change log.

    patch: the desired properties that changed, leading to `version`; None if the identity was disabled or
    removed, so that a connection of it has to end.
    """

    seq: int
    identity: Identity
    version: int
    patch: dict[str, Any] | None
