"""Where the lake's files are: a directory of this machine, or a bucket of an object store (`objects`).

A `Storage` is one directory of either kind; its files have names relative to it. Nothing else in the lake
knows which kind it is, but for `durable`, which is about local disks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

from vedette.hub.lake import durable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

OBJECT_STORES = {"s3": "S3", "az": "Azure Blob", "gs": "Google Cloud Storage"}
"""Schemes of URLs, and the service that each means."""

SPILL = ".spill"


class StorageRefused(ValueError):
    """The lake cannot be where the settings say; the text names the setting and the reason."""


class Stored(NamedTuple):
    """A file that was made durable: its bytes, and when (milliseconds, Unix)."""

    size: int
    modified: int


class Storage(Protocol):
    """One directory of the lake. Whatever fails for reasons of disk or network raises OSError."""

    @property
    def uri(self) -> str:
        """What delta-rs and people call it. Holds no secret."""

    @property
    def options(self) -> dict[str, str]:
        """What delta-rs needs besides to get there. May hold secrets."""

    @property
    def scratch(self) -> Path:
        """A directory of this machine for what does not fit in memory while files are merged."""

    @property
    def late_writes(self) -> bool:
        """Whether a `put` that failed may still be carried out."""

    def below(self, name: str) -> Storage:
        """A directory in this one."""

    def prepare(self) -> None:
        """Make sure that there is a directory."""

    def put(self, name: str, content: bytes | Path) -> Stored:
        """Make a new file durable, from bytes or from a file in `scratch`, which is gone afterwards."""

    def get(self, name: str) -> bytes:
        """A file's content. Raises FileNotFoundError where there is none."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def recover(self) -> bool:
        """Mend the table here after a power failure; False if there is none yet."""

    def sync_log(self, first: int, last: int, *, again: bool = False) -> None:
        """Make these versions of the table here durable; again: an earlier attempt failed."""

    def attach(self, connection: DuckDBPyConnection, sizes: Mapping[str, int]) -> list[str]:
        """Let DuckDB read these files (name → bytes); what it has to call them. Once for a connection."""


Where = Path | Storage
"""A directory of this machine may be given by its path alone."""


def at(where: Where) -> Storage:
    """The storage that is meant."""
    return Directory(where) if isinstance(where, Path) else where


def locate(url: str, options: Mapping[str, str], state: Path) -> Storage:
    """The lake at a URL of the settings; a directory in `state` if it is empty. Raises StorageRefused.

    options: keys that the service documents for `object_store`, such as `aws_region`.
    """
    if not url or url.startswith("/"):
        return Directory(Path(url or state / "lake"))
    parts = urlsplit(url)
    if parts.username or parts.query:
        raise StorageRefused("lake: keys belong into lake_options or the environment, not into the URL")
    if parts.scheme not in OBJECT_STORES or not parts.netloc:
        raise StorageRefused(f"lake: {url!r} is neither a path nor one of {', '.join(OBJECT_STORES)}://…")
    try:
        from vedette.hub.lake.objects import Bucket
    except ImportError as error:
        raise StorageRefused(
            f"lake: {OBJECT_STORES[parts.scheme]} needs the extra [objects]: {error}"
        ) from None
    return Bucket(url.rstrip("/"), options, state / SPILL)


class Directory(NamedTuple):
    """A directory of this machine, on a disk that keeps what was synced."""

    path: Path

    @property
    def uri(self) -> str:
        """See Storage."""
        return str(self.path)

    @property
    def options(self) -> dict[str, str]:
        """See Storage."""
        return {}

    @property
    def scratch(self) -> Path:
        """See Storage. On the same disk, so that a merged file need not be copied."""
        return self.path / SPILL

    @property
    def late_writes(self) -> bool:
        """See Storage."""
        return False

    def below(self, name: str) -> Directory:
        """See Storage."""
        return Directory(self.path / name)

    def prepare(self) -> None:
        """See Storage."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (self.path, *self.path.parents[:2]):
            durable.sync(directory)

    def put(self, name: str, content: bytes | Path) -> Stored:
        """See Storage."""
        path = self.path / name
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            durable.sync(path.parent.parent)
        if isinstance(content, Path):
            content.replace(path)
        else:
            path.write_bytes(content)
        durable.sync(path)
        durable.sync(path.parent)
        return Stored(path.stat().st_size, int(time.time() * 1000))

    def get(self, name: str) -> bytes:
        """See Storage."""
        return (self.path / name).read_bytes()

    def remove(self, name: str) -> None:
        """See Storage."""
        (self.path / name).unlink(missing_ok=True)

    def recover(self) -> bool:
        """See Storage."""
        return durable.recover(self.path)

    def sync_log(self, first: int, last: int, *, again: bool = False) -> None:
        """See Storage."""
        durable.sync_log(self.path, first, last, again=again)

    def attach(self, connection: DuckDBPyConnection, sizes: Mapping[str, int]) -> list[str]:
        """See Storage."""
        return [str(self.path.absolute() / name) for name in sizes]
