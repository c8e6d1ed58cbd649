"""Expressions to SQL, in a scope: the columns of the rows at hand and what `let` has bound."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.hub.kql import aggregates
from vedette.hub.kql.dialect import Dialect, Sql
from vedette.hub.kql.expressions import STRING_OPERATORS
from vedette.hub.kql.functions import CONVERSIONS, MATCHES, MEMBER, PLAIN, SPECIAL, plain
from vedette.hub.kql.times import now
from vedette.hub.kql.tree import (
    Between,
    Binary,
    Call,
    Constant,
    Expression,
    Function,
    Kind,
    KqlError,
    Member,
    Membership,
    Name,
    Query,
    Star,
    Table,
)
from vedette.hub.kql.values import DIV, INSTANT, MICROS, NUMBERS, Value, common, constant, to

if TYPE_CHECKING:
    from vedette.hub.kql.emit import Emitter

WINDOWS = {
    "row_number": "row_number()",
    "prev": "lag({0}, {1})",
    "next": "lead({0}, {1})",
    "row_cumsum": "sum({0})",
}
"""Functions of the rows around, which have to be sorted."""

MAX_SQL = 1_000_000
"""Characters of one value in SQL. Names that `let` binds stand for their text, which can double with each."""

KNOWN = sorted({*PLAIN, *SPECIAL, *CONVERSIONS, *WINDOWS, "now", "ago", "toscalar"})

LAST = Sql(
    "json_extract_string(TRY_CAST({0} AS JSON), '$[#{1}]')",
    "try_element_at(from_json({0}, 'array<string>'), {1})",
)


class Binding(msgspec.Struct, frozen=True):
    """What a name is bound to, and the names that this sees itself."""

    value: Expression | Function
    scope: Bindings


Bindings = Mapping[str, "Binding | Value"]


class Scope:
    """Where an expression stands. summarizing: aggregates are allowed."""

    def __init__(
        self,
        emitter: Emitter,
        columns: Mapping[str, Kind],
        bindings: Bindings,
        *,
        order: str = "",
        summarizing: bool = False,
    ) -> None:
        self.emitter = emitter
        self.dialect: Dialect = emitter.dialect
        self.columns = columns
        self.bindings = bindings
        self.order = order
        self.summarizing = summarizing

    def value(self, node: Expression) -> Value:
        """An expression. Raises KqlError."""
        writers: dict[type, Callable[[Any], Value]] = {
            Constant: lambda node: constant(self.dialect, node),
            Name: self._name,
            Call: self._call,
            Binary: self._binary,
            Membership: self._membership,
            Between: self._between,
            Member: self._member,
        }
        if type(node) not in writers:
            what = "'*'" if isinstance(node, Star) else "a table"
            raise KqlError(f"expected a value, not {what}", node.at)
        written = writers[type(node)](node)
        if len(written.sql) > MAX_SQL:
            raise KqlError("becomes too long in SQL: use columns for what is used several times", node.at)
        return written

    def condition(self, node: Expression) -> str:
        """An expression that is true or false."""
        return to(self.dialect, self.value(node), "bool", node.at).sql

    def resolved(self, node: Expression) -> Expression:
        """A name that is bound to a constant: that constant."""
        while isinstance(node, Name) and node.name not in self.columns:
            bound = self.bindings.get(node.name)
            if not isinstance(bound, Binding) or isinstance(bound.value, Function):
                break
            node = bound.value
        return node

    def _name(self, node: Name) -> Value:
        if node.name in self.columns:
            return Value(self.dialect.name(node.name), self.columns[node.name])
        bound = self.bindings.get(node.name)
        if isinstance(bound, Value):
            return bound
        if isinstance(bound, Binding) and not isinstance(bound.value, Function | Table):
            return Scope(self.emitter, {}, bound.scope).value(bound.value)
        there = ", ".join(self.columns) or "none"
        raise KqlError(f'no column "{node.name}" here; there are {there}', node.at)

    # -- calls

    def _call(self, node: Call) -> Value:
        name, dialect = node.name, self.dialect
        if name in ("now", "ago"):
            return self._clock(node)
        if name == "toscalar":
            return self._toscalar(node)
        bound = self.bindings.get(name)
        if isinstance(bound, Binding) and isinstance(bound.value, Function):
            return self._declared(node, bound, bound.value)
        if self.summarizing and name in aggregates.NAMES:
            inner = Scope(self.emitter, self.columns, self.bindings)
            return aggregates.write(dialect, self._resolved(node), [inner.value(a) for a in node.arguments])
        if name in WINDOWS:
            return self._window(node)
        values = [self.value(argument) for argument in node.arguments]
        if name in CONVERSIONS and len(values) == 1:
            return to(dialect, values[0], CONVERSIONS[name], node.at)
        if name in PLAIN:
            return plain(dialect, node, values)
        if name in SPECIAL:
            return SPECIAL[name](dialect, self._resolved(node), values)
        if name in aggregates.NAMES:
            raise KqlError(f"{name}() is an aggregate: it belongs into summarize", node.at)
        near = difflib.get_close_matches(name, [*KNOWN, *aggregates.NAMES], 3, 0.7)
        hint = f"did you mean {' or '.join(near)}?" if near else f"supported are {', '.join(KNOWN)}"
        raise KqlError(f"the function {name}() is not supported; {hint}", node.at)

    def _resolved(self, node: Call) -> Call:
        return msgspec.structs.replace(node, arguments=tuple(self.resolved(a) for a in node.arguments))

    def _clock(self, node: Call) -> Value:
        moment = now(self.dialect, self.emitter.now)
        if not node.arguments:
            return moment
        offset = self.value(node.arguments[0])
        if offset.kind != "timespan":
            raise KqlError(f"{node.name}() takes a timespan, such as 1h or 7d", node.at)
        sign = "-" if node.name == "ago" else "+"
        micros = f"({self.dialect.write(MICROS, moment.sql)} {sign} {offset.sql})"
        return Value(self.dialect.write(INSTANT, micros), "datetime")

    def _toscalar(self, node: Call) -> Value:
        if len(node.arguments) != 1:
            raise KqlError("toscalar() takes a query", node.at)
        relation = self.emitter.nested(node.arguments[0], self.bindings)
        if relation is None:
            return self.value(node.arguments[0])
        name, kind = next(iter(relation.columns.items()))
        first = f"(SELECT {self.dialect.name(name)} FROM {relation.name}{relation.ordered()} LIMIT 1)"
        return Value(first, kind)

    def _declared(self, node: Call, bound: Binding, function: Function) -> Value:
        bindings = self.emitter.applied(node, bound, function, self)
        return Scope(self.emitter, {}, bindings).value(function.body)

    def _window(self, node: Call) -> Value:
        if not self.order:
            raise KqlError(f"{node.name}() needs rows that are sorted: put 'sort by' before", node.at)
        values = [self.value(argument) for argument in node.arguments]
        if node.name != "row_number" and not values:
            raise KqlError(f"{node.name}() takes a column", node.at)
        steps = values[1].sql if len(values) > 1 else "1"
        call = WINDOWS[node.name].format(values[0].sql if values else "", steps)
        frame = " ROWS UNBOUNDED PRECEDING" if node.name == "row_cumsum" else ""
        sql = f"{call} OVER (ORDER BY {self.order}{frame})"
        kind: Kind = values[0].kind if values and node.name != "row_number" else "long"
        return Value(f"CAST({sql} AS {self.dialect.types[kind]})", kind)

    # -- operators

    def _binary(self, node: Binary) -> Value:
        if node.op in ("and", "or"):
            return self._logic(node)
        left = self.value(node.left)
        if node.op in STRING_OPERATORS or node.op in ("=~", "!~", "matches regex"):
            return Value(self._texts(node, left), "bool")
        right = self.value(node.right)
        if node.op in ("+", "-", "*", "/", "%"):
            return self._arithmetic(node, left, right)
        kind = common([left, right], node.at)
        a, b = (to(self.dialect, side, kind, node.at).sql for side in (left, right))
        match node.op:
            case "==":
                return Value(f"coalesce({a} = {b}, FALSE)", "bool")
            case "!=":
                return Value(f"coalesce({a} <> {b}, TRUE)", "bool")
            case _:
                return Value(f"({a} {node.op} {b})", "bool")

    def _logic(self, node: Binary) -> Value:
        """A chain of one operator, which may be as long as the text allows."""
        sides, left = [node.right], node.left
        while isinstance(left, Binary) and left.op == node.op:
            sides.append(left.right)
            left = left.left
        conditions = [self.condition(side) for side in (left, *reversed(sides))]
        return Value(f"({f' {node.op.upper()} '.join(conditions)})", "bool")

    def _arithmetic(self, node: Binary, left: Value, right: Value) -> Value:
        dialect, op = self.dialect, node.op
        if left.kind == right.kind == "datetime" and op == "-":
            return Value(
                f"({dialect.write(MICROS, left.sql)} - {dialect.write(MICROS, right.sql)})", "timespan"
            )
        if {left.kind, right.kind} == {"datetime", "timespan"} and op in "+-":
            moment, span = (left, right) if left.kind == "datetime" else (right, left)
            return Value(
                dialect.write(INSTANT, f"({dialect.write(MICROS, moment.sql)} {op} {span.sql})"), "datetime"
            )
        if "timespan" in (left.kind, right.kind):
            return self._spans(node, left, right)
        kinds: set[Kind] = {left.kind, right.kind}
        kind: Kind = "long" if kinds == {"long"} else "real"
        a, b = (to(dialect, side, kind, node.at).sql for side in (left, right))
        if op in "/%":
            b = f"nullif({b}, 0)"
        if op == "/" and kind == "long":
            return Value(dialect.write(DIV, a, b), kind)
        return Value(f"({a} {op} {b})", kind)

    def _spans(self, node: Binary, left: Value, right: Value) -> Value:
        """A timespan with a timespan or a number."""
        op, kinds = node.op, (left.kind, right.kind)
        if kinds == ("timespan", "timespan"):
            if op == "/":
                return Value(f"(CAST({left.sql} AS DOUBLE) / nullif({right.sql}, 0))", "real")
            if op in "+-%":
                return Value(f"({left.sql} {op} {right.sql})", "timespan")
        numbers = kinds[0] in NUMBERS or kinds[1] in NUMBERS
        if numbers and (op == "*" or (op == "/" and kinds[0] == "timespan")):
            return Value(f"CAST(({left.sql} {op} {right.sql}) AS BIGINT)", "timespan")
        if node.op == "-" and isinstance(node.left, Constant) and node.left.value == 0:
            return Value(f"(- {right.sql})", "timespan")
        raise KqlError(f"{kinds[0]} {op} {kinds[1]} is not defined", node.at)

    def _texts(self, node: Binary, left: Value) -> str:
        dialect = self.dialect
        value = to(dialect, left, "string", node.at).sql
        op = node.op.removeprefix("!")
        if op == "matches regex":
            found = dialect.write(MATCHES, value, dialect.text(self._text(node.right, op)))
        elif op.startswith("has"):
            found = self._term(value, self._text(node.right, op), op)
        else:
            other = to(dialect, self.value(node.right), "string", node.at).sql
            found = self._compared(value, other, op)
        return f"coalesce(NOT {found}, TRUE)" if node.op.startswith("!") else f"coalesce({found}, FALSE)"

    def _compared(self, value: str, other: str, op: str) -> str:
        if not op.endswith("_cs"):
            value, other = f"lower({value})", f"lower({other})"
        match op.removesuffix("_cs"):
            case "contains":
                return f"contains({value}, {other})"
            case "startswith":
                return self.dialect.write(Sql("starts_with({0}, {1})", "startswith({0}, {1})"), value, other)
            case "endswith":
                return self.dialect.write(Sql("ends_with({0}, {1})", "endswith({0}, {1})"), value, other)
            case _:
                return f"({value} = {other})"

    def _term(self, value: str, term: str, op: str) -> str:
        """A term: what stands between characters that are neither letters nor digits."""
        kind = op.removesuffix("_cs")
        before = "" if kind == "hassuffix" else r"(?:^|[^\pL\pN])"
        after = "" if kind == "hasprefix" else r"(?:$|[^\pL\pN])"
        case = "" if op.endswith("_cs") else "(?i)"
        pattern = self.dialect.text(f"{case}{before}{re.escape(term)}{after}")
        return self.dialect.write(MATCHES, value, pattern)

    def _text(self, node: Expression, op: str) -> str:
        resolved = self.resolved(node)
        if not isinstance(resolved, Constant) or resolved.value is None:
            raise KqlError(f"'{op}' takes a text, not something that has to be computed", node.at)
        return str(resolved.value)

    # -- lists and parts

    def _membership(self, node: Membership) -> Value:
        items = self._items(node)
        value, negated = self.value(node.value), node.op.startswith("!")
        if isinstance(items, Query):
            return Value(f"{'NOT ' if negated else ''}({self._listed(node, value, items)})", "bool")
        if node.op in ("has_any", "has_all"):
            text_ = to(self.dialect, value, "string", node.at).sql
            found = [self._term(text_, self._text(item, node.op), "has") for item in items]
            joined = (" AND " if node.op == "has_all" else " OR ").join(found) or "FALSE"
            return Value(f"coalesce(({joined}), FALSE)", "bool")
        values = [self.value(item) for item in items]
        kind = common([value, *values], node.at)
        left, *right = (to(self.dialect, each, kind, node.at).sql for each in (value, *values))
        if node.op.endswith("~"):
            left, right = f"lower({left})", [f"lower({each})" for each in right]
        found_ = f"{left} IN ({', '.join(right)})" if right else "FALSE"
        return Value(f"coalesce(NOT ({found_}), TRUE)" if negated else f"coalesce({found_}, FALSE)", "bool")

    def _items(self, node: Membership) -> tuple[Expression, ...] | Query:
        """The list; a dynamic list that is known stands for its elements."""
        if len(node.items) != 1:
            return node.items
        item = self.resolved(node.items[0])
        if isinstance(item, Constant) and item.kind == "dynamic" and item.value:
            elements = json.loads(item.value)
            if isinstance(elements, list):
                return tuple(_element(element, item.at) for element in elements)
        if isinstance(item, Table):
            return item.query
        if isinstance(item, Name) and item.name not in self.columns and item.name not in self.bindings:
            return Query(at=item.at, source=item)
        return (item,)

    def _listed(self, node: Membership, value: Value, items: Query) -> str:
        relation = self.emitter.query(items, self._scope_of(node.items[0]))
        name, kind = next(iter(relation.columns.items()))
        element = to(self.dialect, Value(self.dialect.name(name), kind), value.kind, node.at).sql
        sql = value.sql
        if node.op.endswith("~"):
            sql, element = f"lower({sql})", f"lower({element})"
        return f"{sql} IN (SELECT {element} FROM {relation.name} WHERE {element} IS NOT NULL)"

    def _scope_of(self, node: Expression) -> Bindings:
        bound = self.bindings.get(node.name) if isinstance(node, Name) else None
        return bound.scope if isinstance(bound, Binding) else self.bindings

    def _between(self, node: Between) -> Value:
        value, low, high = (self.value(part) for part in (node.value, node.low, node.high))
        if high.kind == "timespan" and low.kind == "datetime":
            moved = f"({self.dialect.write(MICROS, low.sql)} + {high.sql})"
            high = Value(self.dialect.write(INSTANT, moved), "datetime")
        kind = common([value, low, high], node.at)
        a, b, c = (to(self.dialect, each, kind, node.at).sql for each in (value, low, high))
        return Value(f"({a} {'NOT ' if node.negated else ''}BETWEEN {b} AND {c})", "bool")

    def _member(self, node: Member) -> Value:
        keys: list[str | int] = []
        base: Expression = node
        while isinstance(base, Member):
            keys.insert(0, base.key)
            base = base.base
        value = self.value(base)
        if value.kind != "dynamic":
            raise KqlError(f"a {value.kind} has no parts; parse_json() makes a text dynamic", node.at)
        last = keys.pop() if isinstance(keys[-1], int) and keys[-1] < 0 else None
        sql = value.sql
        if keys:
            sql = self.dialect.write(MEMBER, sql, self.dialect.text(self._path(keys, node.at)))
        if last is not None:
            sql = self.dialect.write(LAST, sql, str(last))
        return Value(sql, "dynamic")

    def _path(self, keys: list[str | int], at: int) -> str:
        path = "$"
        for key in keys:
            if isinstance(key, int):
                if key < 0:
                    raise KqlError("an index from the end has to come last", at)
                path += f"[{key}]"
            elif re.search(r"""["'\\\]]""", key):
                raise KqlError(f"{key!r} is no property that can be asked for", at)
            else:
                path += self.dialect.write(Sql('."{0}"', "['{0}']"), key)
        return path


def _element(value: Any, at: int) -> Constant:
    kinds: dict[type, Kind] = {bool: "bool", int: "long", float: "real", str: "string"}
    kind = kinds.get(type(value), "dynamic")
    return Constant(at=at, kind=kind, value=json.dumps(value) if kind == "dynamic" else value)
