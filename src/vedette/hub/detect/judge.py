"""Single events against all selections: rows in an in-memory SQLite, one query a selection.

A selection depends on nothing but the columns it names, so equal rows are judged once: within a batch, and
from batch to batch, for a fleet does the same things over and over. For one thread.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from vedette.hub.detect.rules import FULLTEXT, Selection
from vedette.hub.detect.taxonomy import COMMON, Category, Observed, Row, Value, column_type, common

VERDICTS = 50_000
"""Rows of a category whose verdict is remembered. With six text columns of a command line one takes 1 KB."""

_Key = tuple[Value, ...]


class Match(NamedTuple):
    """An event that satisfies a selection, and the row that does."""

    selection: str
    event: Observed
    row: Row


class Judge:
    """Finds what satisfies the selections of a rule set."""

    def __init__(self, selections: Iterable[Selection]) -> None:
        self._sqlite = sqlite3.connect(":memory:", isolation_level=None)
        self._sqlite.create_function("regexp", 2, _regexp, deterministic=True)
        grouped: dict[Category, list[Selection]] = {}
        for selection in selections:
            grouped.setdefault(selection.category, []).append(selection)
        self._benches = [_Bench(self._sqlite, category, group) for category, group in grouped.items()]

    def judge(self, events: Sequence[Observed]) -> list[Match]:
        """Every match, by event in the order given."""
        matches = [match for bench in self._benches for match in bench.judge(events)]
        place = {id(event): index for index, event in enumerate(events)}
        matches.sort(key=lambda match: place[id(match.event)])
        return matches

    def close(self) -> None:
        """Free the database."""
        self._sqlite.close()


class _Bench:
    """One category: its table, its selections, and the verdicts on rows seen before."""

    def __init__(
        self, sqlite: sqlite3.Connection, category: Category, selections: Sequence[Selection]
    ) -> None:
        self._sqlite = sqlite
        self._category = category
        used = frozenset[str]().union(*(selection.columns for selection in selections))
        self._text = FULLTEXT in used
        self._columns = tuple(sorted(used - {FULLTEXT}))
        self._common = not used.isdisjoint(COMMON)
        columns = ", ".join(f'"{name}" {column_type(category, name)}' for name in self._columns)
        text = f", {FULLTEXT} TEXT" if self._text else ""
        table = f'"{category.name}"'
        sqlite.execute(
            f"CREATE TABLE {table} (_row INTEGER PRIMARY KEY{', ' if columns else ''}{columns}{text})"
        )
        marks = ", ".join("?" * (1 + len(self._columns) + self._text))
        self._insert = f"INSERT INTO {table} VALUES ({marks})"  # noqa: S608 - names are declared
        self._clear = f"DELETE FROM {table}"  # noqa: S608
        self._queries = [
            (selection.key, f"SELECT _row FROM {table} WHERE {selection.where}")  # noqa: S608 - by pySigma
            for selection in selections
        ]
        self._verdicts: dict[_Key, tuple[str, ...]] = {}

    def judge(self, events: Sequence[Observed]) -> list[Match]:
        """Matches of the events that are of this category."""
        rows: list[tuple[_Key, Observed, Row]] = []
        wanted = self._category.events
        for event in events:
            if not wanted or event.name in wanted:
                own = common(event) if self._common else {}
                for row in self._category.rows(event.details):
                    whole = own | row if own else row
                    rows.append((self._key(whole), event, whole))
        self._settle(dict.fromkeys(key for key, _, _ in rows))
        matches: dict[tuple[str, str], Match] = {}
        for key, event, row in rows:
            for selection in self._verdicts[key]:
                matches.setdefault((selection, event.id), Match(selection, event, row))
        if len(self._verdicts) > VERDICTS:
            self._verdicts.clear()
        return list(matches.values())

    def _key(self, row: Row) -> _Key:
        key = tuple([row.get(name) for name in self._columns])
        return (*key, "\n".join(str(value) for value in row.values() if value)) if self._text else key

    def _settle(self, keys: Mapping[_Key, None]) -> None:
        """Judge the rows that have not been seen before."""
        new = [key for key in keys if key not in self._verdicts]
        if not new:
            return
        verdicts: list[list[str]] = [[] for _ in new]
        self._sqlite.executemany(self._insert, ((i, *key) for i, key in enumerate(new)))
        try:
            for selection, query in self._queries:
                for (index,) in self._sqlite.execute(query):
                    verdicts[index].append(selection)
        finally:
            self._sqlite.execute(self._clear)
        self._verdicts.update(zip(new, map(tuple, verdicts), strict=True))


@lru_cache(maxsize=4_096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _regexp(pattern: str, value: Value) -> bool:
    """SQLite's `value REGEXP pattern`, as Sigma means it: anywhere, with case."""
    return value is not None and _compiled(pattern).search(str(value)) is not None
