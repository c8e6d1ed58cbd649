"""The common forms of the IoT Hub query language: which twins, and what of them. Pure.

    SELECT * FROM devices WHERE tags.site = 'north' AND properties.reported.ok = true
    SELECT deviceId, tags.site AS site FROM devices.modules WHERE moduleId IN ['a', 'b']
    SELECT status, COUNT() AS n FROM devices GROUP BY status

Theory. A query is parsed once by recursive descent; its WHERE becomes a tree (`registry.conditions`) that
`registry.sql` has the database evaluate. Errors name what was expected, what stands there and where.

Left out on purpose: jobs, user-defined functions, ORDER BY, and functions other than COUNT, IS_DEFINED and
STARTS_WITH.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from math import isfinite
from typing import Any, Literal, get_args

import msgspec

from vedette.hub.registry.conditions import (
    ALWAYS,
    UNDEFINED,
    All,
    Among,
    Compare,
    Condition,
    Defined,
    Document,
    Not,
    Path,
    Sign,
    Some,
    Starts,
    holds,
    lookup,
)
from vedette.hub.registry.times import time_text

MAX_CHARACTERS = 4_096
"""Of a query's text: a hundred comparisons."""

MAX_NESTING = 20
"""Parentheses and NOTs inside each other: the parser's stack."""

MAX_GROUPS = 10_000
"""Rows of a GROUP BY: they are kept until the last twin is counted."""

MAX_INTEGER = 2**63 - 1
"""Of a number without a fraction, and, less one, below zero: what databases hold."""

TIMES = frozenset({"lastActivityTime", "$lastUpdated"})
"""Names of values that are times, as text. What they are compared with is brought into the same form."""


class QueryError(ValueError):
    """Text that is not a query of this language; the message says what was expected where."""


class Column(msgspec.Struct, frozen=True):
    """One selected value: a path, or with an empty path the number of twins."""

    name: str
    path: Path


class Query(msgspec.Struct, frozen=True):
    """A parsed query. columns: empty for `*`. top: at most so many rows, 0 for all."""

    source: Literal["devices", "devices.modules"]
    columns: tuple[Column, ...]
    top: int
    condition: Condition
    group_by: Path

    def where(self, document: Document) -> bool:
        """Whether the condition holds for a twin."""
        return holds(self.condition, document)

    @property
    def counts(self) -> bool:
        """True if all twins have to be seen before the first row is known."""
        return any(not column.path for column in self.columns)

    def row(self, document: Document) -> dict[str, Any]:
        """What is selected of one twin."""
        if not self.columns:
            return dict(document)
        values = ((column.name, lookup(document, column.path)) for column in self.columns)
        return {name: value for name, value in values if value is not UNDEFINED}

    def rows(self, counted: Counter[str]) -> list[dict[str, Any]]:
        """The rows of a query that counts, from the number of twins in each `group`."""
        if not self.group_by:
            counted = Counter({"null": counted.total()})
        return [
            {column.name: msgspec.json.decode(group) if column.path else number for column in self.columns}
            for group, number in sorted(counted.items())
        ]

    def group(self, document: Document) -> str:
        """Which group a twin counts in, as JSON."""
        value = lookup(document, self.group_by) if self.group_by else None
        return msgspec.json.encode(None if value is UNDEFINED else value).decode()


def parse(text: str) -> Query:
    """Parse a query. Raises QueryError."""
    if len(text) > MAX_CHARACTERS:
        raise QueryError(f"query: longer than {MAX_CHARACTERS} characters")
    return _Parser(text).query()


