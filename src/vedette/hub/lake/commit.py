"""Rows become durable: one parquet file and one log entry for all that arrives within a moment.

`TableWriter` stores one batch and knows whether it did; `GroupCommit` gathers batches and lets every waiter
go on only when its rows would survive power loss. What a row means lives in `intake`.

Why `create_write_transaction` with a file of our own: it lets the file be sorted and synced before the log
names it, and is cheaper than `write_deltalake` (100 rows, 400 live files, checkpoints every 20 commits:
16 ms against 57 ms, 16 ms CPU against 43).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from vedette.hub.lake.errors import CommitFailed, CommitInDoubt, reason
from vedette.hub.lake.others import Others, Row, message_key
from vedette.hub.lake.storage import Stored, Where
from vedette.hub.lake.tables import (
    ATTEMPTS,
    PARTITION,
    Table,
    arrow_schema,
    open_table,
    opened,
    unknown_columns,
)

log = logging.getLogger(__name__)

LINGER_S = 0.1
"""Longest wait for company. A commit costs about 14 ms of CPU before its first row, so at eight a second a
hub spends a ninth of a core on them; a device with 20 messages in flight still sends 170 a second."""

PENDING_ROWS = 50_000
PENDING_BYTES = 64 * 1024 * 1024
"""Bounds of what waits for a commit; beyond them `put` waits, and so do the devices. A row takes
about 1 KB while it waits, so there are 50 MB of ordinary ones, twice while a batch is being written."""

SETTLE_RETRY_S = 1.0
"""Pause between attempts to find out what became of a commit in doubt."""

COMPRESSION = "zstd"
"""At level 1: half of snappy's size (10,000 process events: 485 KB against 1,005) in 21 ms instead of 19."""

STORAGE_ERRORS = (OSError, DeltaError, pa.ArrowException)
"""What a full or broken disk raises through the libraries."""

HOOKS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""Log clean-up is maintenance's: it may take long, and a commit must not."""


def add_action(name: str, stored: Stored, rows: int, day: str, *, data_change: bool = True) -> AddAction:
    """A log entry for a data file that has been stored."""
    stats = json.dumps({"numRecords": rows})
    return AddAction(name, stored.size, {PARTITION: day}, stored.modified, data_change, stats)


def new_name(day: str) -> str:
    """The name, below the table's directory, of a data file that does not exist yet."""
    return f"{PARTITION}={day}/part-{uuid.uuid4()}.parquet"


class _Staged(NamedTuple):
    """A batch in data files whose commit is not confirmed. stored: keys of messages left out of it."""

    stored: frozenset[bytes]
    files: list[str]
    adds: list[AddAction]


