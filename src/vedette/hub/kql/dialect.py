"""What engines write differently in SQL: DuckDB, and Spark (which Sail speaks, too)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from vedette.hub.kql.tree import Kind


class Sql(NamedTuple):
    """A template with places {0}, {1}, …; spark: empty where both engines write the same."""

    duckdb: str
    spark: str = ""


class Dialect(Protocol):
    """How an engine writes things. types: what it calls them; a dynamic is a text, a timespan a number."""

    types: Mapping[Kind, str]

    def write(self, sql: Sql, *values: str) -> str:
        """A template, filled in."""

    def name(self, name: str) -> str:
        """A name, quoted."""

    def text(self, text: str) -> str:
        """A text as a literal."""

    def stored(self, name: str, kind: Kind) -> str:
        """A column of a table, as values are here."""

    def shown(self, value: str, kind: Kind) -> str:
        """A value as it leaves the engine: a timespan as the engine's own, if it has one."""

    def replacement(self, text: str) -> str:
        r"""The replacement of a regular expression, in which KQL writes groups as \1."""

    def time_format(self, parts: list[str]) -> str:
        """The format of a time, from parts such as `yyyy`, `MM`, `-`. Raises KeyError: not supported."""


_STRFTIME = {
    "yyyy": "%Y",
    "yy": "%y",
    "MM": "%m",
    "M": "%-m",
    "dd": "%d",
    "d": "%-d",
    "HH": "%H",
    "H": "%-H",
    "hh": "%I",
    "h": "%-I",
    "mm": "%M",
    "m": "%-M",
    "ss": "%S",
    "s": "%-S",
    "tt": "%p",
    "fff": "%g",
    "ffffff": "%f",
}
"""Parts of KQL's time formats, as strftime has them."""


class DuckDB:
    """DuckDB."""

    types: Mapping[Kind, str] = {
        "bool": "BOOLEAN",
        "long": "BIGINT",
        "real": "DOUBLE",
        "string": "VARCHAR",
        "datetime": "TIMESTAMP",
        "timespan": "BIGINT",
        "dynamic": "VARCHAR",
    }

    def write(self, sql: Sql, *values: str) -> str:
        """A template, filled in."""
        return sql.duckdb.format(*values)

    def name(self, name: str) -> str:
        """A name, quoted."""
        return '"' + name.replace('"', '""') + '"'

    def text(self, text: str) -> str:
        """A text as a literal."""
        return "'" + text.replace("'", "''") + "'"

    def stored(self, name: str, kind: Kind) -> str:
        """A dynamic column is JSON there."""
        return f"json_extract_string({self.name(name)}, '$')" if kind == "dynamic" else self.name(name)

    def shown(self, value: str, kind: Kind) -> str:
        """A timespan as an interval."""
        return f"to_microseconds({value})" if kind == "timespan" else value

    def replacement(self, text: str) -> str:
        r"""Groups are \1."""
        return text

    def time_format(self, parts: list[str]) -> str:
        """For strftime."""
        return "".join(_STRFTIME[part] if part.isalpha() else part.replace("%", "%%") for part in parts)


class Spark:
    """Spark SQL. Sessions have their time zone at UTC."""

    types: Mapping[Kind, str] = {
        "bool": "BOOLEAN",
        "long": "BIGINT",
        "real": "DOUBLE",
        "string": "STRING",
        "datetime": "TIMESTAMP",
        "timespan": "BIGINT",
        "dynamic": "STRING",
    }

    def write(self, sql: Sql, *values: str) -> str:
        """A template, filled in."""
        return (sql.spark or sql.duckdb).format(*values)

    def name(self, name: str) -> str:
        """A name, quoted."""
        return "`" + name.replace("`", "``") + "`"

    def text(self, text: str) -> str:
        """A text as a literal, in which a backslash escapes."""
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"

    def stored(self, name: str, kind: Kind) -> str:
        """A dynamic column is a text there."""
        return self.name(name)

    def shown(self, value: str, kind: Kind) -> str:
        """Values leave as they are; the session's owner knows their types."""
        return value

    def replacement(self, text: str) -> str:
        """Groups are $1."""
        return re.sub(r"\\(\d)", r"$\1", text.replace("$", "\\$"))

    def time_format(self, parts: list[str]) -> str:
        """For date_format."""
        return "".join(self._part(part) for part in parts)

    def _part(self, part: str) -> str:
        if not part.isalpha():
            return part.replace("'", "''")
        if part not in _STRFTIME:
            raise KeyError(part)
        return "a" if part == "tt" else part.replace("f", "S")
