"""The lake stays small: compaction, retention, removal of what no log names.

Small files are merged by tiers, each file into the next tier once enough have gathered, so that a row is
rewritten as often as there are tiers and not at every turn. Compaction writes its file, sorted by device and
time, and syncs it before the log names it: `optimize.compact` of delta-rs commits first, and a power failure
in between would lose acknowledged rows.

All of it runs beside ingestion, in one thread, by one process of those on a registry: who holds the lease.
One that lost it without noticing does no harm: what it commits carries the token of its lease, and a log
that has seen a higher one, or no longer has the files to be replaced, refuses it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec

from vedette.hub.lake.errors import reason
from vedette.hub.lake.horizon import Horizon
from vedette.hub.lake.storage import Where
from vedette.hub.lake.tables import (
    ATTEMPTS,
    DEAD_LETTERS,
    EARLIEST,
    PARTITION,
    RAW_EVENTS,
    TABLES,
    DataFile,
    Table,
    TableName,
    arrow_schema,
    live,
    opened,
    rows_of,
)

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

log = logging.getLogger(__name__)

TIERS = (10_000, 200_000, 4_000_000)
"""Files below so many rows belong to a tier. At 60 million rows a day the last leaves 15 files a day."""

FAN_IN = 100
"""Files of one tier and day that make a merge worth its commit. With three tiers some 300 small files of the
present day are live at most; at eight commits a second the median commit then settles at 20 ms."""

MERGE_ROWS = 4_000_000
MERGE_MEMORY = "256MB"
"""Bounds of one merge; what does not fit in memory while sorting spills into the lake's own directory."""

PERIOD_S = 10.0
"""Pause between two looks. At ten commits a second 100 files gather in it."""

SWEEP_PERIOD_S = 600.0
"""Pause between two removals of files that no query can still be reading."""

ORPHAN_HOURS = 24
"""Age at which a file that no log entry names is removed. It may be one that is about to be committed, by a
host whose clock is another; what a crash left behind can wait."""

FENCE = "vedette-maintenance"
"""Under this name the log keeps the highest token with which maintenance has committed."""

DEAD_LETTER_DAYS = 14
"""Dead letters are for finding a fault, not for keeping."""


class Maintained(msgspec.Struct):
    """What maintenance did so far.

    conflicts: commits tried again because an append was faster. overtaken: work given up because another
    hub's maintenance was. holder: this process has the lease. held: why nothing is removed for its age.
    failing: why the latest turn failed. Both are empty while all is well.
    """

    merges: int = 0
    merged_files: int = 0
    expired_files: int = 0
    swept_files: int = 0
    conflicts: int = 0
    overtaken: int = 0
    holder: bool = False
    held: str = ""
    failing: str = ""


def plan(files: Iterable[DataFile], today: date) -> list[list[DataFile]]:
    """Which files to merge with each other. A day that is over is merged whole, whatever the tier."""
    groups: dict[tuple[str, int], list[DataFile]] = {}
    for file in files:
        if file.rows < TIERS[-1]:
            over = file.day < today.isoformat()
            tier = -1 if over else next(i for i, rows in enumerate(TIERS) if file.rows < rows)
            groups.setdefault((file.day, tier), []).append(file)
    merges = []
    for (_, tier), group in sorted(groups.items()):
        if len(group) >= (2 if tier < 0 else FAN_IN):
            merges += _bounded(sorted(group, key=lambda file: file.rows))
    return merges


def _bounded(files: list[DataFile]) -> list[list[DataFile]]:
    """Cut into merges of at most MERGE_ROWS; a single file left over is no merge."""
    merges: list[list[DataFile]] = [[]]
    room = MERGE_ROWS
    for file in files:
        if merges[-1] and file.rows > room:
            merges.append([])
            room = MERGE_ROWS
        merges[-1].append(file)
        room -= file.rows
    return [merge for merge in merges if len(merge) > 1]


