"""The lake in an object store: S3, Azure Blob, Google Cloud Storage, and whatever speaks like one of them.

An upload that the store has confirmed is durable, and a log entry is written only if there is none of its
number: that is all that several writers need. DuckDB's own extensions for object stores have to be fetched
from the internet, so it reads through a file system of ours, which knows the files of one query and no other.
"""

from __future__ import annotations

import io
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from deltalake import DeltaTable
from fsspec import AbstractFileSystem
from obstore.exceptions import BaseError
from obstore.store import from_url

from vedette.hub.lake.errors import reason
from vedette.hub.lake.storage import Storage, StorageRefused, Stored

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from obstore.store import RetryConfig

REQUEST_S = 30
"""Longest request. The largest, a merged file's part of 5 MB, takes that long at 1.4 Mbit/s."""

CONNECT_S = 5

RETRIES = 3
RETRY_S = 10
"""How often, and for how long in all, a request is repeated before the fault is reported. Devices keep what
was not acknowledged and come again, so more patience would only hide it."""

CACHE_BYTES = 64 * 1024 * 1024
"""What is kept of files that were read, for all queries of a process: the footers of 4,000 files."""

CACHED_READ = 1024 * 1024
"""A larger read is a column of a large file: kept, it would drive a hundred footers out."""

PROTOCOL = "lake"

_SERVICES = ("aws_", "azure_", "google_")


class Bucket:
    """A directory in an object store. options: as the store's client documents them, in any case."""

    late_writes = True  # a request that timed out may be under way

    def __init__(
        self, url: str, options: Mapping[str, str], scratch: Path, cache: Recent | None = None
    ) -> None:
        self.uri = url
        self.scratch = scratch
        self.given = {key.lower(): value for key, value in options.items()}
        self._cache = cache or Recent()
        try:
            self._store = _client(url, self.given)
        except (BaseError, ValueError) as error:
            raise StorageRefused(f"lake: {_plain(error)}") from None

    @property
    def options(self) -> dict[str, str]:
        """See Storage."""
        return {
            "timeout": f"{REQUEST_S}s",
            "connect_timeout": f"{CONNECT_S}s",
            "max_retries": str(RETRIES),
            "retry_timeout": f"{RETRY_S}s",
            "aws_conditional_put": "etag",
            **self.given,
        }

    def below(self, name: str) -> Storage:
        """See Storage."""
        return Bucket(f"{self.uri}/{name}", self.given, self.scratch, self._cache)

    def prepare(self) -> None:
        """See Storage. An object store has no directories."""

    def put(self, name: str, content: bytes | Path) -> Stored:
        """See Storage."""
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        with _translated():
            self._store.put(name, content)
        if isinstance(content, Path):
            content.unlink()
        return Stored(size, int(time.time() * 1000))

    def get(self, name: str) -> bytes:
        """See Storage."""
        with _translated():
            return bytes(self._store.get(name).bytes())

    def remove(self, name: str) -> None:
        """See Storage."""
        with _translated():
            self._store.delete(name)

    def recover(self) -> bool:
        """See Storage. Nothing here is ever torn."""
        return DeltaTable.is_deltatable(self.uri, self.options)

    def sync_log(self, first: int, last: int, *, again: bool = False) -> None:
        """See Storage. What the store has confirmed is durable."""

    def attach(self, connection: DuckDBPyConnection, sizes: Mapping[str, int]) -> list[str]:
        """See Storage."""
        connection.register_filesystem(_Files(self, sizes))
        return [f"{PROTOCOL}://{name}" for name in sizes]

    def range(self, name: str, start: int, length: int) -> bytes:
        """A part of a file that is never written again; from the cache if it was read before."""
        key = f"{self.uri}/{name}", start, length
        if (known := self._cache.get(key)) is not None:
            return known
        with _translated():
            content = bytes(obstore.get_range(self._store, name, start=start, length=length))
        self._cache.add(key, content)
        return content


def _client(url: str, options: Mapping[str, str]) -> Any:
    """What the options of a service and of HTTP make. Raises what the client raises, naming the option."""
    http = {"timeout": f"{REQUEST_S}s", "connect_timeout": f"{CONNECT_S}s"}
    service: dict[str, str] = {}
    for key, value in options.items():
        (service if key.startswith(_SERVICES) else http)[key] = value
    arguments: dict[str, Any] = {"config": service, "client_options": http}
    retries: RetryConfig = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)}
    return from_url(url, retry_config=retries, **arguments)


Part = tuple[str, int, int]


class Recent:
    """Parts of files, the most recently used, up to CACHE_BYTES. For any thread."""

    def __init__(self) -> None:
        self._parts: OrderedDict[Part, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, part: Part) -> bytes | None:
        """What was kept of it."""
        with self._lock:
            if part in self._parts:
                self._parts.move_to_end(part)
            return self._parts.get(part)

    def add(self, part: Part, content: bytes) -> None:
        """Keep it, if it is small."""
        if len(content) > CACHED_READ:
            return
        with self._lock:
            self._bytes += len(content) - len(self._parts.pop(part, b""))
            self._parts[part] = content
            while self._bytes > CACHE_BYTES:
                self._bytes -= len(self._parts.popitem(last=False)[1])


class _Files(AbstractFileSystem):  # type: ignore[misc]  # fsspec carries no types
    """Certain files of a bucket, for reading only."""

    protocol = PROTOCOL
    cachable = False  # fsspec would keep it, and with it the bucket, for ever

    def __init__(self, bucket: Bucket, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self._bucket = bucket
        self._sizes = sizes

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """See fsspec. Raises FileNotFoundError for every other file."""
        name = self._strip_protocol(path)
        if name not in self._sizes:
            raise FileNotFoundError(name)
        return {"name": name, "size": self._sizes[name], "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        """See fsspec. A name means itself."""
        return [path] if self.exists(path) else []

    def modified(self, path: str) -> datetime:
        """See fsspec. No file here is ever written again."""
        return datetime.fromtimestamp(0, UTC)

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.RawIOBase:
        """See fsspec. Raises PermissionError for writing."""
        if mode != "rb":
            raise PermissionError(f"{path} is for reading only")
        info = self.info(path)
        return _Reader(self._bucket, info["name"], info["size"])


class _Reader(io.RawIOBase):
    """A file of the bucket, read where DuckDB asks."""

    def __init__(self, bucket: Bucket, name: str, size: int) -> None:
        self._bucket, self._name, self._size, self._position = bucket, name, size, 0

    def read(self, size: int = -1, /) -> bytes:
        left = self._size - self._position
        length = left if size < 0 else min(size, left)
        if length <= 0:
            return b""
        content = self._bucket.range(self._name, self._position, length)
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = (0, self._position, self._size)[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BaseError as error:
        raise OSError(_plain(error)) from None


def _plain(error: Exception) -> str:
    """The client's message in one line, without the state of the client that it adds."""
    return reason(OSError(str(error).partition("\n\nDebug source")[0]))
