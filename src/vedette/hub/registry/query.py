"""The common forms of the IoT Hub query language: which twins, and what of them. Pure.

    SELECT * FROM devices WHERE tags.site = 'north' AND properties.reported.ok = true
    SELECT deviceId, tags.site AS site FROM devices.modules WHERE moduleId IN ['a', 'b']
    SELECT status, COUNT() AS n FROM devices GROUP BY status

Theory. A query is parsed once by recursive descent into functions over a twin document (as the service API
shows it), so that every database answers alike. A path that is not there is undefined, and a comparison with
something undefined, or of two types, is false, as in the real service.

Left out on purpose: jobs, user-defined functions, ORDER BY, and functions other than COUNT, IS_DEFINED and
STARTS_WITH.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

MAX_CHARACTERS = 4_096
"""Of a query's text: a hundred comparisons."""

MAX_NESTING = 20
"""Parentheses and NOTs inside each other: the parser's stack."""

MAX_GROUPS = 10_000
"""Rows of a GROUP BY: they are kept until the last twin is counted."""

Document: TypeAlias = Mapping[str, Any]
Condition: TypeAlias = Callable[[Document], bool]
Path: TypeAlias = tuple[str, ...]


class QueryError(ValueError):
    """Text that is not a query of this language; the message says what was expected where."""


class Undefined:
    """The value of a path that is not there."""


UNDEFINED = Undefined()


class Column(msgspec.Struct, frozen=True):
    """One selected value: a path, or with an empty path the number of twins."""

    name: str
    path: Path


class Query(msgspec.Struct, frozen=True):
    """A parsed query. columns: empty for `*`. top: at most so many rows, 0 for all.

    device_id: the only device that the condition can hold for, empty if that is not plain from its form.
    """

    source: Literal["devices", "devices.modules"]
    columns: tuple[Column, ...]
    top: int
    where: Condition
    group_by: Path
    device_id: str = ""

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


def lookup(document: Document, path: Path) -> Any:
    """The value at a path; UNDEFINED if there is none."""
    value: Any = document
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return UNDEFINED
        value = value[name]
    return value


_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*")
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_$][\w$-]*)
      | (?P<sign><=|>=|!=|<>|[=<>(),.*\[\]])
      | (?P<end>$))""",
    re.VERBOSE,
)

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_CONSTANTS = {"TRUE": True, "FALSE": False, "NULL": None}


class _Parser:
    """Recursive descent over the tokens: (kind, text) pairs, the last of them ("end", "")."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._nesting = 0
        self._device_id = ""
        self._alternatives = False

    def query(self) -> Query:
        self._need("SELECT")
        top = self._integer() if self._word("TOP") else 0
        columns = self._columns()
        self._need("FROM")
        source = ".".join(self._path())
        if source not in ("devices", "devices.modules"):
            raise QueryError("query: FROM devices or FROM devices.modules is known")
        where = self._either() if self._word("WHERE") else _always
        group_by: Path = ()
        if self._word("GROUP"):
            self._need("BY")
            group_by = self._path()
        if self._kind != "end":
            raise self._wrong("the end")
        device_id = "" if self._alternatives else self._device_id
        query = Query(source, columns, top, where, group_by, device_id)  # type: ignore[arg-type]  # judged above
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
            self._alternatives = True
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda twin: any(part(twin) for part in parts)

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._word("AND"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda twin: all(part(twin) for part in parts)

    def _one(self) -> Condition:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise QueryError(f"query: nested deeper than {MAX_NESTING}")
        try:
            if self._word("NOT"):
                self._alternatives = True
                inner = self._one()
                return lambda twin: not inner(twin)
            if self._sign("("):
                inner = self._either()
                self._need(")")
                return inner
            return self._comparison()
        finally:
            self._nesting -= 1

    def _comparison(self) -> Condition:
        path = self._path()
        if self._sign("("):
            return self._function(path[0].upper())
        if self._word("IN"):
            return _among(path, self._list())
        if self._word("NIN"):
            values = self._list()
            return lambda twin: lookup(twin, path) is not UNDEFINED and not _among(path, values)(twin)
        sign = self._text
        if self._kind != "sign" or sign not in _COMPARISONS:
            raise self._wrong("a comparison")
        self._at += 1
        wanted = self._literal()
        if (path, sign) == (("deviceId",), "=") and isinstance(wanted, str):
            self._device_id = wanted
        return _comparing(path, _COMPARISONS[sign], wanted)

    def _function(self, name: str) -> Condition:
        path = self._path()
        if name == "IS_DEFINED":
            self._need(")")
            return lambda twin: lookup(twin, path) is not UNDEFINED
        if name not in ("STARTSWITH", "STARTS_WITH"):
            raise QueryError("query: the functions COUNT, IS_DEFINED and STARTS_WITH are known")
        self._need(",")
        start = self._literal()
        self._need(")")
        if not isinstance(start, str):
            raise QueryError("query: STARTS_WITH needs text")
        return lambda twin: isinstance(value := lookup(twin, path), str) and value.startswith(start)

    def _list(self) -> list[Any]:
        close = "]" if self._sign("[") else ")"
        if close == ")":
            self._need("(")
        values = [self._literal()]
        while self._sign(","):
            values.append(self._literal())
        self._need(close)
        return values

    def _literal(self) -> Any:
        kind, text = self._kind, self._text
        self._at += 1
        if kind == "text":
            return _unquoted(text)
        if kind == "number":
            return int(text) if text.lstrip("-").isdigit() else float(text)
        if kind == "word" and text.upper() in _CONSTANTS:
            return _CONSTANTS[text.upper()]
        self._at -= 1
        raise self._wrong("a value")

    def _path(self) -> Path:
        names = [self._name()]
        while True:
            if self._sign("."):
                names.append(self._name())
            elif self._kind == "sign" and self._text == "[":
                self._at += 1
                names.append(str(self._literal()))
                self._need("]")
            else:
                return tuple(names)

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
        return QueryError(f"query: {wanted} expected instead of {self._text[:32] or 'the end'!r}")


def _tokens(text: str) -> Iterable[tuple[str, str]]:
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            raise QueryError(f"query: {text[at : at + 16].strip()!r} is not understood")
        kind = str(match.lastgroup)
        yield kind, match[kind]
        if kind == "end":
            return
        at = match.end()


def _check_columns(query: Query) -> None:
    """A query that counts selects besides the count only what it groups by."""
    if query.group_by and not query.counts:
        raise QueryError("query: GROUP BY needs COUNT()")
    if query.counts and any(column.path not in ((), query.group_by) for column in query.columns):
        raise QueryError("query: beside COUNT() only the GROUP BY path can be selected")


def _always(_: Document) -> bool:
    return True


def _among(path: Path, values: list[Any]) -> Condition:
    conditions = [_comparing(path, operator.eq, value) for value in values]
    return lambda twin: any(condition(twin) for condition in conditions)


def _comparing(path: Path, compare: Callable[[Any, Any], bool], wanted: Any) -> Condition:
    def condition(document: Document) -> bool:
        value = lookup(document, path)
        if value is UNDEFINED:
            return False
        if _type(value) is not _type(wanted):
            return compare is operator.ne
        if wanted is None or isinstance(wanted, bool):
            return compare in (operator.eq, operator.ne) and compare(value, wanted)
        return compare(value, wanted)

    return condition


def _type(value: Any) -> type:
    """Numbers are one type; truth values are none of them."""
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def _unquoted(text: str) -> str:
    quote, inner = text[0], text[1:-1]
    if quote == "'":
        inner = inner.replace("''", "'")
    return re.sub(r"\\(.)", r"\1", inner)