class Claim(Protocol):
    """A lease on the maintenance of a lake; see `registry.lease`."""

    token: int

    def claim(self) -> bool:
        """Take or renew it; False while another process holds it."""

    def release(self) -> None:
        """Give it back."""


class Unshared:
    """The lease of a lake that one process uses."""

    token = 0

    def claim(self) -> bool:
        """See Claim."""
        return True

    def release(self) -> None:
        """See Claim."""


class _Upkeep:
    """Maintenance of one table. For one thread."""

    def __init__(self, lake: Where, table: Table, days: int, state: Maintained, lease: Claim) -> None:
        self._files = table.files(lake)
        self._table = table
        self._days = days
        self._state = state
        self._lease = lease

    def days_before(self, today: date) -> list[date]:
        """Past days that have data."""
        return [date.fromisoformat(file.day) for file in live(self._open()) if file.day < today.isoformat()]

    def expire(self, today: date) -> None:
        """Drop days that are too old."""
        first_kept = today - timedelta(days=self._days)
        days = (EARLIEST.isoformat(), first_kept.isoformat())
        old = [file for file in live(self._open()) if days[0] <= file.day < days[1]]
        if old and self._replace(old, [], data_change=True):
            self._state.expired_files += len(old)
            log.info("%s: %d files from before %s expired", self._table.name, len(old), first_kept)

    def merge(self, today: date) -> None:
        """Merge small files, as long as the lease holds."""
        for files in plan(live(self._open()), today):
            if not self._lease.claim():
                return
            self._merge(files)

    def sweep(self, *, orphans: bool) -> None:
        """Remove replaced files, log entries behind a checkpoint, and files that no log entry names."""
        table = self._open()
        before = table.version()
        swept = table.vacuum(dry_run=False)
        if orphans:
            swept += table.vacuum(retention_hours=ORPHAN_HOURS, dry_run=False, full=True)
        table.update_incremental()
        table.cleanup_metadata()
        self._files.sync_log(before + 1, table.version())
        self._state.swept_files += len(swept)

    def _open(self) -> DeltaTable:
        return opened(self._files)

    def _merge(self, files: list[DataFile]) -> None:
        merged = self._sorted_copy(files)
        try:
            replaced = self._replace(files, [merged], data_change=False)
        except Exception:
            # An object store may still make the commit that failed; its file has to be there then.
            if not self._files.late_writes and merged.path not in {file.name for file in live(self._open())}:
                self._files.remove(merged.path)
            raise
        if not replaced:
            self._files.remove(merged.path)
            return
        self._state.merges += 1
        self._state.merged_files += len(files)

    def _sorted_copy(self, files: list[DataFile]) -> AddAction:
        """One durable file with the rows of many, in the table's order."""
        import duckdb

        from vedette.hub.lake.commit import COMPRESSION, add_action, new_name

        scratch = self._files.scratch
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        bounds: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MERGE_MEMORY,
            "threads": 1,
            "temp_directory": str(scratch),
        }
        name, target = new_name(files[0].day), scratch / f"{uuid.uuid4()}.parquet"
        try:
            with duckdb.connect(config=bounds) as connection:
                sources = self._files.attach(connection, {file.name: file.size for file in files})
                connection.execute(
                    f"COPY (SELECT * FROM ({rows_of(self._table)}) ORDER BY DeviceId, TimeGenerated) "  # noqa: S608
                    f"TO $target (FORMAT parquet, COMPRESSION {COMPRESSION})",
                    {"files": sources, "target": str(target)},
                )
            stored = self._files.put(name, target)
        finally:
            target.unlink(missing_ok=True)
        return add_action(name, stored, sum(file.rows for file in files), files[0].day, data_change=False)

    def _replace(self, old: list[DataFile], new: list[AddAction], *, data_change: bool) -> bool:
        """Commit removals and additions together and sync the log; False if another hub was faster.

        delta-rs lets a file be removed twice, and both merges of it stand: rows would be doubled. So the
        commit is made only on a log in which all files are live and no later holder of the lease has written,
        and not rebased onto a newer one.
        """
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import RemoveAction

        from vedette.hub.lake.commit import HOOKS

        now = int(time.time() * 1000)
        removals: list[AddAction | RemoveAction] = [
            RemoveAction(file.name, data_change, now, partition_values={PARTITION: file.day}) for file in old
        ]
        fence = Transaction(FENCE, self._lease.token)
        for attempt in range(1, ATTEMPTS + 1):
            table = self._open()
            fenced = (table.transaction_version(FENCE) or 0) > self._lease.token
            if fenced or not set(old) <= set(live(table)):
                self._state.overtaken += 1
                return False
            try:
                table.create_write_transaction(
                    [*removals, *new],
                    "append",
                    arrow_schema(self._table),
                    PARTITION,
                    commit_properties=CommitProperties(app_transactions=[fence], max_commit_retries=0),
                    post_commithook_properties=HOOKS,
                )
            except CommitFailedError:
                self._state.conflicts += 1
                if attempt == ATTEMPTS:
                    raise
            else:
                break
        before = table.version()
        table.update_incremental()
        self._files.sync_log(before + 1, table.version())
        return True


