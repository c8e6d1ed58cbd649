"""Sigma's conditions as SQL over the columns of a category: pySigma's SQLite backend, but for patterns.

A regular expression or a text with wildcards becomes a look at a column in which all patterns found in the
field are marked beforehand (`patterns`): SQLite would try each on each row, and call Python for expressions.
So does a placeholder, as in `Field|expand: '%bad_names%'`: what the hub's lists say of the field is marked.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from sigma.backends.sqlite.sqlite import sqliteBackend
from sigma.types import Placeholder, SigmaCasedString, SigmaRegularExpression, SigmaString, SpecialChars

from vedette.hub.detect import patterns
from vedette.hub.detect.taxonomy import Unsupported
from vedette.hub.intel.lookup import QUESTIONS

if TYPE_CHECKING:
    from sigma.rule import SigmaRule

FULLTEXT = "_text"
"""Column with all values of a row, for rules that search for mere keywords."""


_PREFIX = "SELECT * FROM t WHERE "
"""What pySigma's backend puts before each expression."""


def marks_column(field: str) -> str:
    """The column that holds the marks of the patterns found in a field."""
    return f"_found {field}"


class _Backend(sqliteBackend):  # type: ignore[misc]  # it carries no types
    """Notes the patterns of a rule and leaves their judgement to `patterns`."""

    def __init__(self) -> None:
        super().__init__(None, table="t", fulltext_field=FULLTEXT)
        self.patterns: set[tuple[str, str]] = set()
        self.questions: set[tuple[str, str]] = set()

    def convert_condition_field_eq_val_re(self, cond: Any, state: Any) -> str:
        if cond.value.contains_placeholder():
            raise Unsupported("detection: a placeholder in a regular expression")
        return self._marked(cond.field, _expression(cond.value))

    def convert_condition_val_re(self, cond: Any, state: Any) -> str:
        return self._marked(FULLTEXT, _expression(cond.value))

    def convert_condition_field_eq_val_str(self, cond: Any, state: Any) -> str:
        if cond.value.contains_placeholder():
            return self._asked(cond.field, cond.value)
        if cond.value.contains_special():
            return self._marked(cond.field, _wildcards(cond.value))
        return str(super().convert_condition_field_eq_val_str(cond, state))

    def convert_condition_val_str(self, cond: Any, state: Any) -> str:
        if cond.value.contains_placeholder():
            raise Unsupported("detection: a placeholder without a field")
        if isinstance(cond.value, SigmaCasedString):
            return str(super().convert_condition_val_str(cond, state))
        return self._marked(FULLTEXT, _wildcards(cond.value, anywhere=True))

    def _marked(self, field: str, pattern: str) -> str:
        patterns.check(pattern)
        self.patterns.add((field, pattern))
        return _holds(field, pattern)

    def _asked(self, field: str, value: SigmaString) -> str:
        names = [part.name for part in value.s if isinstance(part, Placeholder)]
        others = [part for part in value.s if isinstance(part, str)]
        if len(names) > 1 or others or names[0] not in QUESTIONS:
            raise Unsupported(f"detection: the lists here are {', '.join(f'%{name}%' for name in QUESTIONS)}")
        self.questions.add((field, names[0]))
        return _holds(field, names[0])


def _holds(field: str, marked: str) -> str:
    return f"""instr("{marks_column(field)}", '{patterns.mark(marked)}')"""


def _expression(value: SigmaRegularExpression) -> str:
    flags = "".join(sorted(flag.name[0].lower() for flag in value.flags))
    return f"(?{flags}){value.regexp}" if flags else str(value.regexp)


def _wildcards(value: SigmaString, *, anywhere: bool = False) -> str:
    """A text with `*` and `?` as a regular expression without regard to case."""
    parts: list[Any] = [
        part if isinstance(part, SpecialChars) else re.escape(part)
        for part in value.s
        if isinstance(part, str | SpecialChars)
    ]
    if anywhere:
        parts = [SpecialChars.WILDCARD_MULTI, *parts, SpecialChars.WILDCARD_MULTI]
    begin = "" if parts[0] is SpecialChars.WILDCARD_MULTI else "^"
    end = "" if parts[-1] is SpecialChars.WILDCARD_MULTI else r"\z"
    inner = parts[not begin : len(parts) - (not end)]
    return "(?is)" + begin + "".join(_SPECIAL.get(part, part) for part in inner) + end


_SPECIAL: dict[Any, str] = {SpecialChars.WILDCARD_MULTI: ".*", SpecialChars.WILDCARD_SINGLE: "."}


class Condition(NamedTuple):
    """A rule's condition: an SQL expression, the columns that it reads, and what its marks stand for.

    columns: fields that are compared as they are; of a field that is only searched, the marks are read.
    patterns: (field, pattern) pairs; questions: (field, name in `lookup.QUESTIONS`) pairs.
    """

    where: str
    columns: frozenset[str]
    patterns: frozenset[tuple[str, str]]
    questions: frozenset[tuple[str, str]]


def convert(rule: SigmaRule, fields: Iterable[str]) -> Condition:
    """The condition of a rule on these fields. Raises SigmaError, Unsupported."""
    backend = _Backend()
    try:
        queries = backend.convert_rule(rule)
    except patterns.BadPattern as error:
        raise Unsupported(f"detection: {error}") from None
    where = " OR ".join(f"({query.removeprefix(_PREFIX)})" for query in queries)
    marked = {marks_column(field) for field, _ in backend.patterns | backend.questions}
    read = _columns_read(where, {*fields, *marked})
    return Condition(
        where, frozenset(read - marked), frozenset(backend.patterns), frozenset(backend.questions)
    )


def _columns_read(where: str, columns: Iterable[str]) -> set[str]:
    """Have SQLite compile the expression, so that it cannot fail at an event. Raises Unsupported."""
    read: set[str] = set()

    def note(action: int, table: str | None, column: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_READ and column:
            read.add(column)
        return sqlite3.SQLITE_OK

    with closing(sqlite3.connect(":memory:")) as trial:
        names = ", ".join(f'"{name}"' for name in columns)
        trial.execute(f"CREATE TABLE t (_row INTEGER PRIMARY KEY{', ' if names else ''}{names})")
        trial.set_authorizer(note)
        try:
            trial.execute(f"SELECT count(*) FROM t WHERE {where}")  # noqa: S608 - by pySigma, an empty table
        except sqlite3.Error as error:
            raise Unsupported(f"detection: {error}") from None
    return read - {"_row"}
