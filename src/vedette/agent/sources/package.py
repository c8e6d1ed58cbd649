"""What the package databases have in common: the value that they yield."""

from __future__ import annotations

import msgspec


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """A package as its database describes it; a text is empty where that does not say.

    kind: `deb`, `opkg`, `rpm`, `apk`, `pypi`, `npm`, `snap` or `flatpak`. version: as the database writes
    it; of an rpm `epoch:version-release`, without epoch where there is none. source: name of the source
    package, empty if it is the same. vendor: who maintains it.
    """

    kind: str
    name: str
    version: str = ""
    vendor: str = ""
    architecture: str = ""
    source: str = ""
