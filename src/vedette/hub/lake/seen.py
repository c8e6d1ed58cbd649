"""Which messages the lake already holds, so that what a device sends again is stored once.

Delivery is at least once: a device repeats what was not acknowledged, right after a reconnect or, out of its
outbox, up to two days later. A message is stored in one commit, all its events or none, so remembering
messages is enough.
"""

from __future__ import annotations

from collections import deque
from datetime import date, timedelta
from hashlib import blake2b

from vedette.hub.lake.storage import Storage, Where
from vedette.hub.lake.tables import DEAD_LETTERS, EARLIEST, RAW_EVENTS, live, opened

REMEMBERED = 1_000_000
"""Messages remembered, the newest, at 83 bytes each. Beyond it the oldest quarter is forgotten;
what is sent again after that is stored twice, under one (DeviceId, ModuleId, MessageId, EventIndex).
With default intervals a device sends 61 messages a day: 5,400 devices for three days."""

REMEMBERED_DAYS = 3
"""Days read back at start: the agent's message timeout (two days) and the day that is running."""

_GENERATIONS = 4

UNREADABLE = b"dead letter"
"""Mixed into the key of a dead letter: a message may have both, and they are stored by two commits."""


COLUMNS = ("DeviceId", "ModuleId", "MessageId")
"""What tells messages apart, in every table."""


def key_of(device: str, module: str, message_id: str, kind: bytes = b"") -> bytes:
    """What stands for a message in the index: 16 bytes, equal for equal messages only (2⁻¹²⁸)."""
    text = "\0".join((device, module, message_id))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=kind).digest()


class Seen:
    """A bounded set of keys that forgets the oldest. It forgets by generations: no order is kept within."""

    def __init__(self, capacity: int = REMEMBERED) -> None:
        self._each = max(1, capacity // _GENERATIONS)
        self._generations: deque[set[bytes]] = deque([set()], maxlen=_GENERATIONS)

    def __contains__(self, key: bytes) -> bool:
        for generation in self._generations:  # noqa: SIM110 - asked for each message, and any() is slow
            if key in generation:
                return True
        return False

    def __len__(self) -> int:
        return sum(map(len, self._generations))

    def add(self, key: bytes) -> None:
        """Remember a key."""
        if len(self._generations[-1]) >= self._each:
            self._generations.append(set())
        self._generations[-1].add(key)


def recall(lake: Where, today: date, capacity: int = REMEMBERED) -> Seen:
    """The messages that the lake received in the last days, newest last. Reads three columns."""
    seen = Seen(capacity)
    for table, kind, where in (
        (RAW_EVENTS, b"", "true"),
        (DEAD_LETTERS, b"", "EventIndex < 0"),
        (DEAD_LETTERS, UNREADABLE, "true"),
    ):
        for device, module, message in recent(table.files(lake), today, where, limit=capacity):
            seen.add(key_of(device, module, message, kind))
    return seen


def recent(files: Storage, today: date, where: str = "true", *, limit: int) -> list[tuple[str, str, str]]:
    """(device, module, message id) of the newest messages of a table, oldest first."""
    import duckdb

    first, unknown = (today - timedelta(days=REMEMBERED_DAYS - 1)).isoformat(), EARLIEST.isoformat()
    sizes = {file.name: file.size for file in live(opened(files)) if file.day >= first or file.day < unknown}
    if not sizes:
        return []
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT {', '.join(COLUMNS)} "  # noqa: S608 - `where` is ours
            "FROM read_parquet($files, hive_partitioning = false) "
            f"WHERE {where} GROUP BY ALL ORDER BY max(TimeGenerated) DESC LIMIT $limit",
            {"files": files.attach(connection, sizes), "limit": limit},
        ).fetchall()
    return rows[::-1]
