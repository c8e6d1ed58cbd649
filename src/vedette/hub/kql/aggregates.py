"""KQL's aggregates as SQL. Facts: the published reference of each."""

from __future__ import annotations

from collections.abc import Callable

from vedette.hub.kql.dialect import Dialect, Sql
from vedette.hub.kql.functions import json_of
from vedette.hub.kql.tree import Call, Constant, Kind, KqlError
from vedette.hub.kql.values import Value, to

LIST = Sql("array_to_string(list({0}){1}, ',')", "array_join(collect_list({0}){1}, ',')")
SET = Sql("array_to_string(list(DISTINCT {0}){1}, ',')", "array_join(collect_set({0}){1}, ',')")
RECORD = Sql("struct_pack(v := {0})", "named_struct('v', {0})")


def _filtered(sql: str, condition: str) -> str:
    return f"{sql} FILTER (WHERE {condition})" if condition else sql


def _count(dialect: Dialect, call: Call, values: list[Value], condition: str) -> Value:
    return Value(_filtered("count(*)", condition), "long")


def _dcount(dialect: Dialect, call: Call, values: list[Value], condition: str) -> Value:
    """Exact, where KQL estimates. The empty text is a value, as null is of no other type."""
    value = values[0]
    sql = f"coalesce({value.sql}, '')" if value.kind in ("string", "dynamic") else value.sql
    return Value(_filtered(f"count(DISTINCT {sql})", condition), "long")


def _sum(dialect: Dialect, call: Call, values: list[Value], condition: str) -> Value:
    value = _number(dialect, call, values[0])
    total = f"coalesce({_filtered(f'sum({value.sql})', condition)}, 0)"
    return Value(f"CAST({total} AS {dialect.types[value.kind]})", value.kind)


def _average(function: str) -> Aggregate:
    def write(dialect: Dialect, call: Call, values: list[Value], condition: str) -> Value:
        value = _number(dialect, call, values[0])
        mean = f"CAST({_filtered(f'{function}({value.sql})', condition)} AS DOUBLE)"
        if value.kind == "timespan":
            return Value(f"CAST({mean} AS BIGINT)", "timespan")
        return Value(f"coalesce({mean}, CAST('NaN' AS DOUBLE))" if function == "avg" else mean, "real")

    return write


def _extreme(function: str) -> Aggregate:
    def write(dialect: Dialect, call: Call, values: list[Value], condition: str) -> Value:
        return Value(_filtered(f"{function}({values[0].sql})", condition), values[0].kind)

    return write


def _percentile(dialect: Dialect, call: Call, values: list[Value], condition: str) -> Value:
    """The smallest value that so many percent do not exceed."""
    share = call.arguments[1] if len(call.arguments) > 1 else None
    if not isinstance(share, Constant) or share.kind not in ("long", "real"):
        raise KqlError(f"{call.name}() takes a value and a number of percent", call.at)
    value = _number(dialect, call, values[0])
    found = f"percentile_disc({share.value / 100}) WITHIN GROUP (ORDER BY {value.sql})"
    return Value(f"CAST({_filtered(found, condition)} AS {dialect.types[value.kind]})", value.kind)


def _collected(sql: Sql) -> Aggregate:
    def write(dialect: Dialect, call: Call, values: list[Value], condition: str) -> Value:
        value = values[0]
        present = f"{value.sql} IS NOT NULL" + (f" AND {condition}" if condition else "")
        items = dialect.write(sql, json_of(dialect, value), f" FILTER (WHERE {present})")
        return Value(f"concat('[', coalesce({items}, ''), ']')", "dynamic")

    return write


def _number(dialect: Dialect, call: Call, value: Value) -> Value:
    kind: Kind = value.kind if value.kind in ("long", "real", "timespan") else "real"
    return to(dialect, value, kind, call.at)


Aggregate = Callable[[Dialect, Call, list[Value], str], Value]

_PLAIN: dict[str, tuple[str, Aggregate]] = {
    "count": ("count", _count),
    "dcount": ("dcount", _dcount),
    "count_distinct": ("count_distinct", _dcount),
    "sum": ("sum", _sum),
    "avg": ("avg", _average("avg")),
    "min": ("min", _extreme("min")),
    "max": ("max", _extreme("max")),
    "stdev": ("stdev", _average("stddev_samp")),
    "variance": ("variance", _average("var_samp")),
    "percentile": ("percentile", _percentile),
    "make_list": ("list", _collected(LIST)),
    "makelist": ("list", _collected(LIST)),
    "make_set": ("set", _collected(SET)),
    "makeset": ("set", _collected(SET)),
    "take_any": ("", _extreme("any_value")),
    "any": ("any", _extreme("any_value")),
}
"""Name → prefix of an unnamed column, and how it is written."""

_CONDITIONAL = {
    "countif": "count",
    "dcountif": "dcount",
    "count_distinctif": "count_distinct",
    "sumif": "sum",
    "avgif": "avg",
    "minif": "min",
    "maxif": "max",
    "stdevif": "stdev",
    "varianceif": "variance",
    "make_list_if": "make_list",
    "make_set_if": "make_set",
    "take_anyif": "take_any",
}

RECORDS = {"arg_max": "max_by", "arg_min": "min_by"}
"""Aggregates of several columns."""

NAMES = frozenset({*_PLAIN, *_CONDITIONAL, *RECORDS, "percentiles"})


def write(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    """An aggregate of one column. Raises KqlError."""
    name = _CONDITIONAL.get(call.name, call.name)
    condition = ""
    if name != call.name:
        place = 0 if name == "count" else 1
        if len(values) <= place:
            raise KqlError(f"{call.name}() takes a condition", call.at)
        condition = to(dialect, values.pop(place), "bool", call.at).sql
    if name in RECORDS or name not in _PLAIN:
        raise KqlError(f"{call.name}() stands alone in a column of summarize", call.at)
    if name != "count" and not values:
        raise KqlError(f"{call.name}() takes a value", call.at)
    return _PLAIN[name][1](dialect, call, values, condition)


def prefix(name: str) -> str:
    """What the name of an unnamed column begins with."""
    if name in _CONDITIONAL:
        return name
    return _PLAIN[name][0] if name in _PLAIN else ""


def record(dialect: Dialect, call: Call, value: str, by: str) -> str:
    """A column's value in the row that has the extreme; null if it is null there."""
    return f"({RECORDS[call.name]}({dialect.write(RECORD, value)}, {by})).v"
