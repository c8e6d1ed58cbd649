"""KQL over the lake's tables: the types of their columns, and errors that say where in the text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from vedette.hub.kql import Dialect, Kind, KqlError, Translation
from vedette.hub.kql import translate as to_sql
from vedette.hub.lake.errors import QueryError
from vedette.hub.lake.views import columns

_KINDS: Mapping[str, Kind] = {
    "VARCHAR": "string",
    "BLOB": "string",
    "BOOLEAN": "bool",
    "BIGINT": "long",
    "DOUBLE": "real",
    "TIMESTAMP": "datetime",
    "DATE": "datetime",
    "JSON": "dynamic",
}
"""SQL type → KQL's."""


@cache
def tables() -> Mapping[str, Mapping[str, Kind]]:
    """What can be asked of: table → column → type."""
    return {
        table: {name: _KINDS[kind] for name, kind in declared.items()}
        for table, declared in columns().items()
    }


def translate(text: str, dialect: Dialect) -> Translation:
    """SQL for a KQL query over the lake's tables. Raises QueryError."""
    try:
        return to_sql(text, tables(), dialect)
    except KqlError as error:
        line, column = place(text, error.at)
        raise QueryError(str(error), line=line, column=column) from None
    except RecursionError:
        raise QueryError("nested too deeply") from None


def place(text: str, at: int) -> tuple[int, int]:
    """Line and column, from 1, of an index into a text."""
    before = text[:at]
    return before.count("\n") + 1, at - before.rfind("\n")
