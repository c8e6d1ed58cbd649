"""The lake stays small: compaction, retention, removal of what no log names.

Small files are merged by tiers, each file into the next tier once enough have gathered, so that a row is
rewritten as often as there are tiers and not at every turn. Compaction writes its file, sorted by device and
time, and syncs it before the log names it: `optimize.compact` of delta-rs commits first, and a power failure
in between would lose acknowledged rows.

All of it runs beside ingestion, in one thread. Where two hubs maintain one lake, the slower one gives up
what it was about to replace.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from vedette.hub.lake.errors import reason
from vedette.hub.lake.storage import Where
from vedette.hub.lake.tables import (
    ATTEMPTS,
    DEAD_LETTERS,
    PARTITION,
    RAW_EVENTS,
    TABLES,
    DataFile,
    Table,
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
"""Pause between two removals of files that no query can still be reading. It lists every directory."""

DEAD_LETTER_DAYS = 14
"""Dead letters are for finding a fault, not for keeping."""


class Maintained(msgspec.Struct):
    """What maintenance did so far.

    conflicts: commits tried again because an append was faster. overtaken: work given up because another
    hub's maintenance was. failing: why the latest turn failed, empty when it did not.
    """

    merges: int = 0
    merged_files: int = 0
    expired_files: int = 0
    swept_files: int = 0
    conflicts: int = 0
    overtaken: int = 0
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


class _Upkeep:
    """Maintenance of one table. For one thread."""

    def __init__(self, lake: Where, table: Table, days: int, state: Maintained) -> None:
        self._files = table.files(lake)
        self._table = table
        self._days = days
        self._state = state

    def turn(self, now: datetime) -> None:
        """Drop days that are too old, merge small files."""
        self._expire(now.date() - timedelta(days=self._days))
        for files in plan(live(self._open()), now.date()):
            self._merge(files)

    def sweep(self) -> None:
        """Remove replaced files, files that no log names, and log entries behind a checkpoint."""
        table = self._open()
        before = table.version()
        swept = table.vacuum(dry_run=False, full=True)
        table.update_incremental()
        table.cleanup_metadata()
        self._files.sync_log(before + 1, table.version())
        self._state.swept_files += len(swept)

    def _open(self) -> DeltaTable:
        return opened(self._files)

    def _expire(self, first_kept: date) -> None:
        old = [file for file in live(self._open()) if file.day < first_kept.isoformat()]
        if old and self._replace(old, [], data_change=True):
            self._state.expired_files += len(old)
            log.info("%s: %d files from before %s expired", self._table.name, len(old), first_kept)

    def _merge(self, files: list[DataFile]) -> None:
        merged = self._sorted_copy(files)
        replaced = False
        try:
            replaced = self._replace(files, [merged], data_change=False)
        finally:
            if not replaced and merged.path not in {file.name for file in live(self._open())}:
                self._files.remove(merged.path)
        if replaced:
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
        commit is made only on a log in which all files are live, and not rebased onto a newer one.
        """
        from deltalake import CommitProperties
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import RemoveAction

        from vedette.hub.lake.commit import HOOKS

        now = int(time.time() * 1000)
        removals: list[AddAction | RemoveAction] = [
            RemoveAction(file.name, data_change, now, partition_values={PARTITION: file.day}) for file in old
        ]
        for attempt in range(1, ATTEMPTS + 1):
            table = self._open()
            if not set(old) <= set(live(table)):
                self._state.overtaken += 1
                return False
            try:
                table.create_write_transaction(
                    [*removals, *new],
                    "append",
                    arrow_schema(self._table),
                    PARTITION,
                    commit_properties=CommitProperties(max_commit_retries=0),
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
    """Keeps the lake in a directory small. One thread, `lake-maintenance`; `start` after the intake's.

    retention_days: age at which raw events are removed, by day of receipt.
    """

    def __init__(self, lake: Where, *, retention_days: int, period: float = PERIOD_S) -> None:
        self.state = Maintained()
        days = {RAW_EVENTS: retention_days, DEAD_LETTERS: min(retention_days, DEAD_LETTER_DAYS)}
        self._upkeep = [_Upkeep(lake, table, days[table], self.state) for table in TABLES]
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
        """Look after every table once. Raises what the disk raises."""
        for upkeep in self._upkeep:
            upkeep.turn(now)
            if sweep:
                upkeep.sweep()

    def _run(self) -> None:
        swept = time.monotonic() - SWEEP_PERIOD_S
        while not self._stop.wait(self._period):
            due = time.monotonic() - swept >= SWEEP_PERIOD_S
            try:
                self.turn(datetime.now(UTC), sweep=due)
            except Exception as error:  # noqa: BLE001 - a full disk must not end maintenance, which frees it
                if not self.state.failing:
                    log.error("maintenance of the lake fails: %s", reason(error))
                self.state.failing = reason(error)
                continue
            if self.state.failing:
                log.info("maintenance of the lake succeeds again")
            self.state.failing = ""
            if due:
                swept = time.monotonic()
