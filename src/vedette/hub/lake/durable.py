"""What makes a Delta table on a local disk survive power loss: delta-rs itself never calls fsync.

The only module that knows the table is a directory of this machine's; on object storage, where a completed
upload is durable, nothing here is needed.

The rules, from which the rest follows:
1. A data file and its directory are synced before the log names the file.
2. A commit is acknowledged only after every log entry up to its own is synced, whoever wrote it. So after a
   power failure all that stands at or behind the first torn or missing log entry was never acknowledged.
3. Log entries that a checkpoint replaces are removed much later than the checkpoint was synced.
"""

from __future__ import annotations

import json
import logging
import os
import re
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

LOG = "_delta_log"
LAST_CHECKPOINT = "_last_checkpoint"
_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


def sync(path: Path) -> None:
    """Force a file or directory to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rewrite(path: Path) -> None:
    """Force a file to disk whose fsync failed before.

    Linux reports a failed write-back once and then takes the pages for clean, so a second fsync proves
    nothing: the content has to be written anew.
    """
    copy = path.with_name(f".{path.name}.rewrite")
    copy.write_bytes(path.read_bytes())
    sync(copy)
    copy.replace(path)


def sync_log(table: Path, first: int, last: int, *, again: bool = False) -> None:
    """Force the log entries and checkpoints of versions `first` to `last` to disk, then the directory.

    again: an earlier attempt failed. An entry that is gone has been cleaned up behind a synced checkpoint.
    """
    directory = table / LOG
    force = rewrite if again else sync
    names = [
        f"{v:020d}{suffix}" for v in range(first, last + 1) for suffix in (".json", ".checkpoint.parquet")
    ]
    for name in (*names, LAST_CHECKPOINT):
        with suppress(FileNotFoundError):
            force(directory / name)
    sync(directory)


def recover(table: Path) -> bool:
    """Take the log back to its last whole entry, and sync it. False if there is no table yet.

    After a mere kill nothing is torn and this only syncs. What is cut off is kept beside it as `.torn`.
    """
    directory = table / LOG
    if not directory.is_dir():
        return False
    names = sorted(os.listdir(directory))
    base = _whole_checkpoint(directory, [name for name in names if _CHECKPOINT.fullmatch(name)])
    versions = [int(match[1]) for name in names if (match := _ENTRY.fullmatch(name))]
    expected = base + 1
    for version in (v for v in versions if v > base):
        path = directory / f"{version:020d}.json"
        if version == expected and _whole_entry(path):
            expected += 1
        else:
            _set_aside(path)
    if expected == 0:
        return False
    sync_log(table, max(base, 0), expected - 1)
    sync(table)
    return True


def _whole_checkpoint(directory: Path, names: list[str]) -> int:
    """Version of the newest checkpoint that can be read, -1 if there is none; newer ones are set aside."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in reversed(names):
        try:
            pq.read_table(directory / name)
            return int(name[:20])
        except (pa.ArrowException, OSError):
            _set_aside(directory / name)
            (directory / LAST_CHECKPOINT).unlink(missing_ok=True)
    return -1


def _whole_entry(path: Path) -> bool:
    try:
        lines = path.read_bytes().splitlines()
        return bool(lines) and all(isinstance(json.loads(line), dict) for line in lines)
    except ValueError:
        return False


def _set_aside(path: Path) -> None:
    log.warning("%s is torn, or stands behind a torn entry: set aside, it was never acknowledged", path)
    path.replace(path.with_name(f"{path.name}.torn"))
