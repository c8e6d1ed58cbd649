"""Parsing of KQL's queries: sources, operators, `let`. Facts: the published reference of the language."""

from __future__ import annotations

from collections.abc import Callable

from vedette.hub.kql.expressions import Expressions
from vedette.hub.kql.reader import Reader
from vedette.hub.kql.tree import (
    Call,
    Columns,
    Count,
    DataTable,
    Expansion,
    Expression,
    Function,
    Join,
    Key,
    Kind,
    KqlError,
    Let,
    Name,
    Operator,
    Parse,
    Piece,
    Print,
    Query,
    Range,
    Rename,
    Schema,
    Selection,
    Sort,
    Source,
    Statements,
    Summarize,
    Table,
    Take,
    Union,
    Where,
)

JOINS = {
    "innerunique": "innerunique",
    "inner": "inner",
    "leftouter": "leftouter",
    "rightouter": "rightouter",
    "fullouter": "fullouter",
    "leftsemi": "leftsemi",
    "rightsemi": "rightsemi",
    "leftanti": "leftanti",
    "anti": "leftanti",
    "leftantisemi": "leftanti",
    "rightanti": "rightanti",
    "rightantisemi": "rightanti",
}
"""Kinds of `join`, by each of their names."""

STRING: Kind = "string"
"""Type of a parsed column that has none."""

IGNORED = frozenset({"as", "consume", "render"})
"""Operators that say how to show rows, or what to call them, not which."""


def parse(text: str) -> Statements:
    """A query text. Raises KqlError."""
    return Parser(text).statements()


