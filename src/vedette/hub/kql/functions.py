"""KQL's scalar functions as SQL: most are a line of a table, the rest are short functions.

Facts: the published reference of each function. Arguments are converted to what a function takes; `any` is
taken as it is.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple, get_args

from vedette.hub.kql.calls import Special, constant
from vedette.hub.kql.dialect import Dialect, Sql
from vedette.hub.kql.times import DAY, TIMES
from vedette.hub.kql.tree import Call, Kind, KqlError
from vedette.hub.kql.values import NUMBERS, Value, common, text, to

COMMA = ", ',', "
MATCHES = Sql("regexp_matches({0}, {1})", "rlike({0}, {1})")
LIST = Sql("json_extract_string(TRY_CAST({0} AS JSON), '$[*]')", "from_json({0}, 'array<string>')")
QUOTED = Sql(
    "CAST(to_json({0}) AS VARCHAR)", "substr(to_json(array({0})), 2, length(to_json(array({0}))) - 2)"
)


class Plain(NamedTuple):
    """A function that is a template: what it takes, what it makes."""

    takes: tuple[str, ...]
    kind: Kind
    sql: Sql


def _f(signature: str, duckdb: str, spark: str = "") -> Plain:
    takes, kind = (part.split() for part in signature.split("->"))
    [made] = kind
    assert made in get_args(Kind)
    return Plain(tuple(takes), made, Sql(duckdb, spark))  # type: ignore[arg-type]  # just asserted


def _math(*names: str) -> dict[str, tuple[Plain, ...]]:
    return {name: (_f("real -> real", f"{name}({{0}})"),) for name in names}


PLAIN: dict[str, tuple[Plain, ...]] = {
    # texts
    "tolower": (_f("string -> string", "lower({0})"),),
    "toupper": (_f("string -> string", "upper({0})"),),
    "strlen": (_f("string -> long", "CAST(length({0}) AS BIGINT)"),),
    "reverse": (_f("string -> string", "reverse({0})"),),
    "substring": (
        _f("string long -> string", "substr({0}, CAST({1} + 1 AS INTEGER))"),
        _f(
            "string long long -> string",
            "substr({0}, CAST({1} + 1 AS INTEGER), CAST({2} AS INTEGER))",
        ),
    ),
    "indexof": (_f("string string -> long", "CAST(instr({0}, {1}) - 1 AS BIGINT)"),),
    "replace_string": (_f("string string string -> string", "replace({0}, {1}, {2})"),),
    "countof": (
        _f(
            "string string -> long",
            "CAST((length({0}) - length(replace({0}, {1}, ''))) / length({1}) AS BIGINT)",
        ),
    ),
    "url_decode": (_f("string -> string", "url_decode({0})"),),
    "url_encode": (_f("string -> string", "url_encode({0})"),),
    "base64_encode_tostring": (_f("string -> string", "to_base64(encode({0}))", "base64({0})"),),
    "base64_decode_tostring": (
        _f("string -> string", "decode(from_base64({0}))", "CAST(unbase64({0}) AS STRING)"),
    ),
    "hash_sha256": (_f("string -> string", "sha256({0})", "sha2({0}, 256)"),),
    "hash_md5": (_f("string -> string", "md5({0})"),),
    # emptiness
    "isempty": (_f("string -> bool", "({0} = '')"),),
    "isnotempty": (_f("string -> bool", "({0} <> '')"),),
    "notempty": (_f("string -> bool", "({0} <> '')"),),
    "isnull": (_f("any -> bool", "({0} IS NULL)"),),
    "isnotnull": (_f("any -> bool", "({0} IS NOT NULL)"),),
    "notnull": (_f("any -> bool", "({0} IS NOT NULL)"),),
    "not": (_f("bool -> bool", "(NOT {0})"),),
    # numbers
    **_math(
        "sqrt", "exp", "sin", "cos", "tan", "asin", "acos", "atan", "log10", "log2", "degrees", "radians"
    ),
    "log": (_f("real -> real", "ln({0})"),),
    "pow": (_f("real real -> real", "pow({0}, {1})"),),
    "ceiling": (_f("real -> real", "CAST(ceil({0}) AS DOUBLE)"),),
    "round": (
        _f("real -> real", "round({0})"),
        _f("real long -> real", "round({0}, CAST({1} AS INTEGER))"),
    ),
    "pi": (_f("-> real", "pi()"),),
    "isnan": (_f("real -> bool", "isnan({0})"),),
    "binary_and": (_f("long long -> long", "({0} & {1})"),),
    "binary_or": (_f("long long -> long", "({0} | {1})"),),
    "tohex": (_f("long -> string", "lower(to_hex({0}))", "lower(hex({0}))"),),
    # times
    "hourofday": (_f("datetime -> long", "CAST(hour({0}) AS BIGINT)"),),
    "dayofmonth": (_f("datetime -> long", "CAST(dayofmonth({0}) AS BIGINT)"),),
    "dayofyear": (_f("datetime -> long", "CAST(dayofyear({0}) AS BIGINT)"),),
    "week_of_year": (_f("datetime -> long", "CAST(weekofyear({0}) AS BIGINT)"),),
    "getmonth": (_f("datetime -> long", "CAST(month({0}) AS BIGINT)"),),
    "monthofyear": (_f("datetime -> long", "CAST(month({0}) AS BIGINT)"),),
    "getyear": (_f("datetime -> long", "CAST(year({0}) AS BIGINT)"),),
    "dayofweek": (
        _f(
            "datetime -> timespan",
            f"CAST(dayofweek({{0}}) AS BIGINT) * {DAY}",
            f"CAST(dayofweek({{0}}) - 1 AS BIGINT) * {DAY}",
        ),
    ),
    # dynamic values
    "parse_json": (_f("dynamic -> dynamic", "{0}"),),
    "todynamic": (_f("dynamic -> dynamic", "{0}"),),
    "bag_keys": (
        _f(
            "dynamic -> dynamic",
            "CAST(to_json(json_keys(TRY_CAST({0} AS JSON))) AS VARCHAR)",
            "to_json(json_object_keys({0}))",
        ),
    ),
    "array_length": (
        _f(
            "dynamic -> long",
            "CAST(CASE json_type(TRY_CAST({0} AS JSON)) WHEN 'ARRAY' "
            "THEN json_array_length(TRY_CAST({0} AS JSON)) END AS BIGINT)",
            "CAST(json_array_length({0}) AS BIGINT)",
        ),
    ),
    "set_has_element": (
        _f(
            "dynamic string -> bool",
            f"coalesce(list_contains({LIST.duckdb}, {{1}}), FALSE)",
            f"coalesce(array_contains({LIST.spark}, {{1}}), FALSE)",
        ),
    ),
    "array_index_of": (
        _f(
            "dynamic string -> long",
            f"CAST(coalesce(list_position({LIST.duckdb}, {{1}}), 0) - 1 AS BIGINT)",
            f"CAST(coalesce(array_position({LIST.spark}, {{1}}), 0) - 1 AS BIGINT)",
        ),
    ),
    "strcat_array": (
        _f(
            "dynamic string -> string",
            f"coalesce(array_to_string({LIST.duckdb}, {{1}}), '')",
            f"coalesce(array_join({LIST.spark}, {{1}}), '')",
        ),
    ),
    # addresses
    "ipv4_is_private": (
        _f(
            "string -> bool",
            "regexp_matches({0}, '^(10[.]|192[.]168[.]|172[.](1[6-9]|2[0-9]|3[01])[.])')",
            "rlike({0}, '^(10[.]|192[.]168[.]|172[.](1[6-9]|2[0-9]|3[01])[.])')",
        ),
    ),
}
"""Name → its forms, which differ in how many arguments they take."""

CONVERSIONS: dict[str, Kind] = {
    "tostring": "string",
    "toint": "long",
    "tolong": "long",
    "todouble": "real",
    "toreal": "real",
    "todecimal": "real",
    "tobool": "bool",
    "toboolean": "bool",
    "todatetime": "datetime",
    "totimespan": "timespan",
    "toguid": "string",
}


def plain(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    """A function that is a template. Raises KqlError if the number of arguments is wrong."""
    forms = PLAIN[call.name]
    form = next((form for form in forms if len(form.takes) == len(values)), None)
    if form is None:
        wanted = " or ".join(str(len(form.takes)) for form in forms)
        raise KqlError(f"{call.name}() takes {wanted} arguments, not {len(values)}", call.at)
    converted = [
        value.sql if takes == "any" else to(dialect, value, _kind(takes), call.at).sql
        for takes, value in zip(form.takes, values, strict=True)
    ]
    return Value(dialect.write(form.sql, *converted), form.kind)


def _kind(name: str) -> Kind:
    assert name in get_args(Kind)
    return name  # type: ignore[return-value]  # just asserted


# -- functions with rules of their own


def _choice(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    """`iff(condition, then, else)`, `case(condition, then, …, else)`."""
    if len(values) < 3 or len(values) % 2 == 0:
        raise KqlError(f"{call.name}() takes pairs of a condition and a value, then a value", call.at)
    results = [*values[1::2], values[-1]]
    kind = common(results, call.at)
    shown = [to(dialect, value, kind, call.at).sql for value in results]
    conditions = [to(dialect, value, "bool", call.at).sql for value in values[:-1:2]]
    whens = " ".join(f"WHEN {when} THEN {then}" for when, then in zip(conditions, shown[:-1], strict=True))
    return Value(f"CASE {whens} ELSE {shown[-1]} END", kind)


def _of_all(function: str) -> Special:
    def write(dialect: Dialect, call: Call, values: list[Value]) -> Value:
        kind = common(values, call.at)
        return Value(
            f"{function}({', '.join(to(dialect, value, kind, call.at).sql for value in values)})", kind
        )

    return write


def _coalesce(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    """The first that is not null; of texts, that is not empty."""
    kind = common(values, call.at)
    items = [to(dialect, value, kind, call.at).sql for value in values]
    if kind == "string":
        items = [*(f"nullif({item}, '')" for item in items), "''"]
    return Value(f"coalesce({', '.join(items)})", kind)


def _strcat(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    return Value(
        f"concat({', '.join(to(dialect, value, 'string', call.at).sql for value in values)})", "string"
    )


def _strcat_delim(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    texts = [to(dialect, value, "string", call.at).sql for value in values]
    return Value(f"concat_ws({', '.join(texts)})", "string")


def _split(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    """A list of texts. On Spark the separator is a regular expression."""
    separator = constant(call, 1)
    escaped = dialect.text(re.escape(str(separator)))
    value = to(dialect, values[0], "string", call.at).sql
    write = Sql("CAST(to_json(str_split({0}, {1})) AS VARCHAR)", "to_json(split({0}, {2}))")
    return Value(dialect.write(write, value, dialect.text(str(separator)), escaped), "dynamic")


def _extract(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    """`extract(regex, group, text[, typeof(kind)])`."""
    pattern, group = dialect.text(str(constant(call, 0))), int(str(constant(call, 1)))
    found = f"regexp_extract({to(dialect, values[2], 'string', call.at).sql}, {pattern}, {group})"
    return _typed(dialect, call, Value(found, "string"))


def _typed(dialect: Dialect, call: Call, value: Value) -> Value:
    return to(dialect, value, _kind(str(constant(call, 3))), call.at) if len(call.arguments) > 3 else value


def _extract_json(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    """`extract_json(path, text[, typeof(kind)])`."""
    found = dialect.write(
        MEMBER, to(dialect, values[1], "dynamic", call.at).sql, dialect.text(str(constant(call, 0)))
    )
    kind = _kind(str(constant(call, 2))) if len(values) > 2 else "string"
    return to(dialect, Value(found, "dynamic"), kind, call.at)


MEMBER = Sql("json_extract_string(TRY_CAST({0} AS JSON), {1})", "get_json_object({0}, {1})")


def _replace_regex(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    value = to(dialect, values[0], "string", call.at).sql
    pattern, replacement = str(constant(call, 1)), dialect.replacement(str(constant(call, 2)))
    sql = Sql("regexp_replace({0}, {1}, {2}, 'g')", "regexp_replace({0}, {1}, {2})")
    return Value(dialect.write(sql, value, dialect.text(pattern), dialect.text(replacement)), "string")


def _trim(pattern: str) -> Special:
    """`trim(regex, text)` and its halves."""

    def write(dialect: Dialect, call: Call, values: list[Value]) -> Value:
        regex = pattern.replace("R", f"(?:{constant(call, 0)})")
        value = to(dialect, values[1], "string", call.at).sql
        sql = Sql("regexp_replace({0}, {1}, '', 'g')", "regexp_replace({0}, {1}, '')")
        return Value(dialect.write(sql, value, dialect.text(regex)), "string")

    return write


def _in_range(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    """`ipv4_is_in_range(address, "network/bits")`."""
    try:
        network = ipaddress.IPv4Network(str(constant(call, 1)), strict=False)
    except ValueError as error:
        raise KqlError(str(error), call.at) from None
    address = to(dialect, values[0], "string", call.at).sql
    parts = [f"TRY_CAST(split_part({address}, '.', {i}) AS BIGINT) * {256 ** (4 - i)}" for i in range(1, 5)]
    number = " + ".join(parts)
    low, high = int(network.network_address), int(network.broadcast_address)
    return Value(f"coalesce({number} BETWEEN {low} AND {high}, FALSE)", "bool")


def json_of(dialect: Dialect, value: Value) -> str:
    """A value as JSON; null is null."""
    if value.kind in ("long", "real"):
        return text(dialect, value)
    if value.kind == "bool":
        return f"lower({text(dialect, value)})"
    quoted = dialect.write(QUOTED, text(dialect, value))
    if value.kind != "dynamic":
        return quoted
    bare = dialect.write(
        MATCHES, value.sql, dialect.text(r"^\s*(?:[\[{]|-?\d+(?:\.\d+)?$|true$|false$|null$)")
    )
    return f"CASE WHEN {bare} THEN {value.sql} ELSE {quoted} END"


def _pack_array(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    items = COMMA.join(f"coalesce({json_of(dialect, value)}, 'null')" for value in values)
    return Value(f"concat('[', {items}, ']')" if items else "'[]'", "dynamic")


def _bag_pack(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    if len(values) % 2:
        raise KqlError(f"{call.name}() takes pairs of a name and a value", call.at)
    pairs = [
        f"{json_of(dialect, to(dialect, key, 'string', call.at))}, ':', "
        f"coalesce({json_of(dialect, value)}, 'null')"
        for key, value in zip(values[::2], values[1::2], strict=True)
    ]
    return Value(f"concat('{{', {COMMA.join(pairs)}, '}}')" if pairs else "'{}'", "dynamic")


def _abs(dialect: Dialect, call: Call, values: list[Value]) -> Value:
    [value] = values
    kind = value.kind if value.kind in NUMBERS | {"timespan"} else "real"
    return Value(f"abs({to(dialect, value, kind, call.at).sql})", kind)


SPECIAL: dict[str, Special] = {
    **TIMES,
    "iff": _choice,
    "iif": _choice,
    "case": _choice,
    "coalesce": _coalesce,
    "min_of": _of_all("least"),
    "max_of": _of_all("greatest"),
    "strcat": _strcat,
    "strcat_delim": _strcat_delim,
    "split": _split,
    "abs": _abs,
    "extract": _extract,
    "extract_json": _extract_json,
    "extractjson": _extract_json,
    "replace_regex": _replace_regex,
    "trim": _trim("^R+|R+$"),
    "trim_start": _trim("^R+"),
    "trim_end": _trim("R+$"),
    "ipv4_is_in_range": _in_range,
    "pack_array": _pack_array,
    "pack": _bag_pack,
    "bag_pack": _bag_pack,
}
"""Name → how it is written."""
