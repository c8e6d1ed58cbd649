"""A query's tree to SQL: a common table expression for each source and each operator.

Rows that have been sorted carry what they were sorted by in columns of their own, so that the order survives
until the end, where SQL wants it said.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from msgspec import Struct

from vedette.hub.kql import tree
from vedette.hub.kql.dialect import Dialect, Sql
from vedette.hub.kql.functions import LIST, MATCHES
from vedette.hub.kql.joins import join, united
from vedette.hub.kql.naming import Names, matches
from vedette.hub.kql.parser import parse
from vedette.hub.kql.scalars import Binding, Bindings, Scope
from vedette.hub.kql.summarize import summarize
from vedette.hub.kql.tree import Call, Expression, Function, Kind, KqlError, Name, Star, Table
from vedette.hub.kql.values import Value, common, literal, to

Tables = Mapping[str, Mapping[str, Kind]]
"""Table → its columns, in order."""

MAX_STEPS = 500
"""Table expressions of one query: functions that call functions twice each would make any number of them."""

SERIES = Sql("unnest(generate_series({0}, {1}, {2}))", "explode(sequence({0}, {1}, {2}))")
NUMBERED = Sql("unnest(generate_series(1, len({0})))", "explode(sequence(1, size({0})))")
ITEMS = Sql(
    "CASE json_type(TRY_CAST({0} AS JSON)) WHEN 'ARRAY' THEN {1} "
    "WHEN 'OBJECT' THEN error('mv-expand takes a list, not a bag') ELSE [{0}] END",
    "CASE WHEN {0} LIKE '[%' THEN {1} "
    "WHEN {0} LIKE '{{%' THEN CAST(raise_error('mv-expand takes a list, not a bag') AS ARRAY<STRING>) "
    "ELSE array({0}) END",
)


class Translation(Struct, frozen=True):
    """SQL, and the columns of its result."""

    sql: str
    columns: Mapping[str, Kind]


class Relation(Struct, frozen=True):
    """Rows under a name. order: columns, with directions, that they are sorted by."""

    name: str
    columns: dict[str, Kind]
    order: tuple[tuple[str, str], ...] = ()

    def ordered(self) -> str:
        """ORDER BY, if there is an order."""
        return f" ORDER BY {self.sorting()}" if self.order else ""

    def sorting(self) -> str:
        """The order alone."""
        return ", ".join(f"{column} {direction}" for column, direction in self.order)


def translate(text: str, tables: Tables, dialect: Dialect, now: float | None = None) -> Translation:
    """SQL for a query text. now: Unix seconds, what `now()` is. Raises KqlError."""
    statements = parse(text)
    emitter = Emitter(dialect, tables, round((time.time() if now is None else now) * 1_000_000))
    bindings = bound(statements.lets, {})
    result = emitter.query(statements.query, bindings)
    names = ", ".join(
        f"{dialect.shown(dialect.name(name), kind)} AS {dialect.name(name)}"
        for name, kind in result.columns.items()
    )
    sql = f"WITH {', '.join(emitter.expressions)}\nSELECT {names} FROM {result.name}{result.ordered()}"
    return Translation(sql, result.columns)


def bound(lets: Iterable[tree.Let], scope: Bindings) -> Bindings:
    """A scope with more names in it; each sees those before it."""
    for let in lets:
        scope = {**scope, let.name: Binding(let.value, scope)}
    return scope


class Emitter:
    """Collects the common table expressions of one query. now: microseconds since 1970."""

    def __init__(self, dialect: Dialect, tables: Tables, now: int) -> None:
        self.dialect = dialect
        self.tables = tables
        self.now = now
        self.expressions: list[str] = []
        self._columns = 0
        self._at = 0
        self._bound: dict[int, tuple[Binding, Relation]] = {}
        self._operators: dict[type, Callable[[Any, Relation, Bindings], Relation]] = {
            tree.Where: self._where,
            tree.Columns: self._targets,
            tree.Selection: self._selection,
            tree.Rename: self._rename,
            tree.Take: self._take,
            tree.Sort: self._sort,
            tree.Count: self._count,
            tree.Schema: self._schema,
            tree.Summarize: partial(summarize, self),
            tree.Join: partial(join, self),
            tree.Union: lambda op, rows, bindings: united(self, op, [("", rows)], bindings),
            tree.Expansion: self._expand,
            tree.Parse: self._parse,
        }

    def query(self, query: tree.Query, bindings: Bindings) -> Relation:
        """The rows of a query. Raises KqlError."""
        relation = self._source(query.source, bindings)
        for operator in query.operators:
            self._at = operator.at
            relation = self._operators[type(operator)](operator, relation, bindings)
        return relation

    def nested(self, node: Expression, bindings: Bindings) -> Relation | None:
        """The rows of an expression, if it is a table."""
        if isinstance(node, Table):
            return self.query(node.query, bindings)
        if isinstance(node, Name):
            named = bindings.get(node.name)
            if isinstance(named, Binding) and not isinstance(named.value, Function):
                return self._let(named)
            return self._source(node, bindings) if node.name in self.tables else None
        if isinstance(node, Call):
            declared = bindings.get(node.name)
            if isinstance(declared, Binding) and isinstance(declared.value, Function):
                inner = self.applied(node, declared, declared.value, Scope(self, {}, bindings))
                return self.nested(declared.value.body, inner)
        return None

    def applied(self, call: Call, where: Binding, function: Function, scope: Scope) -> Bindings:
        """What the body of a declared function sees."""
        if len(call.arguments) > len(function.parameters):
            raise KqlError(f"{call.name}() takes {len(function.parameters)} arguments", call.at)
        given: dict[str, Binding | Value] = dict(where.scope)
        for index, (name, default) in enumerate(function.parameters):
            argument = call.arguments[index] if index < len(call.arguments) else default
            if argument is None:
                raise KqlError(f"{call.name}() needs a value for {name}", call.at)
            constant = isinstance(scope.resolved(argument), tree.Constant | Table)
            tabular = isinstance(argument, Name) and argument.name in self.tables
            if constant or tabular:
                given[name] = Binding(scope.resolved(argument), scope.bindings)
            else:
                given[name] = scope.value(argument)
        return bound(function.lets, given)

    # -- sources

    def _source(self, source: tree.Source, bindings: Bindings) -> Relation:
        match source:
            case tree.DataTable():
                return self._datatable(source, bindings)
            case tree.Print():
                scope = Scope(self, {}, bindings)
                values = [
                    (target.name or f"print_{index}", scope.value(target.value))
                    for index, target in enumerate(source.targets)
                ]
                return self.select("", values)
            case tree.Range():
                return self._range(source, Scope(self, {}, bindings))
            case tree.Union():
                return united(self, source, [], bindings)
            case Name() if source.name in self.tables and source.name not in bindings:
                return self.stored(source.name)
        relation = self.nested(source, bindings)
        if relation is None:
            raise self._unknown(source)
        return relation

    def _unknown(self, source: tree.Source) -> KqlError:
        if not isinstance(source, Name):
            name = source.name if isinstance(source, Call) else "this"
            return KqlError(f"{name} is no table", source.at)
        near = difflib.get_close_matches(source.name, self.tables, 3, 0.5)
        hint = (
            f"; did you mean {' or '.join(near)}?"
            if near
            else f"; there are {', '.join(sorted(self.tables))}"
        )
        return KqlError(f'no table "{source.name}"{hint}', source.at)

    def stored(self, name: str) -> Relation:
        """A table."""
        columns = [
            (column, Value(self.dialect.stored(column, kind), kind))
            for column, kind in self.tables[name].items()
        ]
        return self.select(f" FROM {self.dialect.name(name)}", columns)

    def _let(self, named: Binding) -> Relation | None:
        """A bound table, made once however often it is named."""
        if id(named) not in self._bound:
            assert not isinstance(named.value, Function)
            relation = self.nested(named.value, named.scope)
            if relation is None:
                return None
            self._bound[id(named)] = (named, relation)  # kept, so that its id stays its own
        return self._bound[id(named)][1]

    def _datatable(self, source: tree.DataTable, bindings: Bindings) -> Relation:
        scope, width = Scope(self, {}, bindings), len(source.columns)
        rows = []
        for start in range(0, len(source.values), width):
            cells = [
                f"{to(self.dialect, scope.value(cell), kind, cell.at).sql} AS {self.dialect.name(name)}"
                for cell, (name, kind) in zip(
                    source.values[start : start + width], source.columns, strict=True
                )
            ]
            rows.append(f"SELECT {', '.join(cells)}")
        empty = ", ".join(
            f"{literal(self.dialect, None, kind)} AS {self.dialect.name(name)}"
            for name, kind in source.columns
        )
        return self.add(" UNION ALL ".join(rows) or f"SELECT {empty} WHERE FALSE", dict(source.columns))

    def _range(self, source: tree.Range, scope: Scope) -> Relation:
        first, last, step = (scope.value(part) for part in (source.first, source.last, source.step))
        name, kind = self.dialect.name(source.name), first.kind
        if kind == "datetime":
            raise KqlError("range of times is not supported: use numbers, and datetime_add()", source.at)
        kind = common([first, last], source.at)
        if kind not in ("long", "timespan") or step.kind not in ("long", "timespan"):
            raise KqlError("range takes whole numbers", source.at)
        series = self.dialect.write(SERIES, first.sql, last.sql, step.sql)
        return self.add(f"SELECT {series} AS {name}", {source.name: kind})

    # -- operators of rows

    def _where(self, op: tree.Where, rows: Relation, bindings: Bindings) -> Relation:
        condition = self.scope(rows, bindings).condition(op.condition)
        return self.add(f"SELECT * FROM {rows.name} WHERE {condition}", rows.columns, rows.order)

    def _take(self, op: tree.Take, rows: Relation, bindings: Bindings) -> Relation:
        sql = f"SELECT * FROM {rows.name}{rows.ordered()} LIMIT {op.rows}"
        return self.add(sql, rows.columns, rows.order)

    def _sort(self, op: tree.Sort, rows: Relation, bindings: Bindings) -> Relation:
        scope = self.scope(rows, bindings)
        order, hidden = [], []
        for key in op.keys:
            self._columns += 1
            name = f"_o{self._columns}"
            hidden.append(f"{scope.value(key.value).sql} AS {name}")
            nulls = "FIRST" if key.nulls_first else "LAST"
            order.append((name, f"{'ASC' if key.ascending else 'DESC'} NULLS {nulls}"))
        names = ", ".join([self.listed(rows.columns), *hidden])
        rows = self.add(f"SELECT {names} FROM {rows.name}", rows.columns, tuple(order))
        return rows if op.rows is None else self._take(tree.Take(at=op.at, rows=op.rows), rows, bindings)

    def _count(self, op: tree.Count, rows: Relation, bindings: Bindings) -> Relation:
        return self.add(
            f"SELECT count(*) AS {self.dialect.name('Count')} FROM {rows.name}", {"Count": "long"}
        )

    def _schema(self, op: tree.Schema, rows: Relation, bindings: Bindings) -> Relation:
        columns: dict[str, Kind] = {"ColumnName": "string", "ColumnOrdinal": "long", "ColumnType": "string"}
        described = []
        for index, (name, kind) in enumerate(rows.columns.items()):
            cells: list[tuple[str, Any, Kind]] = [
                ("ColumnName", name, "string"),
                ("ColumnOrdinal", index, "long"),
                ("ColumnType", kind, "string"),
            ]
            described.append(
                "SELECT "
                + ", ".join(
                    f"{literal(self.dialect, value, kind)} AS {self.dialect.name(column)}"
                    for column, value, kind in cells
                )
            )
        return self.add(" UNION ALL ".join(described), columns)

    # -- operators of columns

    def _targets(self, op: tree.Columns, rows: Relation, bindings: Bindings) -> Relation:
        scope = self.scope(rows, bindings)
        if op.op == "extend":
            return self._extend(op, rows, scope)
        if op.op == "distinct" and isinstance(op.targets[0].value, Star):
            return self.add(f"SELECT DISTINCT {self.listed(rows.columns)} FROM {rows.name}", rows.columns)
        names = Names()
        values = [(names.of(target), scope.value(target.value)) for target in op.targets]
        if op.op == "distinct":
            return self.select(f" FROM {rows.name}", values, distinct="DISTINCT ")
        return self.select(f" FROM {rows.name}", values, rows.order)

    def _extend(self, op: tree.Columns, rows: Relation, scope: Scope) -> Relation:
        names = Names()
        values = {name: Value(self.dialect.name(name), kind) for name, kind in rows.columns.items()}
        values |= {names.of(target): scope.value(target.value) for target in op.targets}
        return self.select(f" FROM {rows.name}", list(values.items()), rows.order)

    def _selection(self, op: tree.Selection, rows: Relation, bindings: Bindings) -> Relation:
        found: list[str] = []
        for pattern in op.patterns:
            matching = [name for name in rows.columns if matches(name, pattern)]
            if not matching and not pattern.endswith("*"):
                self.missing(pattern, rows, op.at)
            found += [name for name in matching if name not in found]
        match op.op:
            case "project-away":
                kept = [name for name in rows.columns if name not in found]
            case "project-keep":
                kept = [name for name in rows.columns if name in found]
            case _:
                kept = [*found, *(name for name in rows.columns if name not in found)]
        if not kept:
            raise KqlError(f"{op.op} leaves no column", op.at)
        return self._renamed(rows, {name: name for name in kept})

    def _rename(self, op: tree.Rename, rows: Relation, bindings: Bindings) -> Relation:
        for _, old in op.names:
            self.missing(old, rows, op.at)
        new = {old: new for new, old in op.names}
        return self._renamed(rows, {name: new.get(name, name) for name in rows.columns})

    def _renamed(self, rows: Relation, names: Mapping[str, str]) -> Relation:
        values = [(new, Value(self.dialect.name(old), rows.columns[old])) for old, new in names.items()]
        return self.select(f" FROM {rows.name}", values, rows.order)

    # -- rows from one value, columns from one value

    def _expand(self, op: tree.Expansion, rows: Relation, bindings: Bindings) -> Relation:
        value = self.scope(rows, bindings).value(op.target.value)
        if value.kind != "dynamic":
            raise KqlError(f"mv-expand takes a dynamic value, not a {value.kind}", op.target.at)
        name = Names().of(op.target)
        items = self.dialect.write(ITEMS, value.sql, self.dialect.write(LIST, value.sql))
        inner = self.add(f"SELECT *, {items} AS _items FROM {rows.name}", rows.columns, rows.order)
        place = self.dialect.write(NUMBERED, "_items")
        inner = self.add(f"SELECT *, {place} AS _place FROM {inner.name}", rows.columns, rows.order)
        element = self.dialect.write(Sql("_items[_place]", "element_at(_items, _place)"))
        values = {column: Value(self.dialect.name(column), kind) for column, kind in rows.columns.items()}
        values[name] = to(self.dialect, Value(element, "dynamic"), op.kind, op.at)
        if op.index:
            values[Names(values).take(op.index)] = Value("CAST(_place - 1 AS BIGINT)", "long")
        limit = "" if op.limit is None else f" WHERE _place <= {op.limit}"
        return self.select(f" FROM {inner.name}{limit}", list(values.items()), rows.order)

    def _parse(self, op: tree.Parse, rows: Relation, bindings: Bindings) -> Relation:
        dialect = self.dialect
        value = to(dialect, self.scope(rows, bindings).value(op.value), "string", op.at).sql
        pattern = dialect.text(_pattern(op))
        values = {column: Value(dialect.name(column), kind) for column, kind in rows.columns.items()}
        found = []
        for index, piece in enumerate((p for p in op.pieces if p.name), 1):
            part = Value(f"regexp_extract({value}, {pattern}, {index})", "string")
            found.append((piece.name, to(dialect, part, piece.kind, op.at)))
        matched = " AND ".join(
            [dialect.write(MATCHES, value, pattern)]
            + [f"{part.sql} IS NOT NULL" for _, part in found if part.kind != "string"]
        )
        for name, part in found:
            missing = "''" if part.kind == "string" else "NULL"
            values[name] = Value(f"CASE WHEN {matched} THEN {part.sql} ELSE {missing} END", part.kind)
        condition = f" WHERE {matched}" if op.matching else ""
        return self.select(f" FROM {rows.name}{condition}", list(values.items()), rows.order)

    # -- writing

    def scope(self, rows: Relation, bindings: Bindings) -> Scope:
        """What an expression over these rows sees."""
        return Scope(self, rows.columns, bindings, order=rows.sorting())

    def missing(self, name: str, rows: Relation, at: int) -> None:
        """Raise KqlError if the rows have no such column."""
        if name not in rows.columns:
            raise KqlError(f'no column "{name}" here; there are {", ".join(rows.columns)}', at)

    def listed(self, names: Iterable[str]) -> str:
        """Names, quoted."""
        return ", ".join(self.dialect.name(name) for name in names)

    def select(
        self,
        rest: str,
        values: list[tuple[str, Value]],
        order: tuple[tuple[str, str], ...] = (),
        distinct: str = "",
    ) -> Relation:
        """Rows of these values. rest: of the SELECT. order: that of the rows that they are made from."""
        cells = [f"{value.sql} AS {self.dialect.name(name)}" for name, value in values]
        cells += [column for column, _ in order]
        columns = {name: value.kind for name, value in values}
        return self.add(f"SELECT {distinct}{', '.join(cells)}{rest}", columns, order)

    def add(self, select: str, columns: dict[str, Kind], order: tuple[tuple[str, str], ...] = ()) -> Relation:
        """The rows of a SELECT, under a name."""
        if len(self.expressions) >= MAX_STEPS:
            raise KqlError(f"needs more than {MAX_STEPS} steps", self._at)
        folded = {name.casefold(): name for name in columns}
        if len(folded) < len(columns):
            twin = next(name for name in columns if folded[name.casefold()] != name)
            other = folded[twin.casefold()]
            raise KqlError(f"columns {twin} and {other} differ only in case; rename one", self._at)
        name = f"_s{len(self.expressions)}"
        self.expressions.append(f"{name} AS ({select})")
        return Relation(name, columns, order)


def _pattern(op: tree.Parse) -> str:
    """The regular expression of a `parse`: what has no type and no text after it takes the rest."""
    parts = ["(?s)^"]
    for index, piece in enumerate(op.pieces):
        parts.append(".*?" if piece.star else "")
        parts.append(piece.text if op.regex else re.escape(piece.text))
        if piece.name:
            last = index == len(op.pieces) - 1
            parts.append("(.*)$" if last else "(.*?)")
    return "".join(parts)
