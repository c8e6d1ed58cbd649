"""Single events against all selections: distinct rows in an in-memory SQLite, one query a selection.

A selection depends on the values that it compares and on which patterns are found in which field. Rows are
reduced to those, and each reduced row is judged once; and so is each event, by the details that its rows are
made of. Both verdicts last from batch to batch: devices do the same things over and over, and what differs is
hardly ever what rules look at. What a lookup says of a field is marked like a pattern; with another lookup
the verdicts on events are forgotten. For one thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from vedette.hub.detect.parents import Parents
from vedette.hub.detect.patterns import Patterns, mark
from vedette.hub.detect.rules import Selection
from vedette.hub.detect.sql import FULLTEXT, marks_column
from vedette.hub.detect.taxonomy import COMMON, PROCESS, Category, Observed, Row, column_type, common, plain
from vedette.hub.intel.lookup import Lookup
from vedette.wire.events import BY_HUB

VERDICTS = 50_000
"""Events, and reduced rows, of a category whose verdict is remembered: 1 KB with a long command line."""

_Key = tuple[Any, ...]
_Verdict = tuple[tuple[str, int], ...]
"""Selections that an event satisfies, each with the index of its first row that does."""

_COMMON_PLACES = {
    "DeviceId": Observed._fields.index("device"),
    "ModuleId": Observed._fields.index("module"),
    "HitCount": Observed._fields.index("hits"),
}
"""Where events have the common fields; their name is part of every key."""


class Match(NamedTuple):
    """An event that satisfies a selection, with the row of its category that does."""

    selection: str
    event: Observed
    category: Category
    place: int

    @property
    def row(self) -> Row:
        """The fields of the event, as the selection saw them."""
        return common(self.event) | self.category.rows(self.event.details)[self.place]


class Judge:
    """Finds what satisfies the selections of a rule set. lookup: answers what rules ask of lists."""

    def __init__(self, selections: Iterable[Selection], lookup: Lookup | None = None) -> None:
        self._sqlite = sqlite3.connect(":memory:", isolation_level=None)
        self._parents: Parents | None = None
        grouped: dict[Category, list[Selection]] = {}
        for selection in selections:
            grouped.setdefault(selection.category, []).append(selection)
            if selection.category is PROCESS and any("Parent" in field for field in selection.fields):
                self._parents = Parents()
        asked = lookup or Lookup()
        self._benches = [_Bench(self._sqlite, category, group, asked) for category, group in grouped.items()]

    def judge(self, events: Sequence[Observed]) -> list[Match]:
        """Every match."""
        if self._parents:
            events = self._parents.told(events)
        by_name: dict[str, list[Observed]] = {}
        for event in events:
            by_name.setdefault(event.name, []).append(event)
        return [match for bench in self._benches for match in bench.judge(by_name)]

    def use(self, lookup: Lookup) -> None:
        """From now on, ask this lookup."""
        for bench in self._benches:
            bench.use(lookup)

    def close(self) -> None:
        """Free the database."""
        self._sqlite.close()


class _Bench:
    """One category: its table, its selections, and the verdicts on what was seen before."""

    def __init__(
        self,
        sqlite: sqlite3.Connection,
        category: Category,
        selections: Sequence[Selection],
        lookup: Lookup,
    ) -> None:
        self._sqlite = sqlite
        self._category = category
        self._columns = sorted(frozenset[str]().union(*(selection.columns for selection in selections)))
        self._patterns = _patterns(selections)
        self._questions = _questions(selections)
        self._searched = sorted({*self._patterns, *self._questions})
        used = {*self._columns, *self._searched}
        self._fulltext = FULLTEXT in used
        self._needs_common = not used.isdisjoint(COMMON)
        self._common = tuple(place for name, place in _COMMON_PLACES.items() if name in used)
        self._inputs: tuple[str, ...] = category.inputs or ()
        if category.inputs is None:
            self._inputs = tuple(sorted(category.fields if self._fulltext else category.fields & used))
        declared = ["_row INTEGER PRIMARY KEY"]
        declared += [f'"{name}" {column_type(category, name)}' for name in self._columns]
        declared += [f'"{marks_column(name)}" TEXT' for name in self._searched]
        table = f'"{category.name}"'
        sqlite.execute(f"CREATE TABLE {table} ({', '.join(declared)})")
        self._insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(declared))})"  # noqa: S608 - declared
        self._clear = f"DELETE FROM {table}"  # noqa: S608 - declared
        self._queries = [
            (selection.key, f"SELECT _row FROM {table} WHERE {selection.where}")  # noqa: S608 - by pySigma
            for selection in selections
        ]
        self._events: dict[_Key, _Verdict] = {}
        self._rows: dict[_Key, tuple[str, ...]] = {}
        self.use(lookup)

    def judge(self, by_name: Mapping[str, Sequence[Observed]]) -> list[Match]:
        """Matches of the events that are of this category."""
        keyed: list[tuple[_Key, Observed]] = []
        new: dict[_Key, list[_Key]] = {}
        for name in self._category.events or by_name.keys() - BY_HUB:
            for event in by_name.get(name, ()):
                key = self._key(event)
                keyed.append((key, event))
                if key not in self._events and key not in new:
                    new[key] = self._reduced(event)
        self._settle(new)
        matches = [
            Match(selection, event, self._category, index)
            for key, event in keyed
            for selection, index in self._events[key]
        ]
        for verdicts in (self._events, self._rows):
            if len(verdicts) > VERDICTS:
                verdicts.clear()
        return matches

    def use(self, lookup: Lookup) -> None:
        """Ask this lookup, and judge anew what asks it."""
        self._lookup = lookup
        self._finders = [(name, self._finder(name)) for name in self._searched]
        if self._questions:
            self._events.clear()

    def _key(self, event: Observed) -> _Key:
        """What the verdict on an event depends on."""
        get = event.details.get
        key = (event.name, *[event[place] for place in self._common], *[get(name) for name in self._inputs])
        try:
            hash(key)
        except TypeError:
            return tuple(plain(value) for value in key)
        return key

    def _reduced(self, event: Observed) -> list[_Key]:
        """Each row's values that are compared, and the marks of the patterns found in each searched field."""
        own = common(event) if self._needs_common else {}
        keys: list[_Key] = []
        for row in self._category.rows(event.details):
            whole = own | row if own else row
            if self._fulltext:
                text = "\n".join(str(value) for value in row.values() if value is not None)
                whole = whole | {FULLTEXT: text}
            get = whole.get
            marks = ["" if (value := get(name)) is None else find(str(value)) for name, find in self._finders]
            keys.append((*[get(name) for name in self._columns], *marks))
        return keys

    def _finder(self, name: str) -> Callable[[str], str]:
        """What tells the marks of a field: patterns that are found in it, and what lists say of it."""
        matching = self._patterns[name].matching if name in self._patterns else _no_marks
        questions = [(question, mark(question)) for question in sorted(self._questions.get(name, ()))]
        if not questions:
            return matching
        holds = self._lookup.holds

        def find(text: str) -> str:
            return matching(text) + "".join([told for question, told in questions if holds(question, text)])

        return find

    def _settle(self, new: Mapping[_Key, Sequence[_Key]]) -> None:
        """Judge events that have not been seen before by their reduced rows."""
        self._judge_rows({row for rows in new.values() for row in rows} - self._rows.keys())
        for key, rows in new.items():
            verdict: dict[str, int] = {}
            for index, row in enumerate(rows):
                for selection in self._rows[row]:
                    verdict.setdefault(selection, index)
            self._events[key] = tuple(verdict.items())

    def _judge_rows(self, rows: Iterable[_Key]) -> None:
        new = list(rows)
        if not new:
            return
        verdicts: list[list[str]] = [[] for _ in new]
        self._sqlite.executemany(self._insert, ((i, *row) for i, row in enumerate(new)))
        try:
            for selection, query in self._queries:
                for (index,) in self._sqlite.execute(query):
                    verdicts[index].append(selection)
        finally:
            self._sqlite.execute(self._clear)
        self._rows.update(zip(new, map(tuple, verdicts), strict=True))


def _no_marks(text: str) -> str:
    """What is found in a field that only lists are asked about."""
    return ""


def _patterns(selections: Iterable[Selection]) -> dict[str, Patterns]:
    """Field → the patterns that are looked for in it."""
    by_field: dict[str, dict[str, None]] = {}
    for selection in selections:
        for field, pattern in sorted(selection.patterns):
            by_field.setdefault(field, {})[pattern] = None
    return {field: Patterns(patterns) for field, patterns in by_field.items()}


def _questions(selections: Iterable[Selection]) -> dict[str, set[str]]:
    """Field → what is asked about it."""
    by_field: dict[str, set[str]] = {}
    for selection in selections:
        for field, question in selection.questions:
            by_field.setdefault(field, set()).add(question)
    return by_field