_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*")
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_$][\w$-]*)
      | (?P<sign><=|>=|!=|<>|[=<>(),.*\[\]])
      | (?P<end>$))""",
    re.VERBOSE,
)

_CONSTANTS = {"TRUE": True, "FALSE": False, "NULL": None}


class _Parser:
    """Recursive descent over the tokens: (kind, text, place), the last of them of the kind `end`."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._nesting = 0

    def query(self) -> Query:
        self._need("SELECT")
        top = self._integer() if self._word("TOP") else 0
        columns = self._columns()
        self._need("FROM")
        source = ".".join(self._path())
        if source not in ("devices", "devices.modules"):
            raise QueryError("query: FROM devices or FROM devices.modules is known")
        condition = self._either() if self._word("WHERE") else ALWAYS
        group_by: Path = ()
        if self._word("GROUP"):
            self._need("BY")
            group_by = self._path()
        if self._kind != "end":
            raise self._wrong("the end")
        query = Query(source, columns, top, condition, group_by)  # type: ignore[arg-type]  # judged above
        _check_columns(query)
        return query

    def _columns(self) -> tuple[Column, ...]:
        if self._sign("*"):
            return ()
        columns = [self._column()]
        while self._sign(","):
            columns.append(self._column())
        return tuple(columns)

    def _column(self) -> Column:
        path = self._path()
        if [name.upper() for name in path] == ["COUNT"] and self._sign("("):
            self._sign("*")
            self._need(")")
            path = ()
        name = ".".join(self._path()) if self._word("AS") else (path[-1] if path else "count")
        return Column(name, path)

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._word("OR"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._word("AND"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self) -> Condition:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise QueryError(f"query: nested deeper than {MAX_NESTING}{self._place}")
        try:
            if self._word("NOT"):
                return Not(self._one())
            if self._sign("("):
                inner = self._either()
                self._need(")")
                return inner
            return self._comparison()
        finally:
            self._nesting -= 1

    def _comparison(self) -> Condition:
        place = self._place
        path = self._path()
        if self._sign("("):
            return self._function(path[0].upper(), place)
        if self._word("IN"):
            return self._among(path)
        if self._word("NIN"):
            return All((Defined(path), Not(self._among(path))))
        sign = "!=" if self._text == "<>" else self._text
        if self._kind != "sign" or sign not in get_args(Sign):
            raise self._wrong("a comparison")
        self._at += 1
        return Compare(path, sign, self._value(path))  # type: ignore[arg-type]  # judged above

    def _among(self, path: Path) -> Condition:
        return Among(path, tuple(self._list(path)))

    def _function(self, name: str, place: str) -> Condition:
        path = self._path()
        if name == "IS_DEFINED":
            self._need(")")
            return Defined(path)
        if name not in ("STARTSWITH", "STARTS_WITH"):
            raise QueryError(f"query: the functions COUNT, IS_DEFINED and STARTS_WITH are known{place}")
        self._need(",")
        place = self._place
        start = self._literal()
        self._need(")")
        if not isinstance(start, str):
            raise QueryError(f"query: STARTS_WITH needs text{place}")
        return Starts(path, start)

    def _list(self, path: Path) -> list[Any]:
        close = "]" if self._sign("[") else ")"
        if close == ")":
            self._need("(")
        values = [self._value(path)]
        while self._sign(","):
            values.append(self._value(path))
        self._need(close)
        return values

    def _value(self, path: Path) -> Any:
        """What a path is compared with."""
        place = self._place
        value = self._literal()
        if path[-1] not in TIMES or not isinstance(value, str):
            return value
        try:
            return time_text(datetime.fromisoformat(value))
        except ValueError:
            raise QueryError(
                f"query: {'.'.join(path)}: {value[:32]!r} is no time (ISO 8601){place}"
            ) from None

    def _literal(self) -> Any:
        kind, text = self._kind, self._text
        self._at += 1
        if kind == "text":
            return _unquoted(text)
        if kind == "number":
            return self._number(text)
        if kind == "word" and text.upper() in _CONSTANTS:
            return _CONSTANTS[text.upper()]
        self._at -= 1
        raise self._wrong("a value")

    def _number(self, text: str) -> int | float:
        if not text.lstrip("-").isdigit():
            number: int | float = float(text)
        elif len(text) > len(str(MAX_INTEGER)) + 1:
            number = float("inf")
        else:
            number = int(text)
        if isfinite(number) and (isinstance(number, float) or -MAX_INTEGER <= number <= MAX_INTEGER):
            return number
        self._at -= 1
        raise self._wrong("a number of 64 bits")

    def _path(self) -> Path:
        names = [self._name()]
        while True:
            if self._sign("."):
                names.append(self._name())
            elif self._kind == "sign" and self._text == "[":
                self._at += 1
                names.append(self._key())
                self._need("]")
            else:
                return tuple(names)

    def _key(self) -> str:
        place = self._place
        key = str(self._literal())
        if any(char in '"\\' or ord(char) < 0x20 for char in key):
            raise QueryError(
                f"query: quotes, backslashes and control characters in keys are not known{place}"
            )
        return key

    def _name(self) -> str:
        if self._kind != "word":
            raise self._wrong("a name")
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _integer(self) -> int:
        text = self._text
        if self._kind != "number" or not text.isdigit() or not int(text):
            raise self._wrong("a number of rows")
        self._at += 1
        return int(text)

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _text(self) -> str:
        return self._tokens[self._at][1]

    @property
    def _place(self) -> str:
        return f" (character {self._tokens[self._at][2] + 1})"

    def _word(self, keyword: str) -> bool:
        return self._accept("word", keyword)

    def _sign(self, sign: str) -> bool:
        return self._accept("sign", sign)

    def _accept(self, kind: str, text: str) -> bool:
        accepted = self._kind == kind and self._text.upper() == text
        self._at += accepted
        return accepted

    def _need(self, text: str) -> None:
        if not self._accept("word" if text.isalpha() else "sign", text):
            raise self._wrong(text)

    def _wrong(self, wanted: str) -> QueryError:
        return QueryError(
            f"query: {wanted} expected instead of {self._text[:32] or 'the end'!r}{self._place}"
        )


def _tokens(text: str) -> Iterable[tuple[str, str, int]]:
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise QueryError(f"query: {text[at : at + 16]!r} is not understood (character {at + 1})")
        kind = str(match.lastgroup)
        yield kind, match[kind], match.start(kind)
        if kind == "end":
            return
        at = match.end()


def _check_columns(query: Query) -> None:
    """A query that counts selects besides the count only what it groups by."""
    if query.group_by and not query.counts:
        raise QueryError("query: GROUP BY needs COUNT()")
    if query.counts and any(column.path not in ((), query.group_by) for column in query.columns):
        raise QueryError("query: beside COUNT() only the GROUP BY path can be selected")


def _unquoted(text: str) -> str:
    quote, inner = text[0], text[1:-1]
    if quote == "'":
        inner = inner.replace("''", "'")
    return re.sub(r"\\(.)", r"\1", inner)