class Maintenance:
    """Keeps a lake small. One thread, `lake-maintenance`; `start` once the tables are there.

    retention_days: age at which rows are removed, by day of receipt; retention: the same for tables by name.
    """

    def __init__(
        self,
        lake: Where,
        *,
        retention_days: int,
        retention: Mapping[TableName, int] | None = None,
        lease: Claim | None = None,
        period: float = PERIOD_S,
    ) -> None:
        self.state = Maintained()
        self._lease = lease or Unshared()
        days = {RAW_EVENTS.name: retention_days, DEAD_LETTERS.name: min(retention_days, DEAD_LETTER_DAYS)}
        days.update(retention or {})
        self._upkeep = [_Upkeep(lake, table, days[table.name], self.state, self._lease) for table in TABLES]
        self._horizon = Horizon()
        self._period = period
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lake-maintenance")
        self._running: asyncio.Future[None]

    async def start(self) -> None:
        """Begin to look after the lake."""
        self._running = asyncio.get_running_loop().run_in_executor(self._thread, self._run)

    async def close(self) -> None:
        """Finish the step that runs, then stop."""
        self._stop.set()
        await self._running
        self._thread.shutdown()

    def turn(self, now: datetime, *, sweep: bool = False) -> None:
        """Look after every table once, if nobody else does. Raises what disk and registry raise."""
        self.state.holder = self._lease.claim()
        if not self.state.holder:
            return
        today = now.date()
        past = [day for upkeep in self._upkeep for day in upkeep.days_before(today)]
        believed = self._horizon.look(now, max(past, default=None))
        self.state.held = "" if believed else "the clock has leapt ahead: nothing is removed for a day"
        for upkeep in self._upkeep:
            if believed:
                upkeep.expire(today)
            upkeep.merge(today)
            if sweep:
                upkeep.sweep(orphans=believed)

    def _run(self) -> None:
        swept = time.monotonic() - SWEEP_PERIOD_S
        while not self._stop.wait(self._period):
            due = time.monotonic() - swept >= SWEEP_PERIOD_S
            if self._tried(partial(self.turn, datetime.now(UTC), sweep=due)) and due:
                swept = time.monotonic()
        self._tried(self._lease.release)

    def _tried(self, step: Callable[[], None]) -> bool:
        """Whether a step succeeds; what fails is said once. A full disk must not end what frees it."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever disk, network and registry raise
            if not self.state.failing:
                log.error("maintenance of the lake fails: %s", reason(error))
            self.state.failing = reason(error)
            return False
        if self.state.failing:
            log.info("maintenance of the lake succeeds again")
        self.state.failing = ""
        return True
