"""Values as SQL, each with its type: literals and conversions."""

from __future__ import annotations

from typing import Any, NamedTuple

from vedette.hub.kql.dialect import Dialect, Sql
from vedette.hub.kql.tree import Constant, Kind, KqlError


class Value(NamedTuple):
    """SQL of a value, and its type."""

    sql: str
    kind: Kind


INSTANT = Sql("make_timestamp({0})", "timestamp_micros({0})")
MICROS = Sql("epoch_us({0})", "unix_micros({0})")
WHOLE = Sql("TRY_CAST(trunc({0}) AS BIGINT)", "TRY_CAST({0} AS BIGINT)")
TIME_TEXT = Sql(
    "strftime({0}, '%Y-%m-%dT%H:%M:%S.%f') || '0Z'",
    "concat(date_format({0}, 'yyyy-MM-dd\\'T\\'HH:mm:ss.SSSSSS'), '0Z')",
)
DIV = Sql("({0} // {1})", "({0} DIV {1})")

NUMBERS: frozenset[Kind] = frozenset({"long", "real"})


def literal(dialect: Dialect, value: Any, kind: Kind) -> str:
    """A constant. Its value as `tree.Constant` has it."""
    if value is None:
        return f"CAST(NULL AS {dialect.types[kind]})"
    match kind:
        case "bool":
            return "TRUE" if value else "FALSE"
        case "long" | "timespan":
            return f"CAST({value} AS BIGINT)"
        case "real":
            return f"CAST('{value}' AS DOUBLE)"
        case "datetime":
            return dialect.write(INSTANT, f"CAST({value} AS BIGINT)")
        case _:
            return dialect.text(str(value))


def constant(dialect: Dialect, node: Constant) -> Value:
    """A constant of a query."""
    return Value(literal(dialect, node.value, node.kind), node.kind)


def clock(dialect: Dialect, micros: str) -> str:
    """A timespan as a text: `[-][d.]hh:mm:ss[.ffffff0]`."""
    whole = f"abs({micros})"

    def part(unit: int, modulo: int) -> str:
        number = dialect.write(DIV, whole, str(unit))
        return f"lpad(CAST({number} % {modulo} AS {dialect.types['string']}), 2, '0')"

    days = dialect.write(DIV, whole, "86400000000")
    text = dialect.types["string"]
    return (
        f"concat(CASE WHEN {micros} < 0 THEN '-' ELSE '' END, "
        f"CASE WHEN {days} > 0 THEN concat(CAST({days} AS {text}), '.') ELSE '' END, "
        f"{part(3_600_000_000, 24)}, ':', {part(60_000_000, 60)}, ':', {part(1_000_000, 60)}, "
        f"CASE WHEN {whole} % 1000000 > 0 "
        f"THEN concat('.', lpad(CAST({whole} % 1000000 AS {text}), 6, '0'), '0') ELSE '' END)"
    )


def to(dialect: Dialect, value: Value, kind: Kind, at: int) -> Value:
    """A value as another type; null where that is not possible. Raises KqlError if it never is."""
    sql, was = value
    if was == kind:
        return value
    if kind == "string":
        return Value(f"coalesce({text(dialect, value)}, '')", kind)
    if kind == "dynamic":
        return Value(text(dialect, value), kind)
    if was in ("string", "dynamic"):
        return Value(_read(dialect, value, kind, at), kind)
    if kind == "long" and was in ("bool", "timespan"):
        return Value(f"CAST({sql} AS BIGINT)", kind)
    if kind == "long" and was == "real":
        return Value(dialect.write(WHOLE, sql), kind)
    if kind == "real" and was in ("long", "bool"):
        return Value(f"CAST({sql} AS DOUBLE)", kind)
    if kind == "bool" and was in NUMBERS:
        return Value(f"({sql} <> 0)", kind)
    raise KqlError(f"a {was} cannot become a {kind}", at)


def text(dialect: Dialect, value: Value) -> str:
    """A value as a text; null stays null."""
    match value.kind:
        case "string" | "dynamic":
            return value.sql
        case "bool":
            return f"CASE {value.sql} WHEN TRUE THEN 'True' WHEN FALSE THEN 'False' END"
        case "datetime":
            return dialect.write(TIME_TEXT, value.sql)
        case "timespan":
            return clock(dialect, value.sql)
        case _:
            return f"CAST({value.sql} AS {dialect.types['string']})"


def _read(dialect: Dialect, value: Value, kind: Kind, at: int) -> str:
    """What a text says."""
    sql = value.sql
    if kind == "timespan":
        raise KqlError("a timespan is read from a literal only", at)
    if kind == "long":
        whole = f"TRY_CAST(CASE WHEN {sql} LIKE '%.%' THEN NULL ELSE {sql} END AS BIGINT)"
        if value.kind == "dynamic":  # a JSON number may have a fraction
            return f"coalesce({whole}, {dialect.write(WHOLE, f'TRY_CAST({sql} AS DOUBLE)')})"
        return whole
    return f"TRY_CAST({sql} AS {dialect.types[kind]})"


def common(values: list[Value], at: int) -> Kind:
    """The type that all the values can be compared or chosen in. Raises KqlError."""
    kinds = {value.kind for value in values}
    if len(kinds) > 1:
        kinds.discard("dynamic")
    if kinds == NUMBERS:
        return "real"
    if len(kinds) > 1:
        raise KqlError(f"{' and '.join(sorted(kinds))} do not go together; convert one", at)
    return kinds.pop()
