"""Which messages other processes have stored in a table, so that none is stored twice by two of them.

A device that loses its hub sends what was not acknowledged to the next one, which may still be storing the
same message, or have stored it a moment ago. So a process commits only onto a log whose every entry it has
looked into (see `commit.TableWriter`). This is that look: log entry by log entry, three columns of the files
that it adds. What is rearranged (compaction: `dataChange` false) was looked at when it was added.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from vedette.hub.lake.durable import LOG
from vedette.hub.lake.seen import COLUMNS, REMEMBERED, Seen, key_of, recent
from vedette.hub.lake.storage import Storage
from vedette.hub.lake.tables import DeadLetter, RawEvent

Row = RawEvent | DeadLetter


def message_key(row: Row) -> bytes:
    """What stands for the message that a row came with."""
    return key_of(row.DeviceId, row.ModuleId, row.MessageId)


class Others:
    """What others have added to the table in `files` since a version. For one thread.

    version: up to where the log is known, the entries of the owner included.
    """

    def __init__(self, files: Storage, version: int) -> None:
        self.version = version
        self._files = files
        self._seen = Seen()

    def read(self, version: int) -> None:
        """Look into the log as far as `version`. Raises what the disk raises, and may be repeated then."""
        try:
            while self.version < version:
                for name in _added(self._files, self.version + 1):
                    self._remember(_messages(self._files.get(name)))
                self.version += 1
        except FileNotFoundError:  # cleaned up: nothing was written here for minutes
            self._remember(recent(self._files, datetime.now(UTC).date(), limit=REMEMBERED))
            self.version = version

    def stored(self, rows: Iterable[Row]) -> frozenset[bytes]:
        """The keys of those messages of these rows that others have stored."""
        if not len(self._seen):
            return frozenset()
        return frozenset(key for row in rows if (key := message_key(row)) in self._seen)

    def _remember(self, messages: Iterable[tuple[str, str, str]]) -> None:
        for message in messages:
            self._seen.add(key_of(*message))


def _added(files: Storage, version: int) -> Iterator[str]:
    """Names of the data files with new rows that a version of a table brought."""
    for line in files.get(f"{LOG}/{version:020d}.json").splitlines():
        add = json.loads(line).get("add")
        if add and add["dataChange"]:
            yield add["path"]


def _messages(content: bytes) -> Iterator[tuple[str, str, str]]:
    """(device, module, message id) of the messages in a data file, each once."""
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        table = file.read(columns=list(COLUMNS))
    distinct = table.group_by(list(COLUMNS)).aggregate([])
    return zip(*(distinct[name].to_pylist() for name in COLUMNS), strict=True)