class TableWriter:
    """Appends batches to one table, each wholly or not at all. For one thread at a time.

    Every commit carries (writer, sequence number) in the log, so that after a failure in the middle the log
    itself tells whether the rows are in it, even after compaction has moved them to another file.

    A commit succeeds only as the entry next to those that `Others` has looked into, so of two processes that
    store one message at the same time the second finds the first's, and leaves it out.
    """

    def __init__(self, lake: Where, table: Table) -> None:
        self.name = table.name
        self._files = table.files(lake)
        self._schema = arrow_schema(table)
        self._table = open_table(lake, table)
        self._unknown = unknown_columns(self._table, table)
        self._synced = self._table.version()
        self._writer = f"vedette-{uuid.uuid4().hex}"
        self._sequence = 0
        self._sync_failed = False
        self._others = Others(self._files, self._synced)
        self._staged: _Staged | None = None

    def append(self, rows: Sequence[Row]) -> frozenset[bytes]:
        """Store rows durably, but for those of messages that others have stored; returns these' keys.

        Raises CommitFailed, or CommitInDoubt: then only `settle` may follow.
        """
        assert self._staged is None, "settle first"
        self._sequence += 1
        for attempt in range(1, ATTEMPTS + 1):
            staged = self._stage(rows)
            try:
                self._commit(staged.adds)
                break
            except STORAGE_ERRORS as error:
                log.debug("commit to %s failed: %s", self.name, reason(error))
                if self._reread(anew=not isinstance(error, CommitFailedError)):
                    break
                overtaken = self._table.version() > self._others.version
                if attempt == ATTEMPTS or not overtaken:
                    self._abandon()
                    raise CommitFailed(reason(error)) from error
        self._staged = None
        return staged.stored

    def settle(self) -> frozenset[bytes]:
        """What `append` would have returned, if the commit in doubt is in the table; it is durable then.

        Raises CommitFailed if it is not, CommitInDoubt while that cannot be told.
        """
        assert self._staged is not None, "nothing is in doubt"
        stored = self._staged.stored
        if not self._reread():
            self._abandon()
            raise CommitFailed("the log does not hold the commit")
        self._staged = None
        return stored

    def _stage(self, rows: Sequence[Row]) -> _Staged:
        """Write what no other process has stored, unless that is what is staged. Raises CommitFailed."""
        try:
            self._others.read(self._table.version())
            stored = self._others.stored(rows)
            if self._staged is None or self._staged.stored != stored:
                self._withdraw()
                self._staged = _Staged(stored, [], [])
                fresh = [row for row in rows if message_key(row) not in stored] if stored else rows
                for group in _by_day(fresh):
                    self._staged.adds.append(self._write(group, self._staged.files))
        except STORAGE_ERRORS as error:
            self._withdraw()
            raise CommitFailed(reason(error)) from error
        return self._staged

    def _reread(self, *, anew: bool = True) -> bool:
        """Read the log again; whether it holds, durably, the commit in doubt. Raises CommitInDoubt."""
        try:
            if anew:
                self._table = opened(self._files)
            else:
                self._table.update_incremental()
            stored = (self._table.transaction_version(self._writer) or 0) >= self._sequence
            if stored:
                self._sync()
        except STORAGE_ERRORS as error:
            raise CommitInDoubt(reason(error)) from error
        return stored

    def _abandon(self) -> None:
        """Give up a commit that is not in the log.

        An object store may still write an entry that we no longer wait for; then its files have to be there.
        """
        if self._files.late_writes:
            self._staged = None
        self._withdraw()

    def _withdraw(self) -> None:
        if self._staged is not None:
            self._discard(self._staged.files)
            self._staged = None

    def _write(self, rows: Sequence[Row], files: list[str]) -> AddAction:
        """One sorted parquet file with the rows of one day, durable."""
        day = rows[0].EventDate.isoformat()
        name = new_name(day)
        files.append(name)
        columns = zip(*sorted(rows, key=attrgetter("DeviceId", "TimeGenerated")), strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        table = pa.Table.from_arrays(arrays, schema=self._schema).drop_columns([PARTITION])
        for field in self._unknown:
            table = table.append_column(field, pa.nulls(len(rows), field.type))
        content = pa.BufferOutputStream()
        pq.write_table(table, content, compression=COMPRESSION, compression_level=1)
        stored = self._files.put(name, content.getvalue().to_pybytes())
        return add_action(name, stored, len(rows), day)

    def _commit(self, adds: Sequence[AddAction]) -> None:
        """Make the files part of the table, as the next entry of the log as we know it, and sync the log."""
        if adds:
            marker = Transaction(self._writer, self._sequence)
            self._table.create_write_transaction(
                [*adds],
                "append",
                self._schema,
                PARTITION,
                commit_properties=CommitProperties(app_transactions=[marker], max_commit_retries=0),
                post_commithook_properties=HOOKS,
            )
            self._others.version += 1  # our own entry
            self._table.update_incremental()
        self._sync()

    def _sync(self) -> None:
        """Force the log to disk up to the table's version."""
        version, again = self._table.version(), self._sync_failed
        self._sync_failed = True
        self._files.sync_log(self._synced + 1, version, again=again)
        self._sync_failed = False
        self._synced = version

    def _discard(self, files: list[str]) -> None:
        """Remove data files that no log names. What cannot be removed now, vacuum removes later."""
        for name in files:
            try:
                self._files.remove(name)
            except OSError as error:
                log.warning("%s stays behind until the next vacuum: %s", name, error)


def _by_day(rows: Sequence[Row]) -> list[list[Row]]:
    day = attrgetter("EventDate")
    return [list(group) for _, group in itertools.groupby(sorted(rows, key=day), key=day)]


class Commits(msgspec.Struct):
    """What a GroupCommit did so far.

    waiting: rows whose senders still wait. last_seconds: what the latest commit took; last: when it was made,
    Unix seconds. failing: why the latest attempt failed, empty when it did not.
    """

    commits: int = 0
    failures: int = 0
    rows: int = 0
    waiting: int = 0
    last_seconds: float = 0.0
    last: float = 0.0
    failing: str = ""


class _Batch:
    """Rows that will be stored together, and their owners: who waits, and the first row of each.

    taken: set when nothing more is put into it.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.bytes = 0
        self.since = 0.0
        self.owners: list[tuple[asyncio.Future[bool], Row]] = []
        self.taken = asyncio.Event()

    def fits(self, rows: int, size: int) -> bool:
        return not self.rows or (len(self.rows) + rows <= PENDING_ROWS and self.bytes + size <= PENDING_BYTES)


class GroupCommit:
    """Gathers rows of many senders into few commits. One task; the writing happens in `thread`."""

    def __init__(self, writer: TableWriter, thread: ThreadPoolExecutor, *, linger: float = LINGER_S) -> None:
        self.state = Commits()
        self._writer = writer
        self._thread = thread
        self._linger = linger
        self._batch = _Batch()
        self._some = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name=f"commit {writer.name}")

    async def put(self, rows: Sequence[Row], size: int) -> bool:
        """Return when a message's `rows`, about `size` bytes, are durable: False if others had stored them.

        Waits for room first. Raises CommitFailed.
        """
        while (outcome := self.offer(rows, size)) is None:
            await self._batch.taken.wait()
        return await outcome

    def offer(self, rows: Sequence[Row], size: int) -> asyncio.Future[bool] | None:
        """What `put` will return, without a task that waits for it; None if there is no room now.

        Raises CommitFailed.
        """
        if self._closing:
            raise CommitFailed("the hub is stopping")
        batch = self._batch
        if not batch.fits(len(rows), size):
            return None
        if not batch.rows:
            batch.since = time.monotonic()
            self._some.set()
        batch.rows += rows
        batch.bytes += size
        self.state.waiting += len(rows)
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        batch.owners.append((outcome, rows[0]))
        return outcome

    async def close(self) -> None:
        """Store what waits, then stop."""
        self._closing = True
        self._some.set()
        await self._task

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            batch = self._batch
            if not self._closing:
                await asyncio.sleep(batch.since + self._linger - time.monotonic())
            self._batch = _Batch()
            batch.taken.set()
            if not self._closing:
                self._some.clear()
            if not batch.rows:
                return
            await self._store(batch)
            self.state.waiting -= len(batch.rows)

    async def _store(self, batch: _Batch) -> None:
        """Commit a batch and tell its owners. No error may end the task: the next batch tries again."""
        began = time.monotonic()
        try:
            stored = await self._append(batch.rows)
        except Exception as error:  # noqa: BLE001 - handed to every owner
            self._failed(error)
            for owner, _ in batch.owners:
                if not owner.done():  # it has gone away with its connection
                    owner.set_exception(error)
            return
        if self.state.failing:
            log.info("commits to %s succeed again", self._writer.name)
        self.state.failing = ""
        self.state.commits += 1
        self.state.rows += len(batch.rows)
        self.state.last_seconds = time.monotonic() - began
        self.state.last = time.time()
        for owner, row in batch.owners:
            if not owner.done():
                owner.set_result(not stored or message_key(row) not in stored)

    async def _append(self, rows: Sequence[Row]) -> frozenset[bytes]:
        """Append; while its outcome is in doubt, owners are neither told nor is anything else begun."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._writer.append, rows)
        except CommitInDoubt as error:
            self._failed(error)
        while True:
            try:
                return await loop.run_in_executor(self._thread, self._writer.settle)
            except CommitInDoubt as error:
                if self._closing:
                    raise CommitFailed(f"in doubt when the hub stopped: {error}") from error
            await asyncio.sleep(SETTLE_RETRY_S)

    def _failed(self, error: Exception) -> None:
        if not self.state.failing:
            log.error("commits to %s fail: %s", self._writer.name, error)
        self.state.failures += 1
        self.state.failing = reason(error)
