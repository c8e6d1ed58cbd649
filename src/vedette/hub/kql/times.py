"""KQL's functions of times, and of bins, as SQL. Facts: the published reference of each."""

from __future__ import annotations

import re

from vedette.hub.kql.calls import Special, constant
from vedette.hub.kql.dialect import Dialect, Sql
from vedette.hub.kql.tree import Call, Constant, KqlError
from vedette.hub.kql.values import DIV, INSTANT, MICROS, Value, common, literal, to

DAY = 86_400_000_000
UNITS = {
    "microsecond": 1,
    "millisecond": 1_000,
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": DAY,
    "week": 7 * DAY,
}
"""Microseconds of what datetime functions call a part."""

ORIGIN = 62_135_596_800_000_000
"""Microseconds from 0001-01-01 to 1970: bins are counted from there, which shows with bins of weeks."""

PMOD = Sql("(({0} % {1} + {1}) % {1})", "pmod({0}, {1})")


def _bin(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    """`bin(value, size)`, `bin_at(value, size, start)`, `floor(value, size)`."""
    if call.name == "floor" and len(values) == 1:
        return Value(f"CAST(floor({to(dialect, values[0], 'real', call.at).sql}) AS DOUBLE)", "real")
    if len(values) != (3 if call.name == "bin_at" else 2):
        raise KqlError(f"{call.name}() takes a value and a size", call.at)
    value, size, *start = values
    if value.kind == "datetime" and size.kind == "timespan":
        since = dialect.write(MICROS, start[0].sql) if start else f"-{_shift(call)}"
        micros = dialect.write(MICROS, value.sql)
        rest = dialect.write(PMOD, micros if since == "-0" else f"({micros} - ({since}))", size.sql)
        return Value(dialect.write(INSTANT, f"({micros} - {rest})"), "datetime")
    kind = common([value, size, *start], call.at)
    first = start[0].sql if start else "0"
    if kind == "real":
        return Value(f"(floor(({value.sql} - {first}) / {size.sql}) * {size.sql} + {first})", "real")
    rest = dialect.write(PMOD, f"({value.sql} - {first})" if start else value.sql, size.sql)
    return Value(f"({value.sql} - {rest})", kind)


def _shift(call: Call) -> int:
    size = call.arguments[1]
    whole = isinstance(size, Constant) and size.value and ORIGIN % size.value == 0
    return 0 if whole else ORIGIN


def _start(unit: str, *, end: bool = False) -> Special:
    def write(dialect: Dialect, call: Call, values: list[Value]) -> Value:
        value = to(dialect, values[0], "datetime", call.at).sql
        offset = int(str(constant(call, 1))) if len(values) > 1 else 0
        begin = _truncated(dialect, unit, value, offset + end)
        if end:
            begin = dialect.write(INSTANT, f"({dialect.write(MICROS, begin)} - 1)")
        return Value(begin, "datetime")

    return write


def _truncated(dialect: Dialect, unit: str, value: str, offset: int) -> str:
    """The begin of the unit that a time is in, and so many units later. Weeks begin on Sundays."""
    if unit in ("month", "year"):
        begin = f"date_trunc('{unit}', {value})"
        months = offset * (12 if unit == "year" else 1)
        return dialect.write(ADD_MONTHS, begin, str(months)) if months else begin
    micros = dialect.write(MICROS, value)
    sunday = 4 * DAY if unit == "week" else 0  # 1970 began on a Thursday
    rest = dialect.write(PMOD, f"({micros} + {sunday})" if sunday else micros, str(UNITS[unit]))
    return dialect.write(INSTANT, f"({micros} - {rest} + {offset * UNITS[unit]})")


ADD_MONTHS = Sql("({0} + to_months(CAST({1} AS INTEGER)))", "({0} + make_interval(0, {1}))")
MONTHS = "(CAST(year({0}) AS BIGINT) * 12 + month({0}))"


def _datetime_add(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    part = _part(call)
    number = to(dialect, values[1], "long", call.at).sql
    time = to(dialect, values[2], "datetime", call.at).sql
    if part in UNITS:
        moved = f"({dialect.write(MICROS, time)} + {number} * {UNITS[part]})"
        return Value(dialect.write(INSTANT, moved), "datetime")
    months = {"month": 1, "quarter": 3, "year": 12}[part]
    return Value(dialect.write(ADD_MONTHS, time, f"CAST({number} * {months} AS INTEGER)"), "datetime")


def _datetime_diff(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    """How many begins of a part lie between two times."""
    part = _part(call)
    later, earlier = (to(dialect, value, "datetime", call.at).sql for value in values[1:])
    if part in UNITS:
        shift = 4 * DAY if part == "week" else 0
        counts = [
            dialect.write(DIV, f"({dialect.write(MICROS, time)} + {shift})", str(UNITS[part]))
            for time in (later, earlier)
        ]
    else:
        unit = {"month": 1, "quarter": 3, "year": 12}[part]
        counts = [dialect.write(DIV, f"({MONTHS.format(time)} - 1)", str(unit)) for time in (later, earlier)]
    return Value(f"({counts[0]} - {counts[1]})", "long")


def _datetime_part(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    names = {"year", "quarter", "month", "day", "hour", "minute", "second", "dayofyear"}
    part = str(constant(call, 0)).lower()
    part = {"day_of_year": "dayofyear"}.get(part, part)
    if part not in names:
        raise KqlError(f"{part!r} is not supported; there are {', '.join(sorted(names))}", call.at)
    return Value(f"CAST({part}({to(dialect, values[1], 'datetime', call.at).sql}) AS BIGINT)", "long")


def _part(call: Call) -> str:
    part = str(constant(call, 0)).lower()
    known = {*UNITS, "month", "quarter", "year"}
    if part not in known or len(call.arguments) != 3:
        raise KqlError(f"{call.name}() takes one of {', '.join(sorted(known))}, and two values", call.at)
    return part


def _format_datetime(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    parts = re.findall(r"([A-Za-z])(\1*)|([^A-Za-z]+)", str(constant(call, 1)))
    try:
        written = dialect.time_format([first + more + other for first, more, other in parts])
    except KeyError as error:
        raise KqlError(f"format_datetime() has no {error.args[0]!r} here", call.at) from None
    value = to(dialect, values[0], "datetime", call.at).sql
    sql = Sql("coalesce(strftime({0}, {1}), '')", "coalesce(date_format({0}, {1}), '')")
    return Value(dialect.write(sql, value, dialect.text(written)), "string")


def _unixtime(unit: int) -> Special:
    def write(dialect: Dialect, call: Call, values: list[Value]) -> Value:
        number = to(dialect, values[0], "real", call.at).sql
        return Value(dialect.write(INSTANT, f"CAST({number} * {unit} AS BIGINT)"), "datetime")

    return write


def _make_datetime(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    numbers = [to(dialect, value, "long", call.at).sql for value in values]
    numbers += ["0"] * (6 - len(numbers))
    parts = [f"CAST({number} AS INTEGER)" for number in numbers]
    return Value(f"make_timestamp({', '.join(parts)})", "datetime")


def now(dialect: Dialect, micros: int) -> Value:
    """The moment of the query."""
    return Value(literal(dialect, micros, "datetime"), "datetime")


TIMES: dict[str, Special] = {
    "bin": _bin,
    "bin_at": _bin,
    "floor": _bin,
    "startofday": _start("day"),
    "startofweek": _start("week"),
    "startofmonth": _start("month"),
    "startofyear": _start("year"),
    "endofday": _start("day", end=True),
    "endofweek": _start("week", end=True),
    "endofmonth": _start("month", end=True),
    "endofyear": _start("year", end=True),
    "datetime_add": _datetime_add,
    "datetime_diff": _datetime_diff,
    "datetime_part": _datetime_part,
    "format_datetime": _format_datetime,
    "make_datetime": _make_datetime,
    "unixtime_seconds_todatetime": _unixtime(1_000_000),
    "unixtime_milliseconds_todatetime": _unixtime(1_000),
    "unixtime_microseconds_todatetime": _unixtime(1),
}
"""Name → how it is written."""
