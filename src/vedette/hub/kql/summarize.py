"""`summarize`: keys, aggregates, and the aggregates of several columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette.hub.kql import aggregates, tree
from vedette.hub.kql.naming import Names
from vedette.hub.kql.scalars import Bindings, Scope
from vedette.hub.kql.tree import Call, Expression, KqlError, Name, Star, Target
from vedette.hub.kql.values import Value

if TYPE_CHECKING:
    from vedette.hub.kql.emit import Emitter, Relation


def summarize(emitter: Emitter, op: tree.Summarize, rows: Relation, bindings: Bindings) -> Relation:
    """A row for each combination of keys."""
    scope = emitter.scope(rows, bindings)
    names = Names()
    keys = [(names.of(target), scope.value(target.value)) for target in op.by]
    inner = Scope(emitter, rows.columns, bindings, summarizing=True)
    values = list(keys)
    for target in op.aggregates:
        value = target.value
        if isinstance(value, Call) and value.name in aggregates.RECORDS:
            values += _record(emitter, target, value, scope, names, [name for name, _ in keys])
        elif isinstance(value, Call) and value.name == "percentiles":
            values += _percentiles(emitter, value, inner, names)
        else:
            values.append((names.of(target), inner.value(value)))
    group = ", ".join(value.sql for _, value in keys)
    if not op.aggregates:
        return emitter.select(f" FROM {rows.name}", values, distinct="DISTINCT ")
    return emitter.select(f" FROM {rows.name}{f' GROUP BY {group}' if group else ''}", values)


def _record(
    emitter: Emitter, target: Target, call: Call, scope: Scope, names: Names, keys: list[str]
) -> list[tuple[str, Value]]:
    """`arg_max(by, column, …)`: the extreme, then the columns of its row."""
    if not call.arguments:
        raise KqlError(f"{call.name}() takes a value", call.at)
    first, *rest = call.arguments
    by = scope.value(first)
    function = aggregates.RECORDS[call.name].removesuffix("_by")
    named = Target(at=target.at, name=target.name, value=first)
    found = [(names.of(named), Value(f"{function}({by.sql})", by.kind))]
    own = first.name if isinstance(first, Name) else ""
    for node in rest:
        picked: list[Expression] = [node]
        if isinstance(node, Star):
            picked = [Name(at=node.at, name=name) for name in scope.columns if name not in (*keys, own)]
        for column in picked:
            value = scope.value(column)
            sql = aggregates.record(emitter.dialect, call, value.sql, by.sql)
            found.append((names.of(Target(at=node.at, name="", value=column)), Value(sql, value.kind)))
    return found


def _percentiles(emitter: Emitter, call: Call, scope: Scope, names: Names) -> list[tuple[str, Value]]:
    """`percentiles(value, share, …)`: a column for each share."""
    found = []
    for share in call.arguments[1:]:
        one = Call(at=call.at, name="percentile", arguments=(call.arguments[0], share))
        found.append((names.of(Target(at=call.at, name="", value=one)), scope.value(one)))
    return found