class Parser:
    """Reads a query text; one object reads one."""

    def __init__(self, text: str) -> None:
        self._reader = Reader(text)
        self._expressions = Expressions(self._reader, self)
        self._sources: dict[str, Callable[[int], Source]] = {
            "datatable": self._datatable,
            "print": self._print,
            "range": self._range,
            "union": self._union,
        }
        self._operators: dict[str, Callable[[int], Operator]] = {
            "where": self._where,
            "filter": self._where,
            "project": lambda at: self._columns(at, "project"),
            "extend": lambda at: self._columns(at, "extend"),
            "serialize": self._serialize,
            "distinct": lambda at: self._columns(at, "distinct"),
            "project-away": lambda at: self._selection(at, "project-away"),
            "project-keep": lambda at: self._selection(at, "project-keep"),
            "project-reorder": lambda at: self._selection(at, "project-reorder"),
            "project-rename": self._rename,
            "take": self._take,
            "limit": self._take,
            "sample": self._take,
            "sort": self._sort,
            "order": self._sort,
            "top": self._top,
            "count": lambda at: Count(at=at),
            "getschema": lambda at: Schema(at=at),
            "summarize": self._summarize,
            "join": lambda at: self._join(at, "join"),
            "lookup": lambda at: self._join(at, "lookup"),
            "union": self._union,
            "mv-expand": self._expand,
            "mvexpand": self._expand,
            "parse": lambda at: self._parse(at, matching=False),
            "parse-where": lambda at: self._parse(at, matching=True),
        }

    def statements(self) -> Statements:
        """All of the text."""
        lets = self._lets()
        found = Statements(lets, self.query())
        self._reader.skip(";")
        if self._reader.next.type != "end":
            raise self._reader.unexpected("'|' or the end")
        return found

    def query(self) -> Query:
        """A source and its operators."""
        at = self._reader.next.at
        found = self.tabular_or_expression()
        if isinstance(found, Table):
            return found.query
        if not isinstance(found, Name | Call):
            raise KqlError("expected a table", at)
        return Query(at=at, source=found)

    def tabular_or_expression(self) -> Expression:
        """An expression; a query comes as a `Table`, a name alone may be either."""
        return self._reader.within(self._tabular_or_expression)

    def _tabular_or_expression(self) -> Expression:
        reader, at = self._reader, self._reader.next.at
        source: Source
        if reader.sees(*self._sources) and not reader.ahead("="):
            source = self._sources[reader.take().text](at)
        else:
            found = self._expressions.expression()
            if not reader.sees("|"):
                return found
            if not isinstance(found, Name | Call | Table):
                raise KqlError("expected a table before '|'", at)
            source = found
        return Table(at=at, query=Query(at=at, source=source, operators=self._pipeline()))

    def _pipeline(self) -> tuple[Operator, ...]:
        found: list[Operator] = []
        while self._reader.skip("|"):
            at = self._reader.next.at
            name = self._operator_name()
            if name in IGNORED:
                self._reader.pass_by()
            elif name not in self._operators:
                known = ", ".join(sorted({*self._operators, *IGNORED}))
                raise KqlError(f"the operator {name!r} is not supported; supported are {known}", at)
            else:
                found.append(self._operators[name](at))
        return tuple(found)

    def _operator_name(self) -> str:
        name = self._reader.word("an operator").text
        while self._reader.sees("-") and name in ("project", "mv", "parse", "make", "top", "graph", "sample"):
            self._reader.take()
            name += "-" + self._reader.word("an operator").text
        return name

    # -- let

    def _lets(self) -> tuple[Let, ...]:
        found = []
        while self._reader.sees("let", "set"):
            at = self._reader.next.at
            if self._reader.take().text == "set":
                raise KqlError("'set' is not supported: leave the statement out", at)
            name = self._reader.word("a name").text
            self._reader.expect("=")
            found.append(Let(at=at, name=name, value=self._bound()))
            self._reader.expect(";")
        return tuple(found)

    def _bound(self) -> Expression | Function:
        reader, at = self._reader, self._reader.next.at
        if reader.sees("view") and reader.ahead("("):
            reader.take()
        if not (reader.sees("(") and (reader.ahead(")") or reader.ahead(":", 2))):
            return self.tabular_or_expression()
        reader.take()
        parameters = () if reader.sees(")") else reader.listed(self._parameter)
        reader.expect(")")
        reader.expect("{")
        lets = self._lets()
        body = self.tabular_or_expression()
        reader.skip(";")
        reader.expect("}")
        return Function(at=at, parameters=parameters, lets=lets, body=body)

    def _parameter(self) -> tuple[str, Expression | None]:
        name = self._reader.word("a parameter").text
        self._reader.expect(":")
        if self._reader.skip("("):
            while not self._reader.skip(")"):
                self._reader.take()
        else:
            self._reader.kind()
        return name, self._expressions.expression() if self._reader.skip("=") else None

    # -- sources

    def _datatable(self, at: int) -> Source:
        reader = self._reader
        reader.expect("(")
        columns = reader.listed(self._column)
        reader.expect(")")
        reader.expect("[")
        values = []
        while not reader.skip("]"):
            values.append(self._expressions.expression())
            reader.skip(",")
        if len(values) % len(columns):
            raise KqlError(f"{len(values)} values do not fill rows of {len(columns)}", at)
        return DataTable(at=at, columns=columns, values=tuple(values))

    def _column(self) -> tuple[str, Kind]:
        name = self._reader.word("a column").text
        self._reader.expect(":")
        return name, self._reader.kind()

    def _print(self, at: int) -> Source:
        return Print(at=at, targets=self._reader.listed(self._expressions.target))

    def _range(self, at: int) -> Source:
        name = self._reader.word("a column").text
        bounds = []
        for word in ("from", "to", "step"):
            self._reader.expect(word)
            bounds.append(self._expressions.expression())
        return Range(at=at, name=name, first=bounds[0], last=bounds[1], step=bounds[2])

    def _table(self) -> Query:
        """A name, which may have `*` in it, or a query in parentheses."""
        reader, at = self._reader, self._reader.next.at
        if reader.skip("("):
            query = self.query()
            reader.expect(")")
            return query
        name = reader.word("a table")
        text = name.text + ("*" if reader.skip("*") else "")
        if reader.sees("("):
            return Query(at=at, source=self._call(name.text, at))
        return Query(at=at, source=Name(at=at, name=text))

    def _call(self, name: str, at: int) -> Call:
        self._reader.expect("(")
        arguments = () if self._reader.sees(")") else self._reader.listed(self.tabular_or_expression)
        self._reader.expect(")")
        return Call(at=at, name=name, arguments=arguments)

    # -- operators

    def _where(self, at: int) -> Operator:
        return Where(at=at, condition=self._expressions.expression())

    def _columns(self, at: int, op: str) -> Operator:
        return Columns(at=at, op=op, targets=self._reader.listed(self._expressions.target))

    def _serialize(self, at: int) -> Operator:
        bare = self._reader.sees("|", ";", ")", "}", "the end")
        return Columns(at=at, op="extend", targets=()) if bare else self._columns(at, "extend")

    def _selection(self, at: int, op: str) -> Operator:
        return Selection(at=at, op=op, patterns=self._reader.listed(self._pattern))

    def _pattern(self) -> str:
        if self._reader.skip("*"):
            return "*"
        name = self._reader.word("a column").text + ("*" if self._reader.skip("*") else "")
        self._reader.skip("asc", "desc")
        return name

    def _rename(self, at: int) -> Operator:
        return Rename(at=at, names=self._reader.listed(self._renamed))

    def _renamed(self) -> tuple[str, str]:
        new = self._reader.word("a column").text
        self._reader.expect("=")
        return new, self._reader.word("a column").text

    def _take(self, at: int) -> Operator:
        return Take(at=at, rows=int(self._reader.constant("long", "a number of rows").value))

    def _sort(self, at: int) -> Operator:
        self._reader.hints()
        self._reader.expect("by")
        return Sort(at=at, keys=self._reader.listed(self._key))

    def _top(self, at: int) -> Operator:
        rows = int(self._reader.constant("long", "a number of rows").value)
        self._reader.hints()
        self._reader.expect("by")
        return Sort(at=at, keys=self._reader.listed(self._key), rows=rows)

    def _key(self) -> Key:
        reader, at = self._reader, self._reader.next.at
        value = self._expressions.expression()
        ascending = reader.skip("asc") or (reader.skip("desc") and False)
        nulls_first = ascending
        if reader.skip("nulls"):
            nulls_first = reader.skip("first")
            if not nulls_first:
                reader.expect("last")
        return Key(at=at, value=value, ascending=ascending, nulls_first=nulls_first)

    def _summarize(self, at: int) -> Operator:
        reader = self._reader
        reader.hints()
        aggregates = () if reader.sees("by") else reader.listed(self._expressions.target)
        by = reader.listed(self._expressions.target) if reader.skip("by") else ()
        return Summarize(at=at, aggregates=aggregates, by=by)

    def _join(self, at: int, op: str) -> Operator:
        reader = self._reader
        default = "innerunique" if op == "join" else "leftouter"
        reader.hints()
        kind = reader.option("kind") or default
        reader.hints()
        kinds = JOINS if op == "join" else {"leftouter": "leftouter", "inner": "inner"}
        if kind not in kinds:
            raise KqlError(f"{op} has no kind {kind!r}; there are {', '.join(sorted(kinds))}", at)
        right = self._table()
        reader.expect("on")
        return Join(at=at, op=op, kind=kinds[kind], right=right, on=reader.listed(self._condition))

    def _condition(self) -> tuple[str, str]:
        left = self._side()
        return (left, self._side()) if self._reader.skip("==") else (left, left)

    def _side(self) -> str:
        if self._reader.skip("$left", "$right"):
            self._reader.expect(".")
        return self._reader.word("a column").text

    def _union(self, at: int) -> Union:
        reader = self._reader
        reader.hints()
        options = {"kind": "outer", "withsource": "", "isfuzzy": "false"}
        while name := next((name for name in options if reader.sees(name) and reader.ahead("=")), ""):
            options[name] = reader.option(name)
            reader.hints()
        return Union(
            at=at,
            tables=reader.listed(self._table),
            inner=options["kind"] == "inner",
            source_column=options["withsource"],
            fuzzy=options["isfuzzy"] == "true",
        )

    def _expand(self, at: int) -> Operator:
        reader = self._reader
        reader.option("kind", "bagexpansion")
        index = reader.option("with_itemindex")
        target = self._expressions.target()
        kind: Kind = "dynamic"
        if reader.skip("to"):
            reader.expect("typeof")
            reader.expect("(")
            kind = reader.kind()
            reader.expect(")")
        if reader.sees(","):
            raise KqlError("mv-expand of several columns at once is not supported", reader.next.at)
        limit = int(reader.constant("long", "a number").value) if reader.skip("limit") else None
        return Expansion(at=at, target=target, kind=kind, index=index, limit=limit)

    def _parse(self, at: int, *, matching: bool) -> Operator:
        reader = self._reader
        how = reader.option("kind") or "simple"
        if how not in ("simple", "regex"):
            raise KqlError(f"parse has no kind {how!r} here; there are regex, simple", at)
        value = self._expressions.expression()
        reader.expect("with")
        pieces = []
        while reader.sees("*") or reader.next.type in ("constant", "word"):
            if piece := self._piece():
                pieces.append(piece)
        if not pieces:
            raise reader.unexpected("a pattern")
        return Parse(at=at, value=value, pieces=tuple(pieces), regex=how == "regex", matching=matching)

    def _piece(self) -> Piece | None:
        """A star, a text and a column, each of which may be missing; None for a star at the end."""
        reader = self._reader
        star = reader.skip("*")
        text, name, kind = "", "", STRING
        if reader.next.type == "constant":
            text = str(reader.constant("string", "a text").value)
        elif star:
            return None
        if reader.next.type == "word":
            name = reader.take().text
            kind = reader.kind() if reader.skip(":") else kind
        return Piece(star, text, name, kind)
