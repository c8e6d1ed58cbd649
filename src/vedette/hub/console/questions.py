"""Questions to the lake as pages ask them: a few at a time, and not twice within seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from vedette.hub.lake import Lake, Limits

FRESH_S = 3.0
"""How long an answer serves everybody who asks the same: pages refresh themselves every few seconds."""

MAX_ANSWERS = 128
"""Answers kept; one has at most PAGE_ROWS rows, typically 20 KB in all."""

AT_A_TIME = 2
"""Questions of all pages that run at once, so that the gateway keeps the other cores."""

PAGE_ROWS = 2_000
"""Rows of one answer that a page shows."""

Row = Mapping[str, Any]


class Questions:
    """Read the lake in SQL. Every answer is a list of rows by column name."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._answers: dict[str, tuple[float, asyncio.Task[list[Row]]]] = {}
        self._running = asyncio.Semaphore(AT_A_TIME)

    async def ask(self, sql: str) -> list[Row]:
        """The rows. Raises QueryError."""
        now = time.monotonic()
        asked = self._answers.get(sql)
        if asked is None or (asked[1].done() and (asked[0] < now or asked[1].exception())):
            self._answers.pop(sql, None)
            task = asyncio.create_task(self._run(sql))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._answers[sql] = asked = (now + FRESH_S, task)
            if len(self._answers) > MAX_ANSWERS:
                del self._answers[next(iter(self._answers))]
        return await asyncio.shield(asked[1])

    async def ask_together(self, questions: Mapping[str, str]) -> Mapping[str, list[Row]]:
        """The rows of several questions, by name, in the time of the slowest. Raises QueryError.

        What a question costs beside its own work, the connection and its views, is paid once. Its rows come
        in its order, and are not limited here.
        """
        lists = ", ".join(f"(SELECT list(t) FROM ({sql}) t) AS {name}" for name, sql in questions.items())  # noqa: S608
        [row] = await self.ask(f"SELECT {lists}")
        return {name: row[name] or [] for name in questions}

    async def _run(self, sql: str) -> list[Row]:
        async with self._running:
            result = await asyncio.to_thread(self._lake.query, sql, "sql", limits=Limits(rows=PAGE_ROWS))
        return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def quoted(text: str) -> str:
    """A text as a SQL literal."""
    return "'" + text.replace("\0", "").replace("'", "''") + "'"


def kql_quoted(text: str) -> str:
    """A text as a KQL literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def containing(column: str, text: str) -> str:
    """The condition that a column contains a text, in whatever case."""
    return f"contains(lower({column}), {quoted(text.lower())})"


def listed(value: Any) -> list[dict[str, Any]]:
    """A dynamic column that holds a list of objects."""
    if not isinstance(value, str):
        return []
    found = msgspec.json.decode(value)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
